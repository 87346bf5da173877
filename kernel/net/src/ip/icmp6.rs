//! ICMPv6 (RFC 4443): echoes, and what is wrong with packets, told and heard; neighbour discovery goes to its module.
//!
//! Contexts and locks as in `icmp`.

use abi::errno::Result;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv6Addr};
use linnet_lib::wire::icmp::{self as wire, Icmp, v6};
use linnet_lib::wire::ipv6::{self, Extensions, Ipv6};

use super::counters::Count;
use super::input::{self, IcmpError, Received};
use super::neighbour::discovery;
use super::output::{self, Header};
use super::route::{self, Flow, RouteKind};
use super::{reports, sysctl};
use crate::namespace::NetState;
use crate::packet::{HEAD_ROOM, Packet, PacketKind};

/// A message with all it quotes fits every link.
const MOST: usize = 1280;
const USUAL_HOPS: u8 = 64;
const FIRST_INFORMATIONAL: u8 = 128;

/// A message to be sent.
pub(crate) struct Message<'a> {
    /// From whom; none: from the address of the way.
    pub(crate) from: Option<Ipv6Addr>,
    /// To whom.
    pub(crate) to: Ipv6Addr,
    /// Through this interface, 0 for any.
    pub(crate) output: i32,
    /// Hop limit; none: the usual.
    pub(crate) hop_limit: Option<u8>,
    /// Traffic class.
    pub(crate) traffic_class: u8,
    /// `SO_MARK`.
    pub(crate) mark: u32,
    /// The header and what follows it, without the checksum.
    pub(crate) parts: [&'a [u8]; 2],
}

/// Sends a message.
pub(crate) fn send(net: &Arc<NetState>, message: &Message<'_>) -> Result<()> {
    let flow = Flow {
        source: message.from.map(IpAddr::V6).filter(|from| !from.is_unspecified()),
        tos: message.traffic_class,
        protocol: wire::PROTOCOL_6,
        mark: message.mark,
        output: message.output,
        ..Flow::to(message.to.into())
    };
    let route = route::output(net, &flow)?;
    let [header, body] = message.parts;
    if header.first().is_some_and(|kind| is_limited(*kind)) && !may_tell(net, &route, message.to) {
        net.ip.counters.v6(Count::IcmpOutLimitedHost);
        return Ok(());
    }
    let chosen = match route.source {
        Some(IpAddr::V6(source)) => source,
        _ => Ipv6Addr::UNSPECIFIED,
    };
    let source = message.from.unwrap_or(chosen);
    let mut packet = Packet::with_room(HEAD_ROOM, header.len() + body.len())?;
    packet.append(header)?;
    packet.append(body)?;
    wire::seal_v6(packet.bytes_mut()?, source, message.to);
    packet.mark = message.mark;
    net.ip.counters.v6(Count::IcmpOut);
    let header = Header {
        source: source.into(),
        destination: message.to.into(),
        protocol: wire::PROTOCOL_6,
        hop_limit: message.hop_limit.or(route.hop_limit).unwrap_or(USUAL_HOPS),
        traffic_class: message.traffic_class,
        // What the kernel says to a group it need not hear.
        is_for_others_only: true,
        ..Header::default()
    };
    output::send(net, &route, &header, packet)
}

/// Tells the sender of a packet what is wrong at a place of it.
pub(crate) fn complain_at(net: &Arc<NetState>, about: &Packet, code: u8, place: usize) {
    complain(net, about, v6::PARAMETER_PROBLEM, code, place as u32);
}

/// Tells the sender of a packet (its network header is marked) what is wrong with it, where that is allowed (RFC 4443 section 2.4).
pub(crate) fn complain(net: &Arc<NetState>, about: &Packet, kind: u8, code: u8, info: u32) {
    let quoted = about.from_network_header();
    let Ok(header) = Ipv6::read_unchecked(quoted) else { return };
    let may_be_to_group =
        kind == v6::TOO_BIG || (kind == v6::PARAMETER_PROBLEM && code == v6::UNKNOWN_OPTION);
    let is_to_many = header.destination.is_multicast()
        || matches!(about.kind, PacketKind::Broadcast | PacketKind::Multicast);
    if is_to_many && !may_be_to_group {
        return;
    }
    if header.source.is_unspecified() || header.source.is_multicast() || is_about_error(&header, quoted) {
        return;
    }
    if is_limited(kind) && !super::icmp::take_from_all(net) {
        return net.ip.counters.v6(Count::IcmpOutLimited);
    }
    let own =
        super::address::kind_of(net, header.destination.into(), 0) == super::address::AddressKind::Local;
    let room = MOST - ipv6::HEADER - wire::HEADER;
    let needs_device = header.source.is_unicast_link_local();
    let device = about.device.as_ref().filter(|_| needs_device).map_or(0, |device| device.index());
    let first = Icmp { kind, code, rest: info.to_be_bytes() }.write();
    let _ = send(
        net,
        &Message {
            from: own.then_some(header.destination),
            to: header.source,
            output: device,
            hop_limit: None,
            traffic_class: header.traffic_class,
            mark: about.mark,
            parts: [&first, &quoted[..quoted.len().min(room)]],
        },
    );
}

