//! Which VLANs a bridge and its ports are in, as bridge(8) asks: IFLA_AF_SPEC in RTM_SETLINK and RTM_DELLINK of family AF_BRIDGE, and
//! RTM_{NEW,DEL,GET}VLAN.
//!
//! Locks: rtnl for changes; a listing goes on from a device and a VLAN.

use abi::errno::{Errno, Result};
use abi::link::*;
use abi::rtnetlink::*;
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::netlink::{Attribute, Attributes, Builder, Failure, Outcome, Policies, Policy, Strictness};
use zerocopy::FromBytes;

use super::Handler;
use super::bridge::port_of;
use crate::device::bridge::vlans::{NUMBER_MAX, Vlans};
use crate::device::bridge::{Bridge, Port, notify};
use crate::device::{NetDevice, rtnl};
use crate::namespace::NetNamespace;
use crate::netlink::request::{Dumper, Reply, Request, boxed};

pub(super) const HANDLERS: &[Handler] = &[
    Handler { message: RTM_NEWVLAN, family: AF_BRIDGE, act: Some(change_entries), dump: None },
    Handler { message: RTM_DELVLAN, family: AF_BRIDGE, act: Some(change_entries), dump: None },
    Handler { message: RTM_GETVLAN, family: AF_BRIDGE, act: None, dump: Some(dump) },
];

/// What a range of VLANs is told as.
const RANGE: u16 = BRIDGE_VLAN_INFO_RANGE_BEGIN | BRIDGE_VLAN_INFO_RANGE_END;
const HEADER: usize = size_of::<BridgeVlanMessage>();

/// What is done to VLANs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Add,
    Remove,
}

/// A port, or the bridge itself.
pub(super) struct Place {
    pub(super) bridge: Arc<NetDevice>,
    pub(super) port: Option<Arc<Port>>,
}

impl Place {
    /// What a device is to a bridge. `None`: it has nothing to do with one.
    pub(super) fn of(device: &Arc<NetDevice>) -> Option<Place> {
        if let Some(port) = port_of(device) {
            return Some(Place { bridge: port.bridge.clone(), port: Some(port) });
        }
        device.operations_as::<Bridge>()?;
        Some(Place { bridge: device.clone(), port: None })
    }

    pub(super) fn bridge(&self) -> Result<&Bridge> {
        self.bridge.operations_as().ok_or(Errno::EOPNOTSUPP)
    }

    pub(super) fn vlans(&self) -> Result<&Vlans> {
        Ok(match &self.port {
            Some(port) => &port.vlans,
            None => &self.bridge()?.vlans,
        })
    }

    fn device(&self) -> &Arc<NetDevice> {
        self.port.as_ref().map_or(&self.bridge, |port| &port.device)
    }

    /// Adds or removes some VLANs, and tells of them; whether anything changed.
    fn change(&self, verb: Verb, (first, last, flags): (u16, u16, u16)) -> Result<bool> {
        let bridge = self.bridge()?;
        let flags = flags & (BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED);
        let mut changed = false;
        for number in first..=last {
            changed |= match verb {
                Verb::Add => bridge.add_vlan(&self.bridge, self.port.as_ref(), number, flags),
                Verb::Remove => bridge.remove_vlan(&self.bridge, self.port.as_ref(), number),
            };
        }
        if changed {
            match verb {
                Verb::Add => notify::vlans(self.device(), (first, last, flags), RTM_NEWVLAN),
                Verb::Remove => notify::vlans(self.device(), (first, last, 0), RTM_DELVLAN),
            }
        }
        Ok(changed)
    }
}

fn fail<T>(text: &'static str) -> Outcome<T> {
    Err(Failure::new(Errno::EINVAL, text))
}

fn check_number(number: u16) -> Outcome<()> {
    if (1..NUMBER_MAX).contains(&number) { Ok(()) } else { fail("bridge: Vlan id is invalid") }
}

