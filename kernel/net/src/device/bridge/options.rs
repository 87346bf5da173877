//! A bridge's and its ports' numbers as attributes: IFLA_INFO_DATA, IFLA_INFO_SLAVE_DATA, IFLA_PROTINFO (`br_netlink.c`'s words).
//!
//! What this bridge has not (a spanning tree, multicast snooping, counters of VLANs) is told to be off, and asking for it is refused.
//! Locks: rtnl for changes.

use abi::errno::{Errno, Result};
use abi::link::*;
use alloc::sync::Arc;
use linnet_lib::netlink::{Attribute, Attributes, Builder, Failure, Outcome, Policies, Policy, Strictness};
use zerocopy::{FromBytes, IntoBytes};

use super::table::{EXTERNAL, STATIC, View};
use super::{Bridge, Port, Setting, vlans};
use crate::device::{NetDevice, NewLink, Rtnl};
use crate::netlink::route::link::Parsed;

/// A priority that is not the bridge's.
const COST_MAX: u32 = 65535;
/// What of the addresses that bridges keep to themselves never goes through one: spanning tree's, pause's and the group's.
pub(super) const RESTRICTED: u32 = 0x0007;

static BRIDGE: Policies = Policies {
    max: IFLA_BR_FDB_MAX_LEARNED,
    rules: &[
        (IFLA_BR_FORWARD_DELAY, Policy::U32),
        (IFLA_BR_HELLO_TIME, Policy::U32),
        (IFLA_BR_MAX_AGE, Policy::U32),
        (IFLA_BR_AGEING_TIME, Policy::U32),
        (IFLA_BR_STP_STATE, Policy::U32),
        (IFLA_BR_PRIORITY, Policy::U16),
        (IFLA_BR_VLAN_FILTERING, Policy::U8),
        (IFLA_BR_VLAN_PROTOCOL, Policy::U16),
        (IFLA_BR_GROUP_FWD_MASK, Policy::U16),
        (IFLA_BR_GROUP_ADDR, Policy::Binary(6)),
        (IFLA_BR_MCAST_SNOOPING, Policy::U8),
        (IFLA_BR_VLAN_DEFAULT_PVID, Policy::U16),
        (IFLA_BR_VLAN_STATS_ENABLED, Policy::U8),
        (IFLA_BR_VLAN_STATS_PER_PORT, Policy::U8),
        (IFLA_BR_MULTI_BOOLOPT, Policy::Exact(8)),
        (IFLA_BR_FDB_N_LEARNED, Policy::Reject("Attribute failed policy validation")),
        (IFLA_BR_FDB_MAX_LEARNED, Policy::U32),
    ],
};

static PORT: Policies = Policies {
    max: IFLA_BRPORT_BACKUP_NHID,
    rules: &[
        (IFLA_BRPORT_STATE, Policy::U8),
        (IFLA_BRPORT_PRIORITY, Policy::U16),
        (IFLA_BRPORT_COST, Policy::U32),
        (IFLA_BRPORT_MODE, Policy::U8),
        (IFLA_BRPORT_GUARD, Policy::U8),
        (IFLA_BRPORT_PROTECT, Policy::U8),
        (IFLA_BRPORT_FAST_LEAVE, Policy::U8),
        (IFLA_BRPORT_LEARNING, Policy::U8),
        (IFLA_BRPORT_UNICAST_FLOOD, Policy::U8),
        (IFLA_BRPORT_PROXYARP, Policy::U8),
        (IFLA_BRPORT_PROXYARP_WIFI, Policy::U8),
        (IFLA_BRPORT_MCAST_FLOOD, Policy::U8),
        (IFLA_BRPORT_MCAST_TO_UCAST, Policy::U8),
        (IFLA_BRPORT_BCAST_FLOOD, Policy::U8),
        (IFLA_BRPORT_GROUP_FWD_MASK, Policy::U16),
        (IFLA_BRPORT_NEIGH_SUPPRESS, Policy::U8),
        (IFLA_BRPORT_ISOLATED, Policy::U8),
        (IFLA_BRPORT_LOCKED, Policy::U8),
        (IFLA_BRPORT_MAB, Policy::U8),
    ],
};

type BridgeData<'a> = Attributes<'a, { IFLA_BR_FDB_MAX_LEARNED as usize + 1 }>;
type PortData<'a> = Attributes<'a, { IFLA_BRPORT_BACKUP_NHID as usize + 1 }>;

