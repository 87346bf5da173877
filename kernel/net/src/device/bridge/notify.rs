//! Who hears of a bridge's ports (RTNLGRP_LINK) and entries (RTNLGRP_NEIGH), and how they are written as messages.
//!
//! Locks: none. [`entry_later`] is for who has preemption off; the rest for thread context.

use abi::errno::Result;
use abi::link as linux;
use abi::neighbour;
use abi::netlink::{NETLINK_ROUTE, NLA_F_NESTED};
use abi::rtnetlink::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linnet_lib::netlink::{Builder, Mark};
use zerocopy::IntoBytes;

use super::table::{EXTERNAL, LOCAL, STATIC, STICKY, View};
use super::{Bridge, Port, TICK_NS, Vlans, options};
use crate::device::NetDevice;
use crate::netlink::request::Reply;
use crate::netlink::{Announcement, Origin};

/// Room for the description of a port or an entry.
pub(crate) const ROOM: usize = 2048;
/// The same with all VLANs that there can be, each of which is different from the one before.
const PORT_ROOM: usize = ROOM + 4096 * 8;

/// How a message tells of VLANs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum VlanList {
    /// Not at all.
    None,
    /// Each.
    Each,
    /// Those that follow each other and are alike as a range.
    Ranges,
}

/// Writes a port, or a bridge as the port that it is for the machine, as a message of family AF_BRIDGE (`br_fill_ifinfo`).
pub(crate) fn write_port(
    bridge: &NetDevice,
    port: Option<&Port>,
    (kind, list): (u16, VlanList),
    out: &mut Builder,
    reply: &Reply,
) -> Result<()> {
    let device = port.map_or(bridge, |port| &port.device);
    let mark = out.begin(kind, reply.flags, reply.sequence, reply.port)?;
    let header = InterfaceMessage {
        ifi_family: linux::AF_BRIDGE,
        ifi_type: device.hardware_type(),
        ifi_index: device.index(),
        ifi_flags: device.flags(),
        ..InterfaceMessage::default()
    };
    out.fixed(header.as_bytes())?;
    out.text(IFLA_IFNAME, device.name().as_bytes())?;
    out.i32(IFLA_MASTER, bridge.index())?;
    out.u32(IFLA_MTU, device.mtu())?;
    out.u8(IFLA_OPERSTATE, device.operational_state())?;
    out.attribute(IFLA_ADDRESS, &device.address())?;
    if let Some(below) = device.peer() {
        out.i32(IFLA_LINK, below.index())?;
    }
    if let Some(port) = port.filter(|_| kind == RTM_NEWLINK) {
        let nest = out.nest(IFLA_PROTINFO | NLA_F_NESTED)?;
        options::write_port(port, out)?;
        out.end_nest(nest);
    }
    let own = bridge.operations_as::<Bridge>().map(|bridge| &bridge.vlans);
    if let Some(vlans) = port.map(|port| &port.vlans).or(own) {
        write_vlans(vlans, list, out)?;
    }
    out.end(mark);
    Ok(())
}

/// IFLA_AF_SPEC of a port: its VLANs.
fn write_vlans(vlans: &Vlans, list: VlanList, out: &mut Builder) -> Result<()> {
    if list == VlanList::None || vlans.next_from(0).is_none() {
        return Ok(());
    }
    let nest = out.nest(IFLA_AF_SPEC)?;
    let write = |out: &mut Builder, vid, flags| {
        out.attribute(linux::IFLA_BRIDGE_VLAN_INFO, linux::BridgeVlan { flags, vid }.as_bytes())
    };
    let mut next = 0;
    while let Some((first, last, flags)) = vlans.next_range(next) {
        next = last + 1;
        if list == VlanList::Each {
            (first..=last).try_for_each(|vid| write(out, vid, flags))?;
        } else if first == last {
            write(out, first, flags)?;
        } else {
            write(out, first, flags | linux::BRIDGE_VLAN_INFO_RANGE_BEGIN)?;
            write(out, last, flags | linux::BRIDGE_VLAN_INFO_RANGE_END)?;
        }
    }
    out.end_nest(nest);
    Ok(())
}

/// Writes some VLANs of one port as an entry of an RTM_NEWVLAN or RTM_DELVLAN (`br_vlan_fill_vids`).
pub(crate) fn write_vlan_entry(
    (first, last, flags): (u16, u16, u16),
    state: Option<u8>,
    out: &mut Builder,
) -> Result<()> {
    let nest = out.nest(linux::BRIDGE_VLANDB_ENTRY | NLA_F_NESTED)?;
    out.attribute(linux::BRIDGE_VLANDB_ENTRY_INFO, linux::BridgeVlan { flags, vid: first }.as_bytes())?;
    if last != first {
        out.u16(linux::BRIDGE_VLANDB_ENTRY_RANGE, last)?;
    }
    if let Some(state) = state {
        out.u8(linux::BRIDGE_VLANDB_ENTRY_STATE, state)?;
    }
    out.end_nest(nest);
    Ok(())
}

/// Begins a message about the VLANs of a device.
pub(crate) fn begin_vlans(device: &NetDevice, kind: u16, out: &mut Builder, reply: &Reply) -> Result<Mark> {
    let mark = out.begin(kind, reply.flags, reply.sequence, reply.port)?;
    let header = linux::BridgeVlanMessage {
        family: linux::AF_BRIDGE,
        ifindex: device.index() as u32,
        ..linux::BridgeVlanMessage::default()
    };
    out.fixed(header.as_bytes())?;
    Ok(mark)
}