/// Whether messages of this type are limited: errors are, but not what is said of paths that are narrow (the usual
/// `icmp/ratemask`).
fn is_limited(kind: u8) -> bool {
    kind < FIRST_INFORMATIONAL && kind != v6::TOO_BIG
}

/// Whether a destination may be told now: those of whole networks more often (`icmpv6_xrlim_allow`).
fn may_tell(net: &NetState, route: &route::Route, to: Ipv6Addr) -> bool {
    if route.device.is_loopback() {
        return true;
    }
    let interval = net.ip_number(sysctl::ICMP_RATELIMIT_6).max(0) as u64;
    let wider = u32::from(128 - route.prefix.length.min(128)) >> 5;
    net.ip.told.allow(to.into(), interval >> wider)
}

/// Whether a packet tells of an error itself, or is a fragment of which nobody can say.
fn is_about_error(header: &Ipv6, quoted: &[u8]) -> bool {
    let mut extensions = Extensions::new(header.next_header, quoted.get(ipv6::HEADER..).unwrap_or_default());
    while let Ok(Some(extension)) = extensions.step() {
        let is_later_fragment = extension.kind == ipv6::FRAGMENT
            && ipv6::Fragment::read(extension.bytes).is_ok_and(|found| found.offset != 0);
        if is_later_fragment {
            return true;
        }
    }
    let kind = quoted.get(ipv6::HEADER + extensions.offset());
    extensions.next_header() == wire::PROTOCOL_6
        && kind.is_none_or(|kind| *kind < FIRST_INFORMATIONAL || *kind == v6::REDIRECT)
}

/// A message came in; its bytes begin with the ICMPv6 header. Preemption is off.
pub(super) fn receive(packet: Packet, about: &Received) {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (about.source, about.destination) else { return };
    let counters = &about.net.ip.counters;
    counters.v6(Count::IcmpIn);
    let Ok(header) = Icmp::read_v6(packet.bytes(), source, destination) else {
        counters.v6(Count::IcmpInErrors);
        return counters.v6(Count::IcmpInChecksumErrors);
    };
    match header.kind {
        v6::ECHO => echo(packet, about, header, source, destination),
        v6::ECHO_REPLY => {
            crate::inet::ping::receive(&packet, about);
        }
        v6::UNREACHABLE | v6::TOO_BIG | v6::TIME_EXCEEDED | v6::PARAMETER_PROBLEM => {
            hear_error(&packet, about, header)
        }
        reports::QUERY_6 => reports::receive_query(about),
        v6::ROUTER_SOLICITATION..=v6::REDIRECT => discovery::receive(&packet, about, header.kind),
        _ => {}
    }
}

fn echo(packet: Packet, about: &Received, header: Icmp, source: Ipv6Addr, destination: Ipv6Addr) {
    let net = &about.net;
    let is_to_group = about.route_kind == RouteKind::Multicast;
    let is_ignored = net.ip_number(sysctl::ECHO_IGNORE_ALL_6) != 0
        || (is_to_group && net.ip_number(sysctl::ECHO_IGNORE_MULTICAST_6) != 0);
    if is_ignored || source.is_unspecified() {
        return;
    }
    let reply = Icmp { kind: v6::ECHO_REPLY, ..header }.write();
    let needs_device = source.is_unicast_link_local() || source.is_multicast();
    let message = Message {
        from: (!is_to_group).then_some(destination),
        to: source,
        output: if needs_device { about.device.index() } else { 0 },
        hop_limit: None,
        traffic_class: about.traffic_class,
        mark: 0,
        parts: [&reply, packet.bytes().get(wire::HEADER..).unwrap_or_default()],
    };
    let _ = send(net, &message);
}

/// Something sent from here did not arrive: whoever sent it is told.
fn hear_error(packet: &Packet, about: &Received, header: Icmp) {
    let net = &about.net;
    let quoted = packet.bytes().get(wire::HEADER..).unwrap_or_default();
    let Ok(inner) = Ipv6::read_unchecked(quoted) else {
        return net.ip.counters.v6(Count::IcmpInErrors);
    };
    let info = u32::from_be_bytes(header.rest);
    if header.kind == v6::TOO_BIG {
        route::note_path_mtu(net, inner.destination.into(), &about.device, info);
    }
    let mut extensions = Extensions::new(inner.next_header, quoted.get(ipv6::HEADER..).unwrap_or_default());
    while let Ok(Some(_)) = extensions.step() {}
    let error = IcmpError {
        net: net.clone(),
        source: inner.source.into(),
        destination: inner.destination.into(),
        offender: about.source,
        device: about.device.clone(),
        kind: header.kind,
        code: header.code,
        info,
    };
    let transport = quoted.get(ipv6::HEADER + extensions.offset()..).unwrap_or_default();
    input::tell_transport(&error, extensions.next_header(), transport);
}