/// What is on or off at a port and can be turned.
const TURNED: [u16; 7] = [
    IFLA_BRPORT_MODE,
    IFLA_BRPORT_LEARNING,
    IFLA_BRPORT_UNICAST_FLOOD,
    IFLA_BRPORT_MCAST_FLOOD,
    IFLA_BRPORT_BCAST_FLOOD,
    IFLA_BRPORT_ISOLATED,
    // Without a spanning tree there are no messages to guard against, but the flag is kept.
    IFLA_BRPORT_GUARD,
];

/// What a port cannot do here: asking for it is refused.
const MISSING: [u16; 8] = [
    IFLA_BRPORT_PROTECT,
    IFLA_BRPORT_FAST_LEAVE,
    IFLA_BRPORT_PROXYARP,
    IFLA_BRPORT_PROXYARP_WIFI,
    IFLA_BRPORT_MCAST_TO_UCAST,
    IFLA_BRPORT_NEIGH_SUPPRESS,
    IFLA_BRPORT_LOCKED,
    IFLA_BRPORT_MAB,
];

/// IFLA_INFO_DATA of a bridge.
pub(super) fn fill(device: &NetDevice, out: &mut Builder) -> Result<()> {
    let Some(bridge) = device.operations_as::<Bridge>() else { return Ok(()) };
    for timer in [IFLA_BR_HELLO_TIMER, IFLA_BR_TCN_TIMER, IFLA_BR_TOPOLOGY_CHANGE_TIMER] {
        out.u64(timer, 0)?;
    }
    out.u64(IFLA_BR_GC_TIMER, bridge.until_collection())?;
    out.u32(IFLA_BR_FORWARD_DELAY, bridge.setting(Setting::ForwardDelay))?;
    out.u32(IFLA_BR_HELLO_TIME, bridge.setting(Setting::HelloTime))?;
    out.u32(IFLA_BR_MAX_AGE, bridge.setting(Setting::MostAge))?;
    out.u32(IFLA_BR_AGEING_TIME, bridge.setting(Setting::Ageing))?;
    out.u32(IFLA_BR_STP_STATE, 0)?;
    out.u16(IFLA_BR_PRIORITY, bridge.setting(Setting::Priority) as u16)?;
    out.u8(IFLA_BR_VLAN_FILTERING, u8::from(bridge.filters()))?;
    out.u16(IFLA_BR_GROUP_FWD_MASK, bridge.setting(Setting::GroupForwardMask) as u16)?;
    let identifier = bridge.identifier(device);
    out.attribute(IFLA_BR_BRIDGE_ID, &identifier)?;
    out.attribute(IFLA_BR_ROOT_ID, &identifier)?;
    out.u16(IFLA_BR_ROOT_PORT, 0)?;
    out.u32(IFLA_BR_ROOT_PATH_COST, 0)?;
    out.u8(IFLA_BR_TOPOLOGY_CHANGE, 0)?;
    out.u8(IFLA_BR_TOPOLOGY_CHANGE_DETECTED, 0)?;
    let group = *bridge.group_address.lock();
    out.attribute(IFLA_BR_GROUP_ADDR, &group)?;
    let switches = MaskedFlags { flags: bridge.setting(Setting::NoLinkLocalLearn), mask: 1 };
    out.attribute(IFLA_BR_MULTI_BOOLOPT, switches.as_bytes())?;
    let learned = bridge.table.read().learned() as u32;
    out.u32(IFLA_BR_FDB_N_LEARNED, learned)?;
    out.u32(IFLA_BR_FDB_MAX_LEARNED, bridge.setting(Setting::MostLearned))?;
    out.attribute(IFLA_BR_VLAN_PROTOCOL, &(bridge.setting(Setting::VlanProtocol) as u16).to_be_bytes())?;
    out.u16(IFLA_BR_VLAN_DEFAULT_PVID, bridge.setting(Setting::DefaultVlan) as u16)?;
    out.u8(IFLA_BR_VLAN_STATS_ENABLED, 0)?;
    out.u8(IFLA_BR_VLAN_STATS_PER_PORT, 0)?;
    out.u8(IFLA_BR_MCAST_SNOOPING, 0)
}