/// One VLAN after another as they are told, ranges by their ends; `begin` is where one has begun. The range that is whole now.
fn next_range(one: BridgeVlan, begin: &mut Option<BridgeVlan>) -> Outcome<Option<(u16, u16, u16)>> {
    check_number(one.vid)?;
    if begin.is_some() || one.flags & BRIDGE_VLAN_INFO_RANGE_BEGIN != 0 {
        if one.flags & BRIDGE_VLAN_INFO_PVID != 0 {
            return fail("bridge: Pvid isn't allowed in a range");
        }
        if begin.is_some() && one.flags & BRIDGE_VLAN_INFO_RANGE_BEGIN != 0 {
            return fail("bridge: Found a new vlan range start while processing one");
        }
    }
    match (begin.take(), one.flags & RANGE) {
        (None, BRIDGE_VLAN_INFO_RANGE_BEGIN) => {
            *begin = Some(one);
            Ok(None)
        }
        (None, _) => Ok(Some((one.vid, one.vid, one.flags))),
        (Some(_), flags) if flags & BRIDGE_VLAN_INFO_RANGE_END == 0 => {
            fail("bridge: Vlan range end flag is missing")
        }
        (Some(first), _) if one.vid <= first.vid => {
            fail("bridge: End vlan id is less than or equal to start vlan id")
        }
        (Some(first), _) => Ok(Some((first.vid, one.vid, one.flags))),
    }
}

