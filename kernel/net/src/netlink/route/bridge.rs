//! Bridges by messages of family AF_BRIDGE: their ports (RTM_{GET,SET,DEL}LINK) and their forwarding entries (RTM_*NEIGH), as
//! bridge(8) asks for them.
//!
//! Locks: rtnl for changes; a listing goes on from a device and a key.

use abi::errno::{Errno, Result};
use abi::link::*;
use abi::netlink as linux;
use abi::rtnetlink::*;
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::netlink::{Attributes, Builder, Failure, Outcome, Policies, Policy, Strictness};

use super::Handler;
use crate::device::bridge::table::{BY_USER, EXTERNAL, Key, LOCAL, Place, STATIC, STICKY, View};
use crate::device::bridge::{Bridge, Port, notify, options};
use crate::device::{NetDevice, rtnl};
use crate::namespace::NetNamespace;
use crate::netlink::request::{Dumper, Reply, Request, boxed};

pub(super) const HANDLERS: &[Handler] = &[
    Handler { message: RTM_GETLINK, family: AF_BRIDGE, act: None, dump: Some(dump_ports) },
    Handler { message: RTM_SETLINK, family: AF_BRIDGE, act: Some(set_port), dump: None },
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
const ENTRY_HEADER: usize = size_of::<ForwardingMessage>();

/// All ports of all bridges.
fn dump_ports(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    if request.is_strict() {
        let header: InterfaceMessage = request
            .message
            .fixed()
            .ok_or(Failure::new(Errno::EINVAL, "Invalid header for bridge link dump"))?;
        let surplus = header.__ifi_pad != 0 || header.ifi_type != 0 || header.ifi_flags != 0;
        if surplus || header.ifi_change != 0 || header.ifi_index != 0 {
            return Err(Failure::new(Errno::EINVAL, "Invalid values in header for bridge link dump request"));
        }
        let _: LinkAttributes<'_> = request.parse(LINK_HEADER, &LINK, Strictness::Old)?;
    }
    boxed(PortDump { namespace: request.namespace().clone(), next: 0 })
}

struct PortDump {
    namespace: Arc<NetNamespace>,
    /// The first index that was not looked at yet.
    next: i32,
}

/// The port that a device is.
fn port_of(device: &NetDevice) -> Option<Arc<Port>> {
    device.adjacency.master()?.operations_as::<Bridge>()?.port_of(device)
}

impl Dumper for PortDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        while let Some(device) = self.namespace.devices.next_from(self.next) {
            if let Some(port) = port_of(&device) {
                let before = out.mark();
                match notify::write_port(&port, RTM_NEWLINK, out, reply) {
                    Ok(()) => {}
                    Err(Errno::EMSGSIZE) => {
                        out.cancel(before);
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                }
            }
            match device.index().checked_add(1) {
                Some(next) => self.next = next,
                None => break,
            }
        }
        Ok(true)
    }

    fn generation(&self) -> Option<u32> {
        Some(self.namespace.devices.generation())
    }
}

/// RTM_SETLINK: `bridge link set`. `ENODEV`, `EOPNOTSUPP`: it is no port, and what the port says.
fn set_port(request: &Request<'_>) -> Outcome<()> {
    let header: InterfaceMessage = request.message.fixed().ok_or(Errno::EINVAL)?;
    let attributes: LinkAttributes<'_> = request.parse(LINK_HEADER, &LINK, Strictness::Liberal)?;
    let device = request.namespace().devices.by_index(header.ifi_index);
    let device = device.ok_or(Failure::new(Errno::ENODEV, "unknown ifindex"))?;
    let Some(nest) = attributes.get(IFLA_PROTINFO) else { return Err(Errno::EOPNOTSUPP.into()) };
    let result: Option<Outcome<()>> = rtnl::with_pair(&device, &[], |rtnl| {
        let port = port_of(&device).ok_or(Errno::EOPNOTSUPP)?;
        let bridge = port.bridge_operations().ok_or(Errno::EOPNOTSUPP)?;
        options::set_by_protinfo(rtnl, bridge, &port, nest)
    });
    result.unwrap_or(Err(Errno::ENODEV.into()))
}

/// What a request about an entry names.
struct Named {
    device: Arc<NetDevice>,
    header: ForwardingMessage,
    key: Key,
}

fn named(request: &Request<'_>) -> Outcome<Named> {
    let attributes: EntryAttributes<'_> = request.parse(ENTRY_HEADER, &ENTRY, Strictness::Liberal)?;
    let header: ForwardingMessage = request.message.fixed().ok_or(Errno::EINVAL)?;
    if header.ndm_ifindex == 0 {
        return Err(Failure::new(Errno::EINVAL, "invalid ifindex"));
    }
    let device = request.namespace().devices.by_index(header.ndm_ifindex);
    let device = device.ok_or(Failure::new(Errno::ENODEV, "unknown ifindex"))?;
    let address = attributes.get(NDA_LLADDR).and_then(|address| <[u8; 6]>::try_from(address.value).ok());
    let address = address.ok_or(Failure::new(Errno::EINVAL, "invalid address"))?;
    let vlan = attributes.get(NDA_VLAN).map_or(0, |vlan| vlan.u16());
    if attributes.has(NDA_VLAN) && !(1..4095).contains(&vlan) {
        return Err(Failure::new(Errno::EINVAL, "invalid vlan id"));
    }
    Ok(Named { device, header, key: Key { vlan, address } })
}