/// IFLA_INFO_SLAVE_DATA of a bridge's port.
pub(super) fn fill_port(master: &NetDevice, device: &NetDevice, out: &mut Builder) -> Result<()> {
    let port = master.operations_as::<Bridge>().and_then(|bridge| bridge.port_of(device));
    port.map_or(Ok(()), |port| write_port(&port, out))
}

/// A port's attributes (`br_port_fill_attrs`).
pub(super) fn write_port(port: &Port, out: &mut Builder) -> Result<()> {
    let flags = |out: &mut Builder, list: &[u16]| {
        list.iter().try_for_each(|flag| out.u8(*flag, u8::from(port.has(*flag))))
    };
    out.u8(IFLA_BRPORT_STATE, port.state())?;
    out.u16(IFLA_BRPORT_PRIORITY, port.priority() as u16)?;
    out.u32(IFLA_BRPORT_COST, port.cost())?;
    flags(
        out,
        &[
            IFLA_BRPORT_MODE,
            IFLA_BRPORT_GUARD,
            IFLA_BRPORT_PROTECT,
            IFLA_BRPORT_FAST_LEAVE,
            IFLA_BRPORT_MCAST_TO_UCAST,
            IFLA_BRPORT_LEARNING,
            IFLA_BRPORT_UNICAST_FLOOD,
            IFLA_BRPORT_MCAST_FLOOD,
            IFLA_BRPORT_BCAST_FLOOD,
            IFLA_BRPORT_PROXYARP,
            IFLA_BRPORT_PROXYARP_WIFI,
        ],
    )?;
    let bridge = port.bridge_operations().map(|bridge| bridge.identifier(&port.bridge)).unwrap_or_default();
    out.attribute(IFLA_BRPORT_ROOT_ID, &bridge)?;
    out.attribute(IFLA_BRPORT_BRIDGE_ID, &bridge)?;
    out.u16(IFLA_BRPORT_DESIGNATED_PORT, port.identifier())?;
    out.u16(IFLA_BRPORT_DESIGNATED_COST, 0)?;
    out.u16(IFLA_BRPORT_ID, port.identifier())?;
    out.u16(IFLA_BRPORT_NO, port.number)?;
    flags(out, &[IFLA_BRPORT_TOPOLOGY_CHANGE_ACK, IFLA_BRPORT_CONFIG_PENDING, IFLA_BRPORT_VLAN_TUNNEL])?;
    out.u16(IFLA_BRPORT_GROUP_FWD_MASK, port.group_forward_mask() as u16)?;
    flags(
        out,
        &[
            IFLA_BRPORT_NEIGH_SUPPRESS,
            IFLA_BRPORT_MRP_RING_OPEN,
            IFLA_BRPORT_MRP_IN_OPEN,
            IFLA_BRPORT_ISOLATED,
            IFLA_BRPORT_LOCKED,
            IFLA_BRPORT_MAB,
            IFLA_BRPORT_NEIGH_VLAN_SUPPRESS,
        ],
    )?;
    for timer in [IFLA_BRPORT_MESSAGE_AGE_TIMER, IFLA_BRPORT_FORWARD_DELAY_TIMER, IFLA_BRPORT_HOLD_TIMER] {
        out.u64(timer, 0)?;
    }
    Ok(())
}

/// What is demanded of IFLA_INFO_DATA and of the link's own attributes before anything is made.
pub(super) fn validate(attributes: &Parsed<'_>, data: Option<Attribute<'_>>) -> Outcome<()> {
    super::super::validate_ethernet(attributes)?;
    let Some(data) = data else { return Ok(()) };
    let data = BridgeData::parse(data.nested(), &BRIDGE, Strictness::Liberal)?;
    if let Some(protocol) = data.get(IFLA_BR_VLAN_PROTOCOL) {
        vlans::check_protocol(protocol_in(&protocol))?;
    }
    if data.get(IFLA_BR_VLAN_DEFAULT_PVID).is_some_and(|number| number.u16() >= vlans::NUMBER_MAX) {
        return Err(Errno::EINVAL.into());
    }
    Ok(())
}

/// A protocol, which is told in network order.
fn protocol_in(attribute: &Attribute<'_>) -> u16 {
    u16::from_be_bytes(attribute.u16().to_ne_bytes())
}

