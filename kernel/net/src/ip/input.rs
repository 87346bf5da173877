//! Packets that came in: checked, then delivered here or sent on (`ip_rcv`, `ipv6_rcv`).
//!
//! Key types: [`Received`] (what transports are told with a packet), [`IcmpError`] (what they are told of what they sent), the table
//! [`TRANSPORTS`]. Preemption is off throughout; no locks. Neighbours: `forward`, `fragment`, `icmp`, `icmp6`.

use alloc::sync::Arc;
use core::net::IpAddr;
use linnet_lib::wire::ipv4::{self, Ipv4};
use linnet_lib::wire::ipv6::{self, Extensions, Ipv6, Unknown};
use linnet_lib::wire::{WireError, icmp as wire_icmp, udp as wire_udp};

use super::counters::Count;
use super::icmp::{self, Complaint};
use super::route::{self, Flow, Route, RouteKind};
use super::{forward, fragment, icmp6, reports};
use crate::device::NetDevice;
use crate::namespace::NetState;
use crate::packet::{Packet, PacketKind};

/// What is known of a packet that came in, beside its bytes.
#[derive(Clone)]
pub struct Received {
    /// Whose it is.
    pub net: Arc<NetState>,
    /// From whom.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// TTL or hop limit that it came with.
    pub hop_limit: u8,
    /// TOS or traffic class.
    pub traffic_class: u8,
    /// Local, broadcast or multicast.
    pub route_kind: RouteKind,
    /// Through which device.
    pub device: Arc<NetDevice>,
    /// `IPPROTO_*` of its transport.
    pub protocol: u8,
}

/// Somebody says that something sent from here did not arrive.
#[derive(Clone)]
pub struct IcmpError {
    /// Whose it is.
    pub net: Arc<NetState>,
    /// Our address: the source of what was sent.
    pub source: IpAddr,
    /// Where it was sent.
    pub destination: IpAddr,
    /// Who says so.
    pub offender: IpAddr,
    /// Through which device that came.
    pub device: Arc<NetDevice>,
    /// ICMP's type.
    pub kind: u8,
    /// ICMP's code.
    pub code: u8,
    /// The MTU and the like.
    pub info: u32,
}

/// A transport protocol: both run with preemption off.
pub(crate) struct Transport {
    /// Its number.
    pub(crate) protocol: u8,
    /// A packet for it came in; its bytes begin with the transport's header.
    pub(crate) receive: fn(Packet, &Received),
    /// What is quoted of a packet of ours begins with the transport's header.
    pub(crate) error: fn(&IcmpError, &[u8]),
}

/// Those above IPv4 and IPv6, without ICMP.
pub(crate) const TRANSPORTS: &[Transport] = &[
    Transport {
        protocol: wire_udp::PROTOCOL,
        receive: crate::inet::udp::receive,
        error: crate::inet::udp::error,
    },
    Transport { protocol: reports::PROTOCOL, receive: reports::receive_igmp, error: reports::ignore_error },
];

fn transport(protocol: u8) -> Option<&'static Transport> {
    TRANSPORTS.iter().find(|transport| transport.protocol == protocol)
}

/// A packet of IPv4; its bytes begin with its header.
pub(crate) fn receive_v4(mut packet: Packet) {
    let Some(device) = packet.device.clone() else { return };
    let net = device.namespace();
    if packet.kind == PacketKind::OtherHost {
        return;
    }
    net.ip.counters.packet(false, Count::InReceives, Count::InOctets, packet.len());
    packet.mark_network_header();
    let header = match Ipv4::read(packet.bytes()) {
        Ok(header) => header,
        Err(error) => {
            if error == WireError::Checksum {
                net.ip.counters.v4(Count::InChecksumErrors);
            }
            let what = if error == WireError::Short { Count::InTruncated } else { Count::InHeaderErrors };
            return net.ip.counters.v4(what);
        }
    };
    net.ip.counters.v4(Count::of_congestion(header.tos));
    let length = header.length;
    let flow = Flow {
        source: Some(header.source.into()),
        tos: header.tos,
        mark: packet.mark,
        protocol: header.protocol,
        ports: if header.is_fragment() {
            (0, 0)
        } else {
            ports(&packet, header.header_length(), header.protocol)
        },
        ..Flow::to(header.destination.into())
    };
    let has_options = !header.options.is_empty();
    if has_options && !may_have_options(&net, &device, header.options) {
        return net.ip.counters.v4(Count::InHeaderErrors);
    }
    packet.truncate(length);
    if packet.shrink().is_err() {
        return net.ip.counters.v4(Count::InDiscards);
    }
    let route = route::input(&net, &device, &flow);
    if let Ok(route) = &route {
        count_cast(&net, false, route, length);
        if has_options && !super::options::note(&net, &device, route, &mut packet) {
            return net.ip.counters.v4(Count::InHeaderErrors);
        }
    }
    match route {
        Ok(route) if route.kind == RouteKind::Unicast => forward::forward_v4(&net, &device, &route, packet),
        Ok(route) => deliver_v4(net, &device, &route, packet),
        Err(errno) => forward::refuse_v4(&net, &device, errno, &packet),
    }
}