/// Where an entry of a request goes: into the table of a port's bridge (NTF_MASTER or no flag), or of a bridge itself (NTF_SELF).
fn with_table<R>(
    named: &Named,
    act: impl FnOnce(&Arc<NetDevice>, &Bridge, Option<&Arc<Port>>) -> Outcome<R>,
) -> Outcome<R> {
    let device = &named.device;
    let result = rtnl::with_pair(device, &[], |_rtnl| {
        if named.header.ndm_flags & NTF_SELF != 0 {
            // Addresses of a device's own filter are not kept here.
            let bridge = device.operations_as::<Bridge>().ok_or(Errno::EOPNOTSUPP)?;
            return act(device, bridge, None);
        }
        let port = port_of(device).ok_or(Errno::EOPNOTSUPP)?;
        let bridge = port.bridge_operations().ok_or(Errno::EOPNOTSUPP)?;
        act(&port.bridge, bridge, Some(&port))
    });
    result.unwrap_or(Err(Errno::ENODEV.into()))
}

/// RTM_NEWNEIGH: `bridge fdb add`, `append`, `replace`.
fn add_entry(request: &Request<'_>) -> Outcome<()> {
    let named = named(request)?;
    let header = &named.header;
    if named.key.vlan != 0 {
        // Without VLAN filtering a port is in no VLAN.
        return Err(Errno::EINVAL.into());
    }
    if header.ndm_state & (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_STALE) == 0 {
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
    with_table(&named, |device, bridge, port| {
        let is_local = flags & LOCAL != 0;
        if port.is_none() && !is_local && header.ndm_flags & NTF_EXT_LEARNED == 0 {
            return Err(Failure::new(Errno::EINVAL, "FDB entry towards bridge must be permanent"));
        }
        if flags & STICKY != 0 && is_local {
            return Err(Errno::EINVAL.into());
        }
        let now = machine::time::now_ns();
        let number = port.map_or(0, |port| port.number);
        let place = Place::new(named.key, number, flags, now).ok_or(Errno::ENOMEM)?;
        let mut table = bridge.table.write();
        match table.get(&named.key, now, bridge.ageing_ns()) {
            None if !request.has_flag(linux::NLM_F_CREATE) => return Err(Errno::ENOENT.into()),
            Some(_) if request.has_flag(linux::NLM_F_EXCL) => return Err(Errno::EEXIST.into()),
            _ => {}
        }
        table.insert(place);
        let view = table.next_from(&named.key);
        drop(table);
        if let Some(view) = view {
            notify::entry_of(device, bridge, &view, RTM_NEWNEIGH);
        }
        Ok(())
    })
}

/// RTM_DELNEIGH: `bridge fdb del`.
fn remove_entry(request: &Request<'_>) -> Outcome<()> {
    let named = named(request)?;
    with_table(&named, |device, bridge, port| {
        let number = port.map_or(0, |port| port.number);
        let now = machine::time::now_ns();
        let taken = {
            let mut table = bridge.table.write();
            let is_there = table.get(&named.key, now, u64::MAX).is_some_and(|entry| entry.port == number);
            if is_there { table.remove(&named.key) } else { None }
        };
        let view = taken.ok_or(Errno::ENOENT)?;
        notify::entry_of(device, bridge, &view, RTM_DELNEIGH);
        Ok(())
    })
}

/// RTM_GETNEIGH of one entry: `bridge fdb get`.
fn get_entry(request: &Request<'_>) -> Outcome<()> {
    let attributes: EntryAttributes<'_> = request.parse(ENTRY_HEADER, &ENTRY, Strictness::Liberal)?;
    let header: ForwardingMessage = request.message.fixed().ok_or(Errno::EINVAL)?;
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
        let header: ForwardingMessage = request
            .message
            .fixed()
            .ok_or(Failure::new(Errno::EINVAL, "Invalid header for fdb dump request"))?;
        if header.ndm_pad1 != 0 || header.ndm_pad2 != 0 || header.ndm_state != 0 {
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

const FIRST: Key = Key { vlan: 0, address: [0; 6] };

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
                if self.behind == 0 || at.index() == self.behind {
                    let before = out.mark();
                    match notify::write_entry((device, bridge), at, &view, RTM_NEWNEIGH, out, reply) {
                        Ok(()) => {}
                        Err(Errno::EMSGSIZE) => {
                            out.cancel(before);
                            return Ok(false);
                        }
                        Err(error) => return Err(error),
                    }
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