/// What this bridge cannot do: groups of multicast, what netfilter sees, counters of VLANs. That it is off may be said.
fn check_missing(data: &BridgeData<'_>) -> Outcome<()> {
    let ranges = [
        IFLA_BR_MCAST_ROUTER..=IFLA_BR_NF_CALL_ARPTABLES,
        IFLA_BR_VLAN_STATS_ENABLED..=IFLA_BR_VLAN_STATS_PER_PORT,
    ];
    let asks = |one: &Attribute<'_>| {
        ranges.iter().any(|range| range.contains(&one.kind)) && one.value.iter().any(|byte| *byte != 0)
    };
    if data.iter().any(|one| asks(&one)) { Err(Errno::EOPNOTSUPP.into()) } else { Ok(()) }
}

/// A new bridge gets what was asked for.
pub(super) fn attach(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, new: &NewLink<'_>) -> Outcome<()> {
    if new.address.is_some()
        && let Some(bridge) = device.operations_as::<Bridge>()
    {
        bridge.evaluate_carrier(rtnl, device);
    }
    if let Some(bridge) = device.operations_as::<Bridge>() {
        bridge.join_default(device, None);
    }
    new.data.map_or(Ok(()), |data| change(rtnl, device, data))
}

/// Sets a number that lies within a range. `ERANGE`.
fn set_within(
    bridge: &Bridge,
    which: Setting,
    value: u32,
    range: core::ops::RangeInclusive<u32>,
) -> Result<()> {
    if !range.contains(&value) {
        return Err(Errno::ERANGE);
    }
    bridge.set(which, value);
    Ok(())
}

/// Changes a bridge (`br_changelink`). What came before something that fails stays.
pub(super) fn change(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, data: Attribute<'_>) -> Outcome<()> {
    rtnl.assert_covers(device);
    let Some(bridge) = device.operations_as::<Bridge>() else { return Err(Errno::EOPNOTSUPP.into()) };
    let data = BridgeData::parse(data.nested(), &BRIDGE, Strictness::Liberal)?;
    check_missing(&data)?;
    if let Some(delay) = data.get(IFLA_BR_FORWARD_DELAY) {
        // Its range binds a spanning tree only.
        bridge.set(Setting::ForwardDelay, delay.u32());
    }
    if let Some(time) = data.get(IFLA_BR_HELLO_TIME) {
        set_within(bridge, Setting::HelloTime, time.u32(), 100..=1000)?;
    }
    if let Some(age) = data.get(IFLA_BR_MAX_AGE) {
        set_within(bridge, Setting::MostAge, age.u32(), 600..=4000)?;
    }
    if let Some(age) = data.get(IFLA_BR_AGEING_TIME) {
        bridge.set(Setting::Ageing, age.u32());
        bridge.age_anew(device);
    }
    if data.get(IFLA_BR_STP_STATE).is_some_and(|state| state.u32() != 0) {
        return Err(Failure::new(Errno::EOPNOTSUPP, "Spanning tree is not supported"));
    }
    if let Some(priority) = data.get(IFLA_BR_PRIORITY) {
        bridge.set(Setting::Priority, priority.u16().into());
    }
    if let Some(filtering) = data.get(IFLA_BR_VLAN_FILTERING) {
        bridge.set(Setting::VlanFiltering, (filtering.u8() != 0).into());
    }
    if let Some(protocol) = data.get(IFLA_BR_VLAN_PROTOCOL) {
        bridge.set(Setting::VlanProtocol, protocol_in(&protocol).into());
    }
    if let Some(number) = data.get(IFLA_BR_VLAN_DEFAULT_PVID) {
        bridge.set_default_vlan(rtnl, device, number.u16())?;
    }
    if let Some(mask) = data.get(IFLA_BR_GROUP_FWD_MASK) {
        if u32::from(mask.u16()) & RESTRICTED != 0 {
            return Err(Errno::EINVAL.into());
        }
        bridge.set(Setting::GroupForwardMask, mask.u16().into());
    }
    change_rest(bridge, &data)
}

