//! An interface as a message, and telling RTNLGRP_LINK of it (`rtnl_fill_ifinfo`).
//!
//! Locks: none is needed; under [`crate::device::Rtnl`] what is told is one instant.

use abi::errno::{Errno, Result};
use abi::netlink::NETLINK_ROUTE;
use abi::rtnetlink::*;
use alloc::sync::Arc;
use linnet_lib::netlink::Builder;
use zerocopy::IntoBytes;

use crate::device::{Gauge, NetDevice};
use crate::ids;
use crate::namespace::NetState;
use crate::netlink::request::Reply;
use crate::netlink::{Announcement, Origin};

/// Room for the description of one interface, however many names it has (the largest message of a dump).
pub(super) const ROOM: usize = 16 << 10;

/// What a description tells.
#[derive(Clone, Copy, Default)]
pub(super) struct Details {
    /// RTM_NEWLINK or RTM_DELLINK.
    pub(super) kind: u16,
    /// Which flags changed.
    pub(super) change: u32,
    /// RTEXT_FILTER_*.
    pub(super) filter: u32,
    /// The id of the namespace that was asked for.
    pub(super) target: Option<i32>,
    /// Where it has gone, and its index there.
    pub(super) moved_to: Option<(i32, i32)>,
}

/// Writes the message. `viewer`: in whose ids other namespaces are told.
pub(super) fn describe(
    device: &NetDevice,
    viewer: &Arc<NetState>,
    details: &Details,
    out: &mut Builder,
    reply: &Reply,
) -> Result<()> {
    let mark = out.begin(details.kind, reply.flags, reply.sequence, reply.port)?;
    let header = InterfaceMessage {
        ifi_type: device.hardware_type(),
        ifi_index: device.index(),
        ifi_flags: device.flags(),
        ifi_change: details.change,
        ..InterfaceMessage::default()
    };
    out.fixed(header.as_bytes())?;
    if let Some(id) = details.target {
        out.i32(IFLA_TARGET_NETNSID, id)?;
    }
    out.text(IFLA_IFNAME, device.name().as_bytes())?;
    settings(device, out)?;
    statistics(device, details, out)?;
    let xdp = out.nest(IFLA_XDP)?;
    out.u8(IFLA_XDP_ATTACHED, 0)?;
    out.end_nest(xdp);
    kind(device, out)?;
    peer(device, viewer, out)?;
    if let Some((id, index)) = details.moved_to {
        out.i32(IFLA_NEW_NETNSID, id)?;
        if index != 0 {
            out.i32(IFLA_NEW_IFINDEX, index)?;
        }
    }
    super::families::describe(device, out)?;
    names(device, out)?;
    out.end(mark);
    Ok(())
}

fn settings(device: &NetDevice, out: &mut Builder) -> Result<()> {
    let has_queue = device.has_queue.load(machine::sync::atomic::Ordering::Relaxed);
    let queueing: &[u8] =
        match (has_queue, device.is_loopback() || device.kind().is_some_and(|kind| !kind.is_queued)) {
            (false, _) => b"noop",
            (true, true) => b"noqueue",
            (true, false) => b"pfifo_fast",
        };
    let (least, most) = device.mtu_range();
    let ups = device.gauge(Gauge::CarrierUps);
    let downs = device.gauge(Gauge::CarrierDowns);
    out.u32(IFLA_TXQLEN, device.gauge(Gauge::QueueLength))?;
    out.u8(IFLA_OPERSTATE, device.operational_state())?;
    out.u8(IFLA_LINKMODE, device.link_mode.load(machine::sync::atomic::Ordering::Relaxed))?;
    out.u8(IFLA_NETNS_IMMUTABLE, u8::from(device.is_bound()))?;
    out.u32(IFLA_MTU, device.mtu())?;
    out.u32(IFLA_MIN_MTU, least)?;
    out.u32(IFLA_MAX_MTU, most)?;
    out.u32(IFLA_GROUP, device.gauge(Gauge::Group))?;
    out.u32(IFLA_PROMISCUITY, device.gauge(Gauge::Promiscuity))?;
    out.u32(IFLA_ALLMULTI, device.gauge(Gauge::AllMulticast))?;
    out.u32(IFLA_NUM_TX_QUEUES, device.queues())?;
    device.limits.fill(out)?;
    out.u32(IFLA_NUM_RX_QUEUES, device.queues())?;
    if let Some(master) = device.adjacency.master() {
        out.i32(IFLA_MASTER, master.index())?;
    }
    out.u8(IFLA_CARRIER, u8::from(device.has_carrier()))?;
    out.text(IFLA_QDISC, queueing)?;
    if let Some(alias) = device.alias() {
        out.text(IFLA_IFALIAS, &alias)?;
    }
    out.u32(IFLA_CARRIER_CHANGES, ups + downs)?;
    out.u32(IFLA_CARRIER_UP_COUNT, ups)?;
    out.u32(IFLA_CARRIER_DOWN_COUNT, downs)?;
    out.u8(IFLA_PROTO_DOWN, 0)?;
    out.attribute(IFLA_MAP, LinkMap::default().as_bytes())?;
    let address = device.address();
    if !address.is_empty() {
        out.attribute(IFLA_ADDRESS, &address)?;
        out.attribute(IFLA_BROADCAST, &device.broadcast())?;
    }
    Ok(())
}

