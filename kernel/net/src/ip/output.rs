//! Packets that go out: given a header, cut to the size of the link, and handed to the neighbour (`ip_output`, `ip6_output`).
//!
//! Key type: [`Header`]. Any context; nothing sleeps; no locks. Neighbours: `route` (where to), `neighbour`, `fragment`.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr};
use linnet_lib::wire::ethernet::{TYPE_IPV4, TYPE_IPV6};
use linnet_lib::wire::ipv4::{self, Ipv4};
use linnet_lib::wire::ipv6::{self, Ipv6};
use machine::sync::atomic::Ordering;

use super::counters::Count;
use super::fragment;
use super::neighbour::{self, Cast};
use super::route::{Route, RouteKind};
use crate::device::traffic;
use crate::namespace::NetState;
use crate::packet::{Packet, PacketKind};

/// What is in the header of a packet from here.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// From whom.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// `IPPROTO_*`.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// TOS or traffic class.
    pub traffic_class: u8,
    /// IPv6's flow label.
    pub flow_label: u32,
    /// It may not be cut on its way.
    pub dont_fragment: bool,
    /// IPv4's options, padded to a multiple of 4.
    pub options: &'a [u8],
    /// What goes to a group or to all is not for this machine, too.
    pub is_for_others_only: bool,
}

impl Default for Header<'_> {
    fn default() -> Self {
        const USUAL_HOPS: u8 = 64;
        Header {
            source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            protocol: 0,
            hop_limit: USUAL_HOPS,
            traffic_class: 0,
            flow_label: 0,
            dont_fragment: false,
            options: &[],
            is_for_others_only: false,
        }
    }
}

/// Sends a packet whose bytes begin with its transport's header.
///
/// # Errors
/// `EMSGSIZE`: it is longer than a packet can be, or than the path lets through and may not be cut; `EINVAL`: the addresses are not
/// of one family; `EHOSTUNREACH`, `ENOBUFS`, `ENOMEM`.
pub fn send(net: &Arc<NetState>, route: &Route, header: &Header<'_>, mut packet: Packet) -> Result<()> {
    match (header.source, header.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            net.ip.counters.v4(Count::OutRequests);
            let length = ipv4::HEADER + header.options.len() + packet.len();
            let fields = Ipv4 {
                tos: header.traffic_class,
                length,
                identification: if header.dont_fragment { 0 } else { next_identification(net) as u16 },
                dont_fragment: header.dont_fragment,
                more_fragments: false,
                offset: 0,
                ttl: header.hop_limit,
                protocol: header.protocol,
                source,
                destination,
                options: header.options,
            };
            let place = packet.push(fields.header_length())?;
            fields.write(place).map_err(|_| Errno::EMSGSIZE)?;
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            net.ip.counters.v6(Count::OutRequests);
            let fields = Ipv6 {
                traffic_class: header.traffic_class,
                flow_label: header.flow_label,
                payload_length: packet.len(),
                next_header: header.protocol,
                hop_limit: header.hop_limit,
                source,
                destination,
            };
            let bytes = fields.write().map_err(|_| Errno::EMSGSIZE)?;
            packet.push(ipv6::HEADER)?.copy_from_slice(&bytes);
        }
        _ => return Err(Errno::EINVAL),
    }
    let manner =
        Manner { dont_fragment: header.dont_fragment, is_for_others_only: header.is_for_others_only };
    emit(net, route, header.destination, manner, packet)
}

/// Sends a packet that has its header already (`IP_HDRINCL`). As [`send`]; `EINVAL`: it is none.
pub fn send_raw(net: &Arc<NetState>, route: &Route, packet: Packet) -> Result<()> {
    let bytes = packet.bytes();
    let (destination, dont_fragment) = match bytes.first().map(|first| first >> 4) {
        Some(4) => {
            let header = Ipv4::read_unchecked(bytes).map_err(|_| Errno::EINVAL)?;
            (header.destination.into(), header.dont_fragment)
        }
        Some(6) => (Ipv6::read_unchecked(bytes).map_err(|_| Errno::EINVAL)?.destination.into(), true),
        _ => return Err(Errno::EINVAL),
    };
    net.ip.counters.of(matches!(destination, IpAddr::V6(_)), Count::OutRequests);
    emit(net, route, destination, Manner { dont_fragment, is_for_others_only: false }, packet)
}

/// A number that tells fragments of one packet from those of others.
pub(crate) fn next_identification(net: &NetState) -> u32 {
    net.ip.identification.fetch_add(1, Ordering::Relaxed)
}

/// How a packet with its header goes out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// It may not be cut.
    pub(crate) dont_fragment: bool,
    /// It is not for this machine, too.
    pub(crate) is_for_others_only: bool,
}

/// Sends a packet with its header on a route.
pub(crate) fn emit(
    net: &Arc<NetState>,
    route: &Route,
    destination: IpAddr,
    manner: Manner,
    mut packet: Packet,
) -> Result<()> {
    let is_v6 = destination.is_ipv6();
    packet.protocol = if is_v6 { TYPE_IPV6 } else { TYPE_IPV4 };
    packet.mark_network_header();
    let cast = match route.kind {
        RouteKind::Unicast | RouteKind::Local => Cast::Unicast,
        RouteKind::Broadcast => Cast::Broadcast,
        RouteKind::Multicast => Cast::Multicast,
    };
    let is_heard = cast == Cast::Broadcast || (cast == Cast::Multicast && route.is_member);
    if is_heard && !manner.is_for_others_only && !route.device.is_loopback() {
        loop_back(route, cast, &packet);
    }
    if cast == Cast::Multicast && hop_limit(&packet) == 0 {
        return Ok(());
    }
    let counters = &net.ip.counters;
    counters.packet(is_v6, Count::OutTransmits, Count::OutOctets, packet.len());
    let next_hop = route.gateway.unwrap_or(destination);
    let hand_on = |packet: Packet| {
        let length = packet.len();
        match cast {
            Cast::Unicast => {}
            Cast::Multicast => {
                counters.packet(is_v6, Count::OutMulticasts, Count::OutMulticastOctets, length)
            }
            Cast::Broadcast => {
                counters.packet(is_v6, Count::OutBroadcasts, Count::OutBroadcastOctets, length)
            }
        }
        match neighbour::send(&route.device, next_hop, cast, packet) {
            // What is given to a device that is down is lost, and nobody is told (`noop_qdisc`).
            Err(Errno::ENETDOWN) => Ok(()),
            other => other,
        }
    };
    let mtu = route.mtu as usize;
    if packet.len() <= mtu {
        return hand_on(packet);
    }
    if manner.dont_fragment && !is_v6 {
        net.ip.counters.of(is_v6, Count::FragmentFailures);
        return Err(Errno::EMSGSIZE);
    }
    fragment::cut(net, packet, mtu, hand_on)
}

fn hop_limit(packet: &Packet) -> u8 {
    let place = if packet.protocol == TYPE_IPV6 { 7 } else { 8 };
    packet.bytes().get(place).copied().unwrap_or_default()
}

/// What goes to a group or to all comes to this machine, too.
fn loop_back(route: &Route, cast: Cast, packet: &Packet) {
    let mut copy = packet.clone();
    copy.kind = if cast == Cast::Broadcast { PacketKind::Broadcast } else { PacketKind::Multicast };
    copy.mark_link_header();
    traffic::loop_back(&route.device, copy);
}
