//! Who hears of a bridge's ports (RTNLGRP_LINK) and entries (RTNLGRP_NEIGH), and how they are written as messages.
//!
//! Locks: none. [`entry_later`] is for who has preemption off; the rest for thread context.

use abi::errno::Result;
use abi::link as linux;
use abi::netlink::{NETLINK_ROUTE, NLA_F_NESTED};
use abi::rtnetlink::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linnet_lib::netlink::Builder;
use zerocopy::IntoBytes;

use super::table::{EXTERNAL, LOCAL, STATIC, STICKY, View};
use super::{Bridge, Port, TICK_NS, options};
use crate::device::NetDevice;
use crate::netlink::request::Reply;
use crate::netlink::{Announcement, Origin};

/// Room for the description of a port or an entry.
pub(crate) const ROOM: usize = 2048;

/// Writes a port as a message of family AF_BRIDGE (`br_fill_ifinfo`).
pub(crate) fn write_port(port: &Port, kind: u16, out: &mut Builder, reply: &Reply) -> Result<()> {
    let device = &port.device;
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
    out.i32(IFLA_MASTER, port.bridge.index())?;
    out.u32(IFLA_MTU, device.mtu())?;
    out.u8(IFLA_OPERSTATE, device.operational_state())?;
    out.attribute(IFLA_ADDRESS, &device.address())?;
    if let Some(below) = device.peer() {
        out.i32(IFLA_LINK, below.index())?;
    }
    if kind == RTM_NEWLINK {
        let nest = out.nest(IFLA_PROTINFO | NLA_F_NESTED)?;
        options::write_port(port, out)?;
        out.end_nest(nest);
    }
    out.end(mark);
    Ok(())
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
        flags if flags & LOCAL != 0 => linux::NUD_PERMANENT,
        flags if flags & STATIC != 0 => linux::NUD_NOARP,
        _ if view.updated_ns.saturating_add(bridge.ageing_ns()) <= now => linux::NUD_STALE,
        _ => linux::NUD_REACHABLE,
    };
    let mut flags = if view.flags & EXTERNAL != 0 { linux::NTF_EXT_LEARNED } else { 0 };
    if view.flags & STICKY != 0 {
        flags |= linux::NTF_STICKY;
    }
    let mark = out.begin(kind, reply.flags, reply.sequence, reply.port)?;
    let header = linux::ForwardingMessage {
        ndm_family: linux::AF_BRIDGE,
        ndm_ifindex: at.index(),
        ndm_state: state,
        ndm_flags: flags,
        ..linux::ForwardingMessage::default()
    };
    out.fixed(header.as_bytes())?;
    out.attribute(linux::NDA_LLADDR, &view.key.address)?;
    out.i32(linux::NDA_MASTER, bridge_device.index())?;
    out.u32(linux::NDA_FLAGS_EXT, 0)?;
    let times = linux::CacheInfo {
        ndm_used: since(view.used_ns),
        ndm_updated: since(view.updated_ns),
        ..linux::CacheInfo::default()
    };
    out.attribute(linux::NDA_CACHEINFO, times.as_bytes())?;
    if view.key.vlan != 0 {
        out.u16(linux::NDA_VLAN, view.key.vlan)?;
    }
    out.end(mark);
    Ok(())
}

fn tell(device: &NetDevice, group: u32, write: impl FnOnce(&mut Builder, &Reply) -> Result<()>) {
    let namespace = device.namespace();
    if !namespace.netlink.has_listeners(NETLINK_ROUTE as u8, group) {
        return;
    }
    let mut out = Builder::new(ROOM);
    let reply = Reply { sequence: 0, port: 0, flags: 0 };
    // An empty message tells the listeners that they missed one.
    let bytes = write(&mut out, &reply).map_or_else(|_| Vec::new(), |()| out.finish());
    let announcement =
        Announcement { protocol: NETLINK_ROUTE as u8, group, bytes, origin: Origin::default() };
    announcement.send(&namespace);
}

/// Tells of a port that is new or changed (RTM_NEWLINK) or gone (RTM_DELLINK).
pub(super) fn port(port: &Port, kind: u16) {
    tell(&port.bridge, RTNLGRP_LINK, |out, reply| write_port(port, kind, out, reply));
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