/// The ports of a packet whose transport's header is `offset` bytes in it, for rules and for the choice among several ways.
fn ports(packet: &Packet, offset: usize, protocol: u8) -> (u16, u16) {
    const TCP: u8 = 6;
    const DCCP: u8 = 33;
    const SCTP: u8 = 132;
    const UDPLITE: u8 = 136;
    let has_ports = matches!(protocol, TCP | wire_udp::PROTOCOL | DCCP | SCTP | UDPLITE);
    match packet.bytes().get(offset..).and_then(|bytes| bytes.first_chunk::<4>()) {
        Some(&[a, b, c, d]) if has_ports => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        _ => (0, 0),
    }
}

/// Counts a packet to many.
fn count_cast(net: &NetState, is_v6: bool, route: &Route, length: usize) {
    let counters = &net.ip.counters;
    match route.kind {
        RouteKind::Multicast => {
            counters.packet(is_v6, Count::InMulticasts, Count::InMulticastOctets, length);
        }
        RouteKind::Broadcast => {
            counters.packet(is_v6, Count::InBroadcasts, Count::InBroadcastOctets, length);
        }
        RouteKind::Local | RouteKind::Unicast => {}
    }
}

/// Options that would change where a packet goes are only for those who want that.
fn may_have_options(net: &NetState, device: &NetDevice, options: &[u8]) -> bool {
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    let takes_routes = || {
        use super::config::v4::ACCEPT_SOURCE_ROUTE as WHICH;
        net.ip.control.all4.is_on(WHICH) && device.ip().is_some_and(|ip| ip.settings4.is_on(WHICH))
    };
    ipv4::options(options).all(|option| match option {
        Ok((LOOSE | STRICT, _)) => takes_routes(),
        Ok(_) => true,
        Err(_) => false,
    })
}

/// A packet of IPv4 for this machine.
fn deliver_v4(net: Arc<NetState>, device: &Arc<NetDevice>, route: &Route, mut packet: Packet) {
    if Ipv4::read_unchecked(packet.bytes()).is_ok_and(|header| header.is_fragment()) {
        match fragment::collect_v4(&net, device, packet) {
            Some(whole) => packet = whole,
            None => return,
        }
    }
    let Ok(header) = Ipv4::read_unchecked(packet.bytes()) else { return };
    let received = Received {
        source: header.source.into(),
        destination: header.destination.into(),
        hop_limit: header.ttl,
        traffic_class: header.tos,
        route_kind: route.kind,
        device: device.clone(),
        protocol: header.protocol,
        net,
    };
    let header_length = header.header_length();
    if packet.pull(header_length).is_none() {
        return;
    }
    let was_taken = crate::inet::raw::receive(&packet, &received, received.protocol);
    let counters = &received.net.ip.counters;
    if received.protocol == wire_icmp::PROTOCOL_4 {
        counters.v4(Count::InDelivers);
        icmp::receive(packet, &received);
    } else if let Some(transport) = transport(received.protocol) {
        counters.v4(Count::InDelivers);
        (transport.receive)(packet, &received);
    } else if was_taken {
        counters.v4(Count::InDelivers);
    } else {
        counters.v4(Count::InUnknownProtocols);
        icmp::complain(&received.net, &packet, Complaint::NoProtocol);
    }
}

