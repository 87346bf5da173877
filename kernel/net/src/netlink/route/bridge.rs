//! Bridges by messages of family AF_BRIDGE: their ports (RTM_{GET,SET,DEL}LINK) and their forwarding entries (RTM_*NEIGH), as
//! bridge(8) asks for them.
//!
//! Locks: rtnl for changes; a listing goes on from a device and a key.

use abi::errno::{Errno, Result};
use abi::link::*;
use abi::neighbour::*;
use abi::netlink as linux;
use abi::rtnetlink::*;
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::netlink::{Attributes, Builder, Failure, Outcome, Policies, Policy, Strictness};

use super::bridge_vlan::{self, Place, Verb};
use super::{Handler, fill_devices};
use crate::device::bridge::notify::VlanList;
use crate::device::bridge::table::{
    BY_USER, EXTERNAL, FIRST, Key, LOCAL, Place as Entry, STATIC, STICKY, View,
};
use crate::device::bridge::{Bridge, Port, notify, options};
use crate::device::{NetDevice, Rtnl, rtnl};
use crate::namespace::NetNamespace;
use crate::netlink::request::{Dumper, Reply, Request, boxed, fits};

pub(super) const HANDLERS: &[Handler] = &[
    Handler { message: RTM_GETLINK, family: AF_BRIDGE, act: None, dump: Some(dump_ports) },
    Handler { message: RTM_SETLINK, family: AF_BRIDGE, act: Some(set_link), dump: None },
    Handler { message: RTM_DELLINK, family: AF_BRIDGE, act: Some(remove_link), dump: None },
    Handler { message: RTM_NEWNEIGH, family: AF_BRIDGE, act: Some(add_entry), dump: None },
    Handler { message: RTM_DELNEIGH, family: AF_BRIDGE, act: Some(remove_entry), dump: None },
    Handler { message: RTM_GETNEIGH, family: AF_BRIDGE, act: Some(get_entry), dump: Some(dump_entries) },
];

static LINK: Policies = Policies { max: IFLA_TAILROOM, rules: &[(IFLA_EXT_MASK, Policy::U32)] };
type LinkAttributes<'a> = Attributes<'a, { IFLA_TAILROOM as usize + 1 }>;

static ENTRY: Policies = Policies {
    max: NDA_FLAGS_EXT,
    rules: &[
        (NDA_LLADDR, Policy::Binary(MAX_ADDR_LEN)),
        (NDA_VLAN, Policy::U16),
        (NDA_MASTER, Policy::U32),
        (NDA_FLAGS_EXT, Policy::U32),
    ],
};
type EntryAttributes<'a> = Attributes<'a, { NDA_FLAGS_EXT as usize + 1 }>;

const LINK_HEADER: usize = size_of::<InterfaceMessage>();
const ENTRY_HEADER: usize = size_of::<NeighbourMessage>();

/// All ports of all bridges; with their VLANs the bridges too.
fn dump_ports(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    let mut mask = 0;
    if request.is_strict() {
        let header: InterfaceMessage = request
            .message
            .fixed()
            .ok_or(Failure::new(Errno::EINVAL, "Invalid header for bridge link dump"))?;
        let surplus = header.__ifi_pad != 0 || header.ifi_type != 0 || header.ifi_flags != 0;
        if surplus || header.ifi_change != 0 || header.ifi_index != 0 {
            return Err(Failure::new(Errno::EINVAL, "Invalid values in header for bridge link dump request"));
        }
    }
    if request.message.payload.len() > LINK_HEADER {
        let strictness = if request.is_strict() { Strictness::Old } else { Strictness::Liberal };
        let attributes: LinkAttributes<'_> = request.parse(LINK_HEADER, &LINK, strictness)?;
        mask = attributes.get(IFLA_EXT_MASK).map_or(0, |mask| mask.u32());
    }
    let list = match mask {
        mask if mask & RTEXT_FILTER_BRVLAN_COMPRESSED != 0 => VlanList::Ranges,
        mask if mask & RTEXT_FILTER_BRVLAN != 0 => VlanList::Each,
        _ => VlanList::None,
    };
    boxed(PortDump { namespace: request.namespace().clone(), list, next: 0 })
}