/// Tells RTNLGRP_BRVLAN of VLANs of a port, or of the bridge itself, that are new or changed, or gone (RTM_DELVLAN).
pub(crate) fn vlans(device: &NetDevice, range: (u16, u16, u16), kind: u16) {
    let state = (kind == RTM_NEWVLAN).then_some(linux::BR_STATE_FORWARDING);
    tell(device, RTNLGRP_BRVLAN, |out, reply| {
        let mark = begin_vlans(device, kind, out, reply)?;
        write_vlan_entry(range, state, out)?;
        out.end(mark);
        Ok(())
    });
}

/// Writes an entry as a message (`fdb_fill_info`); `at`: the port's device, or the bridge's.
pub(crate) fn write_entry(
    (bridge_device, bridge): (&NetDevice, &Bridge),
    at: &NetDevice,
    view: &View,
    kind: u16,
    out: &mut Builder,
    reply: &Reply,
) -> Result<()> {
    let now = machine::time::now_ns();
    let since = |then: u64| (now.saturating_sub(then) / TICK_NS).min(u32::MAX.into()) as u32;
    let state = match view.flags {
        flags if flags & LOCAL != 0 => neighbour::NUD_PERMANENT,
        flags if flags & STATIC != 0 => neighbour::NUD_NOARP,
        _ if view.updated_ns.saturating_add(bridge.ageing_ns()) <= now => neighbour::NUD_STALE,
        _ => neighbour::NUD_REACHABLE,
    };
    let mut flags = if view.flags & EXTERNAL != 0 { neighbour::NTF_EXT_LEARNED } else { 0 };
    if view.flags & STICKY != 0 {
        flags |= neighbour::NTF_STICKY;
    }
    let mark = out.begin(kind, reply.flags, reply.sequence, reply.port)?;
    let header = neighbour::NeighbourMessage {
        ndm_family: linux::AF_BRIDGE,
        ndm_ifindex: at.index(),
        ndm_state: state,
        ndm_flags: flags,
        ..neighbour::NeighbourMessage::default()
    };
    out.fixed(header.as_bytes())?;
    out.attribute(neighbour::NDA_LLADDR, &view.key.address)?;
    out.i32(neighbour::NDA_MASTER, bridge_device.index())?;
    out.u32(neighbour::NDA_FLAGS_EXT, 0)?;
    let times = neighbour::NeighbourTimes {
        ndm_used: since(view.used_ns),
        ndm_updated: since(view.updated_ns),
        ..neighbour::NeighbourTimes::default()
    };
    out.attribute(neighbour::NDA_CACHEINFO, times.as_bytes())?;
    if view.key.vlan != 0 {
        out.u16(neighbour::NDA_VLAN, view.key.vlan)?;
    }
    out.end(mark);
    Ok(())
}

fn tell(device: &NetDevice, group: u32, write: impl FnOnce(&mut Builder, &Reply) -> Result<()>) {
    let namespace = device.namespace();
    if !namespace.netlink.has_listeners(NETLINK_ROUTE as u8, group) {
        return;
    }
    let mut out = Builder::new(PORT_ROOM);
    let reply = Reply { sequence: 0, port: 0, flags: 0 };
    // An empty message tells the listeners that they missed one.
    let bytes = write(&mut out, &reply).map_or_else(|_| Vec::new(), |()| out.finish());
    let announcement =
        Announcement { protocol: NETLINK_ROUTE as u8, group, bytes, origin: Origin::default() };
    announcement.send(&namespace);
}

/// Tells of a port that is new or changed (RTM_NEWLINK) or gone (RTM_DELLINK).
pub(crate) fn port(port: &Port, kind: u16) {
    port_of(&port.bridge, Some(port), kind);
}

/// The same of a port or of the bridge itself.
pub(crate) fn port_of(bridge: &NetDevice, port: Option<&Port>, kind: u16) {
    tell(bridge, RTNLGRP_LINK, |out, reply| write_port(bridge, port, (kind, VlanList::Ranges), out, reply));
}

/// Tells of an entry behind a port.
pub(super) fn entry(port: &Port, view: &View, kind: u16) {
    let Some(bridge) = port.bridge_operations() else { return };
    tell(&port.bridge, RTNLGRP_NEIGH, |out, reply| {
        write_entry((&port.bridge, bridge), &port.device, view, kind, out, reply)
    });
}

/// Tells of an entry wherever it is.
pub(crate) fn entry_of(device: &Arc<NetDevice>, bridge: &Bridge, view: &View, kind: u16) {
    match bridge.port_numbered(view.port) {
        Some(port) => entry(&port, view, kind),
        None => tell(device, RTNLGRP_NEIGH, |out, reply| {
            write_entry((device, bridge), device, view, kind, out, reply)
        }),
    }
}

/// Has a new entry told once that may be done: for the way of a frame.
pub(super) fn entry_later(port: &Arc<Port>, view: View) {
    if !port.bridge.namespace().netlink.has_listeners(NETLINK_ROUTE as u8, RTNLGRP_NEIGH) {
        return;
    }
    let port = port.clone();
    let _ = sched::work::queue(move || entry(&port, &view, RTM_NEWNEIGH));
}