/// A packet of IPv6; its bytes begin with its header.
pub(crate) fn receive_v6(mut packet: Packet) {
    let Some(device) = packet.device.clone() else { return };
    let net = device.namespace();
    if packet.kind == PacketKind::OtherHost {
        return;
    }
    net.ip.counters.packet(true, Count::InReceives, Count::InOctets, packet.len());
    packet.mark_network_header();
    let header = match Ipv6::read(packet.bytes()) {
        Ok(header) => header,
        Err(error) => {
            let what = if error == WireError::Short { Count::InTruncated } else { Count::InHeaderErrors };
            return net.ip.counters.v6(what);
        }
    };
    if !is_possible(&header, &device) {
        return net.ip.counters.v6(Count::InHeaderErrors);
    }
    net.ip.counters.v6(Count::of_congestion(header.traffic_class));
    packet.truncate(ipv6::HEADER + header.payload_length);
    if packet.shrink().is_err() {
        return net.ip.counters.v6(Count::InDiscards);
    }
    if header.next_header == ipv6::HOP_BY_HOP && !passes_options(&net, &packet, header.next_header) {
        return;
    }
    let flow = Flow {
        source: Some(header.source.into()),
        tos: header.traffic_class,
        mark: packet.mark,
        protocol: header.next_header,
        ports: ports(&packet, ipv6::HEADER, header.next_header),
        ..Flow::to(header.destination.into())
    };
    let route = route::input(&net, &device, &flow);
    if let Ok(route) = &route {
        count_cast(&net, true, route, packet.len());
    }
    match route {
        Ok(route) if route.kind == RouteKind::Unicast => forward::forward_v6(&net, &device, &route, packet),
        Ok(route) if route.kind == RouteKind::Multicast && !route.is_member => {
            net.ip.counters.v6(Count::InDiscards);
        }
        Ok(route) => deliver_v6(net, &device, &route, packet),
        Err(errno) => forward::refuse_v6(&net, &device, errno, &packet),
    }
}

/// Whether a packet with these addresses can be on this link (`ip6_rcv_core`).
fn is_possible(header: &Ipv6, device: &NetDevice) -> bool {
    let (source, destination) = (header.source, header.destination);
    let is_loop = source.is_loopback() || destination.is_loopback();
    let is_interface_local = destination.is_multicast() && destination.octets()[1] & 0xf <= 1;
    !source.is_multicast()
        && (device.is_loopback() || !(is_loop || is_interface_local))
        && !(destination.is_multicast() && destination.octets()[1] & 0xf == 0)
}

/// Looks at the options of the first extension header; drops the packet where they ask for it.
fn passes_options(net: &Arc<NetState>, packet: &Packet, next_header: u8) -> bool {
    const KNOWN: &[u8] = &[5, 0xc2, 7, 0x31, 201, 4];
    let payload = packet.bytes().get(ipv6::HEADER..).unwrap_or_default();
    let mut extensions = Extensions::new(next_header, payload);
    let Ok(Some(extension)) = extensions.step() else {
        net.ip.counters.v6(Count::InHeaderErrors);
        return false;
    };
    let is_to_group = Ipv6::read(packet.bytes()).is_ok_and(|header| header.destination.is_multicast());
    match ipv6::check_options(extension.bytes, KNOWN) {
        Ok(Unknown::Skip) => return true,
        Ok(Unknown::Report(at)) => {
            icmp6::complain_at(net, packet, wire_icmp::v6::UNKNOWN_OPTION, ipv6::HEADER + at)
        }
        Ok(Unknown::ReportUnlessGroup(at)) if !is_to_group => {
            icmp6::complain_at(net, packet, wire_icmp::v6::UNKNOWN_OPTION, ipv6::HEADER + at);
        }
        _ => {}
    }
    net.ip.counters.v6(Count::InHeaderErrors);
    false
}

/// A packet of IPv6 for this machine.
fn deliver_v6(net: Arc<NetState>, device: &Arc<NetDevice>, route: &Route, packet: Packet) {
    let Some((mut packet, protocol, offset)) = transport_of(&net, device, packet) else { return };
    let Ok(header) = Ipv6::read_unchecked(packet.bytes()) else { return };
    let received = Received {
        source: header.source.into(),
        destination: header.destination.into(),
        hop_limit: header.hop_limit,
        traffic_class: header.traffic_class,
        route_kind: route.kind,
        device: device.clone(),
        protocol,
        net,
    };
    let counters = &received.net.ip.counters;
    if packet.pull(ipv6::HEADER + offset).is_none() {
        return counters.v6(Count::InHeaderErrors);
    }
    let was_taken = crate::inet::raw::receive(&packet, &received, protocol);
    if protocol == wire_icmp::PROTOCOL_6 {
        counters.v6(Count::InDelivers);
        icmp6::receive(packet, &received);
    } else if let Some(transport) = transport(protocol) {
        counters.v6(Count::InDelivers);
        (transport.receive)(packet, &received);
    } else if was_taken || protocol == ipv6::NO_NEXT {
        counters.v6(Count::InDelivers);
    } else {
        counters.v6(Count::InUnknownProtocols);
        // The place of the field that says what is not known: in the header itself, or first in the last extension.
        let place = last_next_header(&packet, offset);
        icmp6::complain_at(&received.net, &packet, wire_icmp::v6::UNKNOWN_NEXT_HEADER, place);
    }
}