struct PortDump {
    namespace: Arc<NetNamespace>,
    list: VlanList,
    /// The first index that was not looked at yet.
    next: i32,
}

/// The port that a device is.
pub(super) fn port_of(device: &NetDevice) -> Option<Arc<Port>> {
    device.adjacency.master()?.operations_as::<Bridge>()?.port_of(device)
}

impl Dumper for PortDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        let list = self.list;
        fill_devices(&self.namespace, &mut self.next, out, |device, out| match Place::of(device) {
            Some(place) if place.port.is_some() || list != VlanList::None => {
                notify::write_port(&place.bridge, place.port.as_deref(), (RTM_NEWLINK, list), out, reply)
            }
            _ => Ok(()),
        })
    }

    fn generation(&self) -> Option<u32> {
        Some(self.namespace.devices.generation())
    }
}

/// Does to a device what IFLA_BRIDGE_FLAGS says: as its master's port, or itself as a bridge. `ENODEV`; `EOPNOTSUPP`: it is not that.
fn of_link(
    request: &Request<'_>,
    act: impl Fn(&Rtnl<'_>, &Place, &LinkAttributes<'_>) -> Outcome<()>,
) -> Outcome<()> {
    let header: InterfaceMessage = request.message.fixed().ok_or(Errno::EINVAL)?;
    let attributes: LinkAttributes<'_> = request.parse(LINK_HEADER, &LINK, Strictness::Liberal)?;
    let device = request.namespace().devices.by_index(header.ifi_index);
    let device = device.ok_or(Failure::new(Errno::ENODEV, "unknown ifindex"))?;
    let flags = attributes.get(IFLA_AF_SPEC).and_then(|nest| {
        let mut all = nest.nested();
        all.find(|one| one.kind == IFLA_BRIDGE_FLAGS).map(|flags| flags.u16())
    });
    let flags = flags.unwrap_or(0);
    let result = rtnl::with_pair(&device, &[], |rtnl| {
        if flags == 0 || flags & BRIDGE_FLAGS_MASTER != 0 {
            let place = Place::of(&device).filter(|place| place.port.is_some()).ok_or(Errno::EOPNOTSUPP)?;
            act(rtnl, &place, &attributes)?;
        }
        if flags & BRIDGE_FLAGS_SELF != 0 {
            let place = Place::of(&device).filter(|place| place.port.is_none()).ok_or(Errno::EOPNOTSUPP)?;
            act(rtnl, &place, &attributes)?;
        }
        Ok(())
    });
    result.unwrap_or(Err(Errno::ENODEV.into()))
}

/// RTM_SETLINK: `bridge link set`, `bridge vlan add`.
fn set_link(request: &Request<'_>) -> Outcome<()> {
    of_link(request, |rtnl, place, attributes| {
        let mut changed = false;
        if let (Some(nest), Some(port)) = (attributes.get(IFLA_PROTINFO), &place.port) {
            options::set_by_protinfo(rtnl, place.bridge()?, port, nest)?;
            changed = true;
        }
        if let Some(nest) = attributes.get(IFLA_AF_SPEC) {
            changed |= bridge_vlan::change(place, Verb::Add, &nest)?;
        }
        if changed {
            notify::port_of(&place.bridge, place.port.as_deref(), RTM_NEWLINK);
        }
        Ok(())
    })
}

/// RTM_DELLINK: `bridge vlan del`.
fn remove_link(request: &Request<'_>) -> Outcome<()> {
    of_link(request, |_, place, attributes| {
        if let Some(nest) = attributes.get(IFLA_AF_SPEC)
            && bridge_vlan::change(place, Verb::Remove, &nest)?
        {
            notify::port_of(&place.bridge, place.port.as_deref(), RTM_NEWLINK);
        }
        Ok(())
    })
}

/// What a request about an entry names.
struct Named {
    device: Arc<NetDevice>,
    header: NeighbourMessage,
    key: Key,
}