fn statistics(device: &NetDevice, details: &Details, out: &mut Builder) -> Result<()> {
    if details.filter & RTEXT_FILTER_SKIP_STATS != 0 {
        return Ok(());
    }
    let sums = device.statistics().sums();
    out.attribute(IFLA_STATS64, sums.as_bytes())?;
    // The old form has 32 bits for each, and all but the last counter.
    let mut old = [0u32; 24];
    let wide = sums.as_bytes().chunks_exact(8).filter_map(|bytes| bytes.first_chunk::<8>());
    old.iter_mut().zip(wide).for_each(|(place, bytes)| *place = u64::from_ne_bytes(*bytes) as u32);
    out.attribute(IFLA_STATS, old.as_bytes())
}

/// As on Linux these nests do not carry NLA_F_NESTED: CNI's plugins take a type with the flag for another one.
fn kind(device: &NetDevice, out: &mut Builder) -> Result<()> {
    let master = device.adjacency.master();
    if device.kind().is_none() && master.is_none() {
        return Ok(());
    }
    let nest = out.nest(IFLA_LINKINFO)?;
    if let Some(kind) = device.kind() {
        out.text(IFLA_INFO_KIND, kind.name.as_bytes())?;
        if let Some(fill) = kind.fill {
            let data = out.nest(IFLA_INFO_DATA)?;
            fill(device, out)?;
            out.end_nest(data);
        }
    }
    if let Some(master) = &master
        && let Some(kind) = master.kind()
    {
        out.text(IFLA_INFO_SLAVE_KIND, kind.name.as_bytes())?;
        if let Some(fill) = kind.fill_port {
            let data = out.nest(IFLA_INFO_SLAVE_DATA)?;
            fill(master, device, out)?;
            out.end_nest(data);
        }
    }
    out.end_nest(nest);
    Ok(())
}

/// The device at the other end; if that is in another namespace, the viewer's id of it, given now if it has none.
fn peer(device: &NetDevice, viewer: &Arc<NetState>, out: &mut Builder) -> Result<()> {
    let Some(peer) = device.peer() else {
        // One of two ends, whose other one is not joined yet or gone.
        return if device.operations().goes_with_peer() { out.i32(IFLA_LINK, 0) } else { Ok(()) };
    };
    let there = peer.namespace();
    if !Arc::ptr_eq(&there, &device.namespace()) {
        let id = ids::get_or_allocate(viewer, &there)?.unwrap_or(-1);
        out.i32(IFLA_LINK_NETNSID, id)?;
    }
    out.i32(IFLA_LINK, peer.index())
}

fn names(device: &NetDevice, out: &mut Builder) -> Result<()> {
    let alternatives = device.alternatives()?;
    if alternatives.is_empty() {
        return Ok(());
    }
    let list = out.nest(IFLA_PROP_LIST | abi::netlink::NLA_F_NESTED)?;
    for name in &alternatives {
        out.text(IFLA_ALT_IFNAME, name)?;
    }
    out.end_nest(list);
    Ok(())
}

/// A finished announcement, to be sent once what it tells is so.
pub(crate) struct LastWords(Announcement);

impl LastWords {
    /// Sends it.
    pub(crate) fn send(self, namespace: &NetState) {
        self.0.send(namespace);
    }
}

fn build(device: &Arc<NetDevice>, details: &Details, origin: &Origin) -> Option<Announcement> {
    let namespace = device.namespace();
    let heard = origin.echo || namespace.netlink.has_listeners(NETLINK_ROUTE as u8, RTNLGRP_LINK);
    let names_another = device.peer().is_some_and(|peer| !Arc::ptr_eq(&peer.namespace(), &namespace));
    // Ids are given by describing, whether anyone listens or not.
    if !heard && !names_another {
        return None;
    }
    let mut out = Builder::new(ROOM);
    let reply = Reply { sequence: origin.sequence, port: origin.port, flags: 0 };
    match describe(device, &namespace, details, &mut out, &reply) {
        Ok(()) => {}
        Err(Errno::ENOMEM) if heard => out = Builder::new(0),
        Err(_) => return None,
    }
    let bytes = out.finish();
    Some(Announcement { protocol: NETLINK_ROUTE as u8, group: RTNLGRP_LINK, bytes, origin: *origin })
}

/// Tells that an interface is new or has changed; `change`: which flags.
pub(crate) fn announce(device: &Arc<NetDevice>, change: u32) {
    announce_new(device, change, &Origin::default());
}

/// The same for a change that someone asked for.
pub(crate) fn announce_new(device: &Arc<NetDevice>, change: u32, origin: &Origin) {
    if !device.is_registered() {
        return;
    }
    let details = Details { kind: RTM_NEWLINK, change, ..Details::default() };
    if let Some(announcement) = build(device, &details, origin) {
        announcement.send(&device.namespace());
    }
}

/// What is to be told once a device is gone.
pub(crate) fn describe_end(device: &Arc<NetDevice>, origin: &Origin) -> Option<LastWords> {
    let details = Details { kind: RTM_DELLINK, change: u32::MAX, ..Details::default() };
    build(device, &details, origin).map(LastWords)
}

/// What is to be told once a device has left for another namespace, which gets an id by that.
pub(crate) fn describe_departure(
    device: &Arc<NetDevice>,
    to: &Arc<NetState>,
    index: i32,
) -> Option<LastWords> {
    let from = device.namespace();
    let id = ids::get_or_allocate(&from, to).ok().flatten().unwrap_or(-1);
    let details =
        Details { kind: RTM_DELLINK, change: u32::MAX, moved_to: Some((id, index)), ..Details::default() };
    build(device, &details, &Origin::default()).map(LastWords)
}