fn last_next_header(packet: &Packet, offset: usize) -> usize {
    const FIELD: usize = 6;
    let whole = packet.from_network_header();
    let Ok(header) = Ipv6::read_unchecked(whole) else { return FIELD };
    let mut extensions = Extensions::new(header.next_header, whole.get(ipv6::HEADER..).unwrap_or_default());
    let mut place = FIELD;
    while extensions.offset() < offset {
        let at = extensions.offset();
        match extensions.step() {
            Ok(Some(_)) => place = ipv6::HEADER + at,
            _ => break,
        }
    }
    place
}

/// Goes through the extension headers, putting fragments together: the packet, its transport and where that begins behind the header.
fn transport_of(
    net: &Arc<NetState>,
    device: &Arc<NetDevice>,
    mut packet: Packet,
) -> Option<(Packet, u8, usize)> {
    let refuse = |count| {
        net.ip.counters.v6(count);
        None
    };
    // Once for the packet, once for what fragments made.
    for _ in 0..2 {
        let header = Ipv6::read_unchecked(packet.bytes()).ok()?;
        let payload = packet.bytes().get(ipv6::HEADER..).unwrap_or_default();
        let mut extensions = Extensions::new(header.next_header, payload);
        let mut fragment = None;
        loop {
            let offset = extensions.offset();
            let field = ipv6::HEADER + offset;
            match extensions.step() {
                Ok(None) => break,
                Ok(Some(extension)) if extension.kind == ipv6::FRAGMENT => {
                    fragment = Some(offset);
                    break;
                }
                Ok(Some(extension)) if extension.kind == ipv6::DESTINATION => {
                    match ipv6::check_options(extension.bytes, &[4, 201]) {
                        Ok(Unknown::Skip) => {}
                        Ok(Unknown::Report(at)) | Ok(Unknown::ReportUnlessGroup(at)) => {
                            icmp6::complain_at(net, &packet, wire_icmp::v6::UNKNOWN_OPTION, field + at);
                            return refuse(Count::InHeaderErrors);
                        }
                        _ => return refuse(Count::InHeaderErrors),
                    }
                }
                // Segments left: nobody here sends packets on by them (RFC 5095).
                Ok(Some(extension)) if extension.kind == ipv6::ROUTING && extension.bytes[3] != 0 => {
                    icmp6::complain_at(net, &packet, wire_icmp::v6::BAD_FIELD, field + 2);
                    return refuse(Count::InHeaderErrors);
                }
                // Only the first may be one.
                Ok(Some(extension)) if extension.kind == ipv6::HOP_BY_HOP && offset != 0 => {
                    return refuse(Count::InHeaderErrors);
                }
                Ok(Some(_)) => {}
                Err(_) => return refuse(Count::InHeaderErrors),
            }
        }
        let Some(offset) = fragment else {
            let (protocol, offset) = (extensions.next_header(), extensions.offset());
            return Some((packet, protocol, offset));
        };
        packet = fragment::collect_v6(net, device, packet, offset)?;
    }
    refuse(Count::InHeaderErrors)
}

/// What is quoted of a packet of ours, from its transport on, goes to the transport.
pub(crate) fn tell_transport(error: &IcmpError, protocol: u8, quoted: &[u8]) {
    crate::inet::raw::error(error, protocol, quoted);
    let echo = if error.source.is_ipv6() { wire_icmp::PROTOCOL_6 } else { wire_icmp::PROTOCOL_4 };
    if protocol == echo {
        crate::inet::ping::error(error, quoted);
    } else if let Some(transport) = transport(protocol) {
        (transport.error)(error, quoted);
    }
}

/// Nobody listens at the port that a packet was for: who sent it is told.
pub(crate) fn refuse_port(packet: &Packet, about: &Received) {
    if about.source.is_ipv6() {
        icmp6::complain(&about.net, packet, wire_icmp::v6::UNREACHABLE, wire_icmp::v6::PORT_UNREACHABLE, 0);
    } else {
        icmp::complain(&about.net, packet, Complaint::NoPort);
    }
}