fn named(request: &Request<'_>) -> Outcome<Named> {
    let attributes: EntryAttributes<'_> = request.parse(ENTRY_HEADER, &ENTRY, Strictness::Liberal)?;
    let header: NeighbourMessage = request.message.fixed().ok_or(Errno::EINVAL)?;
    if header.ndm_ifindex == 0 {
        return Err(Failure::new(Errno::EINVAL, "invalid ifindex"));
    }
    let device = request.namespace().devices.by_index(header.ndm_ifindex);
    let device = device.ok_or(Failure::new(Errno::ENODEV, "unknown ifindex"))?;
    let address = attributes.get(NDA_LLADDR).and_then(|address| <[u8; 6]>::try_from(address.value).ok());
    let address = address.ok_or(Failure::new(Errno::EINVAL, "invalid address"))?;
    if device.hardware_type() != ARPHRD_ETHER {
        let text = match request.message.header.nlmsg_type {
            RTM_DELNEIGH => "FDB delete only supported for Ethernet devices",
            _ => "FDB add only supported for Ethernet devices",
        };
        return Err(Failure::new(Errno::EINVAL, text));
    }
    let vlan = attributes.get(NDA_VLAN).map_or(0, |vlan| vlan.u16());
    if attributes.has(NDA_VLAN) && !(1..4095).contains(&vlan) {
        return Err(Failure::new(Errno::EINVAL, "invalid vlan id"));
    }
    Ok(Named { device, header, key: Key { vlan, address } })
}

/// Where an entry of a request goes: into the table of a port's bridge (NTF_MASTER or no flag), or of a bridge itself (NTF_SELF).
/// `act` gets each VLAN in question: the one that the request names, or none and then all that are there.
fn with_table(named: &Named, act: impl Fn(&Bridge, &Place, Key) -> Outcome<()>) -> Outcome<()> {
    let device = &named.device;
    let result = rtnl::with_pair(device, &[], |_rtnl| {
        // Addresses of a device's own filter are not kept here.
        let is_self = named.header.ndm_flags & NTF_SELF != 0;
        let place = Place::of(device).filter(|place| place.port.is_none() == is_self);
        let place = place.ok_or(Errno::EOPNOTSUPP)?;
        let (bridge, vlans) = (place.bridge()?, place.vlans()?);
        let vlan = named.key.vlan;
        if vlan != 0 {
            return if vlans.has(vlan) { act(bridge, &place, named.key) } else { Err(Errno::EINVAL.into()) };
        }
        act(bridge, &place, named.key)?;
        let mut next = 0;
        while let Some((vlan, _)) = vlans.next_from(next) {
            act(bridge, &place, Key { vlan, ..named.key })?;
            next = vlan + 1;
        }
        Ok(())
    });
    result.unwrap_or(Err(Errno::ENODEV.into()))
}

/// RTM_NEWNEIGH: `bridge fdb add`, `append`, `replace`.
fn add_entry(request: &Request<'_>) -> Outcome<()> {
    let named = named(request)?;
    let header = &named.header;
    if header.ndm_state & (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE) == 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut flags = BY_USER;
    flags |= match header.ndm_state {
        state if state & NUD_PERMANENT != 0 => LOCAL | STATIC,
        state if state & NUD_NOARP != 0 => STATIC,
        _ => 0,
    };
    if header.ndm_flags & NTF_STICKY != 0 {
        flags |= STICKY;
    }
    if header.ndm_flags & NTF_EXT_LEARNED != 0 {
        flags |= EXTERNAL;
    }
    with_table(&named, |bridge, place, key| {
        let port = place.port.as_ref();
        let is_local = flags & LOCAL != 0;
        if port.is_none() && !is_local && flags & EXTERNAL == 0 {
            return Err(Errno::EINVAL.into());
        }
        let is_learning = |port: &Arc<Port>| matches!(port.state(), BR_STATE_LEARNING | BR_STATE_FORWARDING);
        if flags & (LOCAL | STATIC) == 0 && port.is_some_and(|port| !is_learning(port)) {
            return Err(Errno::EPERM.into());
        }
        if flags & STICKY != 0 && is_local {
            return Err(Errno::EINVAL.into());
        }
        let now = machine::time::now_ns();
        let number = port.map_or(0, |port| port.number);
        let entry = Entry::new(key, number, flags, now).ok_or(Errno::ENOMEM)?;
        let mut table = bridge.table.write();
        match table.get(&key, now, bridge.ageing_ns()) {
            None if !request.has_flag(linux::NLM_F_CREATE) => return Err(Errno::ENOENT.into()),
            Some(_) if request.has_flag(linux::NLM_F_EXCL) => return Err(Errno::EEXIST.into()),
            _ => {}
        }
        table.insert(entry);
        let view = table.next_from(&key);
        drop(table);
        bridge.expect_ageing(&place.bridge, now.saturating_add(bridge.ageing_ns()));
        if let Some(view) = view {
            notify::entry_of(&place.bridge, bridge, &view, RTM_NEWNEIGH);
        }
        Ok(())
    })
}