fn change_rest(bridge: &Bridge, data: &BridgeData<'_>) -> Outcome<()> {
    if let Some(group) = data.get(IFLA_BR_GROUP_ADDR) {
        let Ok(group) = <[u8; 6]>::try_from(group.value) else { return Err(Errno::EINVAL.into()) };
        let is_link_local = group[..5] == [0x01, 0x80, 0xc2, 0, 0] && group[5] & 0xf0 == 0;
        // Pause frames', port authentication's.
        if !is_link_local || (1..=3).contains(&group[5]) {
            return Err(Errno::EINVAL.into());
        }
        *bridge.group_address.lock() = group;
    }
    if data.has(IFLA_BR_FDB_FLUSH) {
        flush(bridge);
    }
    if let Some(switches) = data.get(IFLA_BR_MULTI_BOOLOPT) {
        let switches = MaskedFlags::read_from_bytes(switches.value).map_err(|_| Errno::EINVAL)?;
        let unknown = switches.mask & !1;
        if unknown != 0 {
            return Err(Failure::new(Errno::EOPNOTSUPP, "Unsupported bridge option"));
        }
        if switches.mask & 1 != 0 {
            bridge.set(Setting::NoLinkLocalLearn, switches.flags & 1);
        }
    }
    if let Some(most) = data.get(IFLA_BR_FDB_MAX_LEARNED) {
        bridge.set(Setting::MostLearned, most.u32());
    }
    Ok(())
}

/// Forgets what was learned at all ports.
pub(super) fn flush(bridge: &Bridge) {
    if let Some(ports) = bridge.ports.load_arc() {
        ports.iter().for_each(|port| bridge.forget(port, is_learned));
    }
}

/// Forgets what was learned at one port.
pub(super) fn flush_port(port: &Arc<Port>) {
    if let Some(bridge) = port.bridge_operations() {
        bridge.forget(port, is_learned);
    }
}

fn is_learned(view: &View) -> bool {
    view.flags & (STATIC | EXTERNAL) == 0
}

/// Changes the port that a device is (`br_port_slave_changelink`).
pub(super) fn change_port(
    rtnl: &Rtnl<'_>,
    master: &Arc<NetDevice>,
    device: &Arc<NetDevice>,
    data: Attribute<'_>,
) -> Outcome<()> {
    rtnl.assert_covers(master);
    let Some(bridge) = master.operations_as::<Bridge>() else { return Err(Errno::EOPNOTSUPP.into()) };
    let port = bridge.port_of(device).ok_or(Errno::EINVAL)?;
    let data = PortData::parse(data.nested(), &PORT, Strictness::Liberal)?;
    set_port(rtnl, bridge, &port, &data)
}

/// Sets a port's attributes (`br_setport`).
fn set_port(rtnl: &Rtnl<'_>, bridge: &Bridge, port: &Arc<Port>, data: &PortData<'_>) -> Outcome<()> {
    let is_on = |kind| data.get(kind).is_some_and(|value: Attribute<'_>| value.u8() != 0);
    if MISSING.iter().any(|kind| is_on(*kind)) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    for kind in TURNED {
        if let Some(value) = data.get(kind) {
            port.set(kind, value.u8() != 0);
        }
    }
    if let Some(cost) = data.get(IFLA_BRPORT_COST) {
        if !(1..=COST_MAX).contains(&cost.u32()) {
            return Err(Errno::ERANGE.into());
        }
        port.set_cost(cost.u32());
    }
    if let Some(priority) = data.get(IFLA_BRPORT_PRIORITY) {
        if priority.u16() > 63 {
            return Err(Errno::ERANGE.into());
        }
        port.set_priority(priority.u16().into());
    }
    if let Some(state) = data.get(IFLA_BRPORT_STATE) {
        bridge.set_state(rtnl, port, state.u8())?;
    }
    if data.has(IFLA_BRPORT_FLUSH) {
        bridge.forget(port, is_learned);
    }
    if let Some(mask) = data.get(IFLA_BRPORT_GROUP_FWD_MASK) {
        // Pause frames never go through.
        if u32::from(mask.u16()) & 0x0002 != 0 {
            return Err(Errno::EINVAL.into());
        }
        port.set_group_forward_mask(mask.u16().into());
    }
    Ok(())
}

/// Sets a port by IFLA_PROTINFO (`br_setlink`).
pub(crate) fn set_by_protinfo(
    rtnl: &Rtnl<'_>,
    bridge: &Bridge,
    port: &Arc<Port>,
    nest: Attribute<'_>,
) -> Outcome<()> {
    if !nest.is_nested {
        // The old form: the state alone.
        let state = *nest.value.first().ok_or(Errno::EINVAL)?;
        return Ok(bridge.set_state(rtnl, port, state)?);
    }
    let data = PortData::parse(nest.nested(), &PORT, Strictness::Liberal)?;
    set_port(rtnl, bridge, port, &data)
}