/// IFLA_AF_SPEC of a port or of a bridge (`br_afspec`); whether anything changed.
pub(super) fn change(place: &Place, verb: Verb, nest: &Attribute<'_>) -> Outcome<bool> {
    let (mut begin, mut changed) = (None, false);
    for one in nest.nested() {
        match one.kind {
            IFLA_BRIDGE_VLAN_INFO => {
                let (one, _) = BridgeVlan::read_from_prefix(one.value).map_err(|_| Errno::EINVAL)?;
                if let Some(range) = next_range(one, &mut begin)? {
                    changed |= place.change(verb, range)?;
                }
            }
            IFLA_BRIDGE_FLAGS | IFLA_BRIDGE_MODE => {}
            // Tunnels, rings and the like.
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    Ok(changed)
}

static ENTRY: Policies = Policies {
    max: 9,
    rules: &[
        (BRIDGE_VLANDB_ENTRY_INFO, Policy::Exact(4)),
        (BRIDGE_VLANDB_ENTRY_RANGE, Policy::U16),
        (BRIDGE_VLANDB_ENTRY_STATE, Policy::U8),
    ],
};
type Entry<'a> = Attributes<'a, 10>;

/// RTM_NEWVLAN, RTM_DELVLAN: `bridge vlan set`. `ENODEV`; `EINVAL`: the device has nothing to do with a bridge, or a bad entry;
/// `EOPNOTSUPP`: states other than forwarding.
fn change_entries(request: &Request<'_>) -> Outcome<()> {
    let is_new = request.message.header.nlmsg_type == RTM_NEWVLAN;
    let header: BridgeVlanMessage = request.message.fixed().ok_or(Errno::EINVAL)?;
    let device = request.namespace().devices.by_index(header.ifindex as i32).ok_or(Errno::ENODEV)?;
    let all: Attributes<'_, 3> = request.parse(HEADER, &VLANS, Strictness::Liberal)?;
    if !all.has(BRIDGE_VLANDB_ENTRY) {
        return if all.has(BRIDGE_VLANDB_GLOBAL_OPTIONS) {
            Err(Errno::EOPNOTSUPP.into())
        } else {
            fail("bridge: No vlans found to process")
        };
    }
    let result = rtnl::with_pair(&device, &[], |_| {
        let place = Place::of(&device)
            .ok_or(Failure::new(Errno::EINVAL, "bridge: The device is not a valid bridge or bridge port"))?;
        let payload = request.message.payload.get(HEADER..).unwrap_or_default();
        let mut begin = None;
        for nest in linnet_lib::netlink::AttributeIter::new(payload, HEADER) {
            if nest.kind == BRIDGE_VLANDB_ENTRY {
                change_entry(&place, is_new, &nest, &mut begin)?;
            }
        }
        Ok(())
    });
    result.unwrap_or(Err(Errno::ENODEV.into()))
}

static VLANS: Policies = Policies {
    max: BRIDGE_VLANDB_GLOBAL_OPTIONS,
    rules: &[(BRIDGE_VLANDB_ENTRY, Policy::Nest), (BRIDGE_VLANDB_GLOBAL_OPTIONS, Policy::Nest)],
};

fn change_entry(
    place: &Place,
    is_new: bool,
    nest: &Attribute<'_>,
    begin: &mut Option<BridgeVlan>,
) -> Outcome<()> {
    let entry: Entry<'_> = Attributes::parse(nest.nested(), &ENTRY, Strictness::Liberal)?;
    let Some(info) = entry.get(BRIDGE_VLANDB_ENTRY_INFO) else {
        return fail("bridge: Missing vlan entry info");
    };
    let (one, _) = BridgeVlan::read_from_prefix(info.value).map_err(|_| Errno::EINVAL)?;
    if one.flags & RANGE != 0 {
        return fail("bridge: Old-style vlan ranges are not allowed when using RTM vlan calls");
    }
    check_number(one.vid)?;
    let range = match entry.get(BRIDGE_VLANDB_ENTRY_RANGE) {
        Some(last) => {
            let end = BridgeVlan { vid: last.u16(), flags: BRIDGE_VLAN_INFO_RANGE_END | one.flags };
            *begin = Some(BridgeVlan { flags: one.flags | BRIDGE_VLAN_INFO_RANGE_BEGIN, ..one });
            next_range(end, begin)?
        }
        None => Some((one.vid, one.vid, one.flags)),
    };
    let Some(range) = range else { return Ok(()) };
    if one.flags & BRIDGE_VLAN_INFO_ONLY_OPTS == 0 {
        place.change(if is_new { Verb::Add } else { Verb::Remove }, range)?;
    }
    // A VLAN has no state of its own here.
    let state = entry.get(BRIDGE_VLANDB_ENTRY_STATE).map(|state| state.u8());
    if is_new && state.is_some_and(|state| state != BR_STATE_FORWARDING) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    Ok(())
}

static DUMP: Policies =
    Policies { max: BRIDGE_VLANDB_DUMP_FLAGS, rules: &[(BRIDGE_VLANDB_DUMP_FLAGS, Policy::U32)] };

/// All VLANs of all bridges and ports, or of one. `ENODEV`; `EOPNOTSUPP`: with counters.
fn dump(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    let header: BridgeVlanMessage = request.message.fixed().ok_or(Errno::EINVAL)?;
    let attributes: Attributes<'_, 2> = request.parse(HEADER, &DUMP, Strictness::Strict)?;
    let flags = attributes.get(BRIDGE_VLANDB_DUMP_FLAGS).map_or(0, |flags| flags.u32());
    if flags & BRIDGE_VLANDB_DUMPF_STATS != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let namespace = request.namespace().clone();
    let only = header.ifindex as i32;
    if only != 0 {
        let device = namespace.devices.by_index(only).ok_or(Errno::ENODEV)?;
        Place::of(&device).ok_or(Errno::EINVAL)?;
    }
    // Of what a VLAN is for a whole bridge nothing can be set here.
    let is_empty = flags & BRIDGE_VLANDB_DUMPF_GLOBAL != 0;
    boxed(VlanDump { namespace, only, is_empty, next: only, vlan: 0 })
}

struct VlanDump {
    namespace: Arc<NetNamespace>,
    /// Only this device; 0 for all.
    only: i32,
    is_empty: bool,
    /// The first device that was not looked at to its end, and the first VLAN of it that was not told.
    next: i32,
    vlan: u16,
}

impl VlanDump {
    /// The VLANs of one device from `vlan` on, in one message. Whether there was room for all.
    fn fill_device(&mut self, place: &Place, out: &mut Builder, reply: &Reply) -> Result<bool> {
        let vlans = place.vlans()?;
        let before = out.mark();
        let mark = match notify::begin_vlans(place.device(), RTM_NEWVLAN, out, reply) {
            Err(Errno::EMSGSIZE) => {
                out.cancel(before);
                return Ok(false);
            }
            other => other?,
        };
        let mut is_whole = true;
        while let Some(range) = vlans.next_range(self.vlan) {
            let write = |out: &mut Builder| notify::write_vlan_entry(range, Some(BR_STATE_FORWARDING), out);
            if !crate::netlink::request::fits(out, write)? {
                is_whole = false;
                break;
            }
            self.vlan = range.1 + 1;
        }
        out.end(mark);
        Ok(is_whole)
    }
}

impl Dumper for VlanDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        if self.is_empty {
            return Ok(true);
        }
        while let Some(device) = self.namespace.devices.next_from(self.next) {
            let index = device.index();
            if self.only != 0 && index != self.only {
                break;
            }
            if index != self.next {
                (self.next, self.vlan) = (index, 0);
            }
            if let Some(place) = Place::of(&device)
                && !self.fill_device(&place, out, reply)?
            {
                return Ok(false);
            }
            match index.checked_add(1) {
                Some(next) => (self.next, self.vlan) = (next, 0),
                None => break,
            }
        }
        Ok(true)
    }
}