/// RTM_DELNEIGH: `bridge fdb del`. `ENOENT`: there was none in any of the VLANs.
fn remove_entry(request: &Request<'_>) -> Outcome<()> {
    let named = named(request)?;
    let found = core::cell::Cell::new(false);
    with_table(&named, |bridge, place, key| {
        let number = place.port.as_ref().map_or(0, |port| port.number);
        let now = machine::time::now_ns();
        let taken = {
            let mut table = bridge.table.write();
            let is_there = table.get(&key, now, u64::MAX).is_some_and(|entry| entry.port == number);
            if is_there { table.remove(&key) } else { None }
        };
        if let Some(view) = taken {
            found.set(true);
            notify::entry_of(&place.bridge, bridge, &view, RTM_DELNEIGH);
        }
        Ok(())
    })?;
    if found.get() { Ok(()) } else { Err(Errno::ENOENT.into()) }
}

/// RTM_GETNEIGH of one entry: `bridge fdb get`.
fn get_entry(request: &Request<'_>) -> Outcome<()> {
    let attributes: EntryAttributes<'_> = request.parse(ENTRY_HEADER, &ENTRY, Strictness::Liberal)?;
    let header: NeighbourMessage = request.message.fixed().ok_or(Errno::EINVAL)?;
    let address = attributes.get(NDA_LLADDR).and_then(|address| <[u8; 6]>::try_from(address.value).ok());
    let address = address.ok_or(Failure::new(Errno::EINVAL, "Missing lookup address for fdb get request"))?;
    let master = attributes.get(NDA_MASTER).map(|master| master.i32());
    let devices = &request.namespace().devices;
    let bridge_device = match (master, header.ndm_ifindex) {
        (Some(master), _) => devices.by_index(master).ok_or(Failure::new(Errno::EINVAL, "Unknown master")),
        (None, index) if index != 0 => {
            let device =
                devices.by_index(index).ok_or(Failure::new(Errno::ENODEV, "Unknown device ifindex"))?;
            device.adjacency.master().ok_or(Failure::new(Errno::EINVAL, "Device has no bridge master"))
        }
        _ => Err(Failure::new(Errno::ENODEV, "No device specified")),
    }?;
    let bridge = bridge_device.operations_as::<Bridge>();
    let bridge = bridge.ok_or(Failure::new(Errno::EOPNOTSUPP, "Get operation not supported by device"))?;
    let key = Key { vlan: attributes.get(NDA_VLAN).map_or(0, |vlan| vlan.u16()), address };
    let now = machine::time::now_ns();
    let view = bridge.table.read().get(&key, now, bridge.ageing_ns()).map(|entry| entry.view());
    let view = view.ok_or(Failure::new(Errno::ENOENT, "Fdb entry not found"))?;
    let port = bridge.port_numbered(view.port);
    let at = port.as_ref().map_or(&bridge_device, |port| &port.device);
    let mut out = Builder::new(notify::ROOM);
    let reply = Reply { sequence: request.message.header.nlmsg_seq, port: request.socket.port(), flags: 0 };
    notify::write_entry((&bridge_device, bridge), at, &view, RTM_NEWNEIGH, &mut out, &reply)?;
    request.answer(out);
    Ok(())
}

/// All entries, those of one bridge (NDA_MASTER), or those behind one device.
fn dump_entries(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    let mut list =
        EntryDump { namespace: request.namespace().clone(), master: 0, behind: 0, next: 0, key: FIRST };
    // Old programs send the header of a link, and its attributes; what is shorter filters nothing.
    let payload = request.message.payload.len();
    if request.is_strict() || payload == ENTRY_HEADER || payload == ENTRY_HEADER + 8 {
        let header: NeighbourMessage = request
            .message
            .fixed()
            .ok_or(Failure::new(Errno::EINVAL, "Invalid header for fdb dump request"))?;
        if header.pad1 != 0 || header.pad2 != 0 || header.ndm_state != 0 {
            return Err(Failure::new(Errno::EINVAL, "Invalid values in header for fdb dump request"));
        }
        if header.ndm_flags != 0 || header.ndm_type != 0 {
            return Err(Failure::new(Errno::EINVAL, "Invalid values in header for fdb dump request"));
        }
        let attributes: EntryAttributes<'_> = request.parse(ENTRY_HEADER, &ENTRY, Strictness::Old)?;
        list.behind = header.ndm_ifindex;
        list.master = attributes.get(NDA_MASTER).map_or(0, |master| master.i32());
    } else if let Some(header) = request.message.fixed::<InterfaceMessage>() {
        let attributes: LinkAttributes<'_> = request.parse(LINK_HEADER, &LINK, Strictness::Liberal)?;
        list.behind = header.ifi_index;
        list.master = attributes.get(IFLA_MASTER).map_or(0, |master| master.i32());
    }
    boxed(list)
}

struct EntryDump {
    namespace: Arc<NetNamespace>,
    /// Only this bridge's; 0 for all.
    master: i32,
    /// Only those behind this device; 0 for all.
    behind: i32,
    /// The first device that was not looked at to its end.
    next: i32,
    /// The first key of it that was not told.
    key: Key,
}

impl EntryDump {
    /// The entries of one bridge from the key on. Whether there was room for all.
    fn fill_bridge(
        &mut self,
        device: &Arc<NetDevice>,
        bridge: &Bridge,
        out: &mut Builder,
        reply: &Reply,
    ) -> Result<bool> {
        let now = machine::time::now_ns();
        loop {
            let Some(view) = ({ bridge.table.read().next_from(&self.key) }) else { return Ok(true) };
            if is_alive(&view, now, bridge) {
                let port = bridge.port_numbered(view.port);
                let at = port.as_ref().map_or(device, |port| &port.device);
                let write = |out: &mut Builder| {
                    notify::write_entry((device, bridge), at, &view, RTM_NEWNEIGH, out, reply)
                };
                if (self.behind == 0 || at.index() == self.behind) && !fits(out, write)? {
                    return Ok(false);
                }
            }
            match view.key.next() {
                Some(next) => self.key = next,
                None => return Ok(true),
            }
        }
    }
}

fn is_alive(view: &View, now: u64, bridge: &Bridge) -> bool {
    view.flags & (STATIC | EXTERNAL) != 0 || view.updated_ns.saturating_add(bridge.ageing_ns()) > now
}

impl Dumper for EntryDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        while let Some(device) = self.namespace.devices.next_from(self.next) {
            let index = device.index();
            if index != self.next {
                (self.next, self.key) = (index, FIRST);
            }
            let wanted = self.master == 0 || self.master == index;
            if let Some(bridge) = device.operations_as::<Bridge>().filter(|_| wanted)
                && !self.fill_bridge(&device, bridge, out, reply)?
            {
                return Ok(false);
            }
            match index.checked_add(1) {
                Some(next) => (self.next, self.key) = (next, FIRST),
                None => break,
            }
        }
        Ok(true)
    }
}
