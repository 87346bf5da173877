//! ICMP (RFC 792, RFC 1122 section 3.2.2): echoes, and what is wrong with packets, told and heard.
//!
//! Key type: [`Complaint`]. Preemption is off in receivers; complaints may come from any context. Locks: none of its own.
//! Neighbour: `limits` says how often others may be told.

use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr};
use linnet_lib::wire::icmp::{self as wire, Icmp, v4};
use linnet_lib::wire::ipv4::{self, Ipv4};
use linnet_lib::wire::ipv4_options::{Bytes, Surroundings};

use super::address::{AddressKind, inet, kind_of};
use super::config::v4 as settings;
use super::counters::Count;
use super::input::{self, IcmpError, Received};
use super::options;
use super::output::{self, Header};
use super::route::{self, Flow, RouteKind};
use super::sysctl;
use crate::namespace::NetState;
use crate::packet::{HEAD_ROOM, Packet, PacketKind};

/// Bytes of a message with what it quotes and its IP header at most (RFC 1812 section 4.3.2.3).
const MOST: usize = 576;

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// No route.
    NoNetwork,
    /// Nobody there, or no way to it.
    NoHost,
    /// Nobody speaks its protocol.
    NoProtocol,
    /// Nobody listens at its port.
    NoPort,
    /// It needs cutting for a link of this MTU, and may not be cut.
    TooBig(u32),
    /// An administrator does not want it.
    Prohibited,
    /// It passed too many routers.
    TtlExceeded,
    /// Its other parts did not come.
    ReassemblyExceeded,
    /// It should have gone there directly.
    Redirect(Ipv4Addr),
}

impl Complaint {
    fn header(self) -> Icmp {
        let (kind, code, rest) = match self {
            Complaint::NoNetwork => (v4::UNREACHABLE, v4::NET_UNREACHABLE, [0; 4]),
            Complaint::NoHost => (v4::UNREACHABLE, v4::HOST_UNREACHABLE, [0; 4]),
            Complaint::NoProtocol => (v4::UNREACHABLE, v4::PROTOCOL_UNREACHABLE, [0; 4]),
            Complaint::NoPort => (v4::UNREACHABLE, v4::PORT_UNREACHABLE, [0; 4]),
            Complaint::TooBig(mtu) => (v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED, mtu.to_be_bytes()),
            Complaint::Prohibited => (v4::UNREACHABLE, v4::PROHIBITED, [0; 4]),
            Complaint::TtlExceeded => (v4::TIME_EXCEEDED, v4::TTL_EXCEEDED, [0; 4]),
            Complaint::ReassemblyExceeded => (v4::TIME_EXCEEDED, v4::REASSEMBLY_EXCEEDED, [0; 4]),
            Complaint::Redirect(gateway) => (v4::REDIRECT, 1, gateway.octets()),
        };
        Icmp { kind, code, rest }
    }
}

/// Tells the sender of a packet (its network header is marked) what is wrong with it, where that is allowed (RFC 1122 section 3.2.2).
pub(crate) fn complain(net: &Arc<NetState>, about: &Packet, complaint: Complaint) {
    let quoted = about.from_network_header();
    let Ok(header) = Ipv4::read_unchecked(quoted) else { return };
    if matches!(about.kind, PacketKind::Broadcast | PacketKind::Multicast) || header.offset != 0 {
        return;
    }
    if header.protocol == wire::PROTOCOL_4
        && is_about_error(quoted.get(header.header_length()..).unwrap_or_default())
    {
        return;
    }
    let has_sender = !header.source.is_unspecified() && !header.source.is_multicast();
    let destination = kind_of(net, header.destination.into(), 0);
    if !has_sender || matches!(destination, AddressKind::Broadcast | AddressKind::Multicast) {
        return;
    }
    let said = complaint.header();
    if !may_be_told(net, said.kind, said.code) {
        return net.ip.counters.v4(Count::IcmpOutLimited);
    }
    // From the address that it was sent to, if that is ours, else from that of the way back.
    let own = (destination == AddressKind::Local).then_some(header.destination);
    // Routing and control: what errors have.
    const INTERNETWORK_CONTROL: u8 = 0xc0;
    let tos = header.tos & 0x1e | INTERNETWORK_CONTROL;
    let room = MOST - ipv4::HEADER - wire::HEADER;
    let message = Message {
        to: header.source,
        from: own,
        tos,
        mark: about.mark,
        header: said,
        body: &quoted[..quoted.len().min(room)],
        options: header.options,
    };
    let _ = send(net, &message);
}

/// Whether a message of ICMP, as much as there is of it, tells of an error: nobody complains of those.
fn is_about_error(message: &[u8]) -> bool {
    !matches!(
        message.first(),
        Some(&(v4::ECHO | v4::ECHO_REPLY | v4::TIMESTAMP | v4::TIMESTAMP_REPLY | 9 | 10 | 15..=18 | 42 | 43))
    )
}

/// Whether `icmp_ratemask` says that messages like this are limited; what is said of paths that are narrow never is.
fn is_limited(net: &NetState, kind: u8, code: u8) -> bool {
    let is_about_path = (kind, code) == (v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED);
    let mask = net.ip_number(sysctl::ICMP_RATEMASK_4) as u32;
    kind < 32 && !is_about_path && mask & 1 << kind != 0
}

/// Whether there is room for one more message of this namespace.
fn may_be_told(net: &NetState, kind: u8, code: u8) -> bool {
    !is_limited(net, kind, code) || take_from_all(net)
}

/// One more of the messages of both families that `icmp_msgs_per_sec` and `icmp_msgs_burst` allow.
pub(super) fn take_from_all(net: &NetState) -> bool {
    let number = |which| net.ip_number(which).max(0) as u64;
    net.ip.errors_to_send.take(number(sysctl::ICMP_PER_SECOND), number(sysctl::ICMP_AT_ONCE))
}

/// A message to be sent.
struct Message<'a> {
    to: Ipv4Addr,
    /// None: as routing says.
    from: Option<Ipv4Addr>,
    tos: u8,
    mark: u32,
    header: Icmp,
    body: &'a [u8],
    /// Of the packet that it answers.
    options: &'a [u8],
}

/// Sends a message.
fn send(net: &Arc<NetState>, message: &Message<'_>) -> abi::errno::Result<()> {
    let Message { to, from, tos, mark, header, body, .. } = *message;
    let flow =
        Flow { source: from.map(IpAddr::V4), tos, protocol: wire::PROTOCOL_4, mark, ..Flow::to(to.into()) };
    let route = route::output(net, &flow)?;
    if is_limited(net, header.kind, header.code) && !route.device.is_loopback() {
        let interval = net.ip_number(sysctl::ICMP_RATELIMIT_4).max(0) as u64;
        if !net.ip.told.allow(to.into(), interval) {
            net.ip.counters.v4(Count::IcmpOutLimitedHost);
            return Ok(());
        }
    }
    let source = flow.source.or(route.source).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let mut packet = Packet::with_room(HEAD_ROOM, wire::HEADER + body.len())?;
    packet.append(&header.write())?;
    packet.append(body)?;
    wire::seal(packet.bytes_mut()?);
    packet.mark = mark;
    net.ip.counters.v4(Count::IcmpOut);
    let hop_limit = u8::try_from(net.ip_number(sysctl::DEFAULT_TTL)).unwrap_or(u8::MAX);
    let hop_limit = route.hop_limit.unwrap_or(hop_limit);
    let options = match (options::answer(net, message.options), source) {
        (Some(asked), IpAddr::V4(own)) => {
            let time_ms = options::milliseconds();
            asked.fill(to, &Surroundings { own, time_ms, is_elsewhere: &|_| false })
        }
        _ => Bytes::new(),
    };
    let header = Header {
        source,
        destination: to.into(),
        protocol: wire::PROTOCOL_4,
        hop_limit,
        traffic_class: tos,
        options: &options,
        ..Header::default()
    };
    output::send(net, &route, &header, packet)
}

/// The options of a packet whose network header is marked.
fn options_of(packet: &Packet) -> &[u8] {
    Ipv4::read_unchecked(packet.from_network_header()).map_or(&[], |header| header.options)
}

/// A message came in; its bytes begin with the ICMP header. Preemption is off.
pub(super) fn receive(packet: Packet, about: &Received) {
    let counters = &about.net.ip.counters;
    counters.v4(Count::IcmpIn);
    let Ok(header) = Icmp::read(packet.bytes()) else {
        counters.v4(Count::IcmpInErrors);
        return counters.v4(Count::IcmpInChecksumErrors);
    };
    let is_to_many = about.route_kind != RouteKind::Local;
    match header.kind {
        v4::ECHO if ignores_echo(&about.net, is_to_many) => {}
        v4::ECHO => answer(packet, about, Icmp { kind: v4::ECHO_REPLY, ..header }),
        v4::ECHO_REPLY => {
            crate::inet::ping::receive(&packet, about);
        }
        v4::TIMESTAMP if !is_to_many && packet.len() >= 20 => answer_timestamp(packet, about, header),
        v4::UNREACHABLE | v4::TIME_EXCEEDED | v4::PARAMETER_PROBLEM | v4::SOURCE_QUENCH | v4::REDIRECT => {
            hear_error(&packet, about, header);
        }
        _ => {}
    }
}

fn ignores_echo(net: &NetState, is_to_many: bool) -> bool {
    net.ip_number(sysctl::ECHO_IGNORE_ALL_4) != 0
        || (is_to_many && net.ip_number(sysctl::ECHO_IGNORE_BROADCASTS) != 0)
}

fn own_address(about: &Received) -> Option<Ipv4Addr> {
    match about.destination {
        IpAddr::V4(address) if about.route_kind == RouteKind::Local => Some(address),
        _ => None,
    }
}

fn answer(packet: Packet, about: &Received, header: Icmp) {
    let IpAddr::V4(to) = about.source else { return };
    if !may_be_told(&about.net, header.kind, header.code) {
        return about.net.ip.counters.v4(Count::IcmpOutLimited);
    }
    let body = packet.bytes().get(wire::HEADER..).unwrap_or_default();
    reply(&packet, about, to, header, body);
}

/// The times of arrival and of the answer, in milliseconds since midnight (RFC 792).
fn answer_timestamp(packet: Packet, about: &Received, header: Icmp) {
    let IpAddr::V4(to) = about.source else { return };
    let now = options::milliseconds();
    let Some(asked) = packet.bytes().get(8..12) else { return };
    let mut body = [0; 12];
    body[..4].copy_from_slice(asked);
    body[4..8].copy_from_slice(&now.to_be_bytes());
    body[8..].copy_from_slice(&now.to_be_bytes());
    reply(&packet, about, to, Icmp { kind: v4::TIMESTAMP_REPLY, ..header }, &body);
}

/// Answers a message, with the options that it came with.
fn reply(packet: &Packet, about: &Received, to: Ipv4Addr, header: Icmp, body: &[u8]) {
    let (from, tos) = (own_address(about), about.traffic_class);
    let message = Message { to, from, tos, mark: 0, header, body, options: options_of(packet) };
    let _ = send(&about.net, &message);
}

/// Something sent from here did not arrive: whoever sent it is told.
fn hear_error(packet: &Packet, about: &Received, header: Icmp) {
    let net = &about.net;
    let quoted = packet.bytes().get(wire::HEADER..).unwrap_or_default();
    let Ok(inner) = Ipv4::read_unchecked(quoted) else {
        return net.ip.counters.v4(Count::IcmpInErrors);
    };
    let mut info = 0;
    if header.kind == v4::UNREACHABLE && header.code == v4::FRAGMENTATION_NEEDED {
        info = u32::from(u16::from_be_bytes([header.rest[2], header.rest[3]]));
        if info != 0 && net.ip_number(sysctl::NO_PMTU_DISCOVERY) == 0 {
            route::note_path_mtu(net, inner.destination.into(), &about.device, info);
        }
    }
    if header.kind == v4::REDIRECT {
        hear_redirect(about, &inner, header);
    }
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
    input::tell_transport(&error, inner.protocol, quoted.get(inner.header_length()..).unwrap_or_default());
}

/// A router says that another is better: believed only of the one that we use, and of another that is on the same link
/// (`__ip_do_redirect`).
fn hear_redirect(about: &Received, inner: &Ipv4<'_>, header: Icmp) {
    const CODES: u8 = 4;
    let (net, device, new) = (&about.net, &about.device, Ipv4Addr::from(header.rest));
    let IpAddr::V4(old) = about.source else { return };
    let Some(ip) = device.ip() else { return };
    let own = |which| ip.settings4.is_on(which);
    let all = |which| net.ip.control.all4.is_on(which);
    let accepts = if own(settings::FORWARDING) {
        own(settings::ACCEPT_REDIRECTS) && all(settings::ACCEPT_REDIRECTS)
    } else {
        own(settings::ACCEPT_REDIRECTS) || all(settings::ACCEPT_REDIRECTS)
    };
    let is_nobody = new.is_multicast() || new == Ipv4Addr::BROADCAST || new.octets()[0] == 0;
    if header.code >= CODES || new == old || !accepts || is_nobody {
        return;
    }
    if own(settings::SHARED_MEDIA) || all(settings::SHARED_MEDIA) {
        if kind_of(net, new.into(), 0) != AddressKind::Other {
            return;
        }
    } else {
        let are_neighbours = inet::is_on_link(&ip, new, old);
        let is_secure = own(settings::SECURE_REDIRECTS) || all(settings::SECURE_REDIRECTS);
        if !are_neighbours || (is_secure && !route::is_default_router(net, device, new.into())) {
            return;
        }
    }
    let flow =
        Flow { source: Some(inner.source.into()), tos: inner.tos, ..Flow::to(inner.destination.into()) };
    let is_ours = route::output(net, &flow)
        .is_ok_and(|route| Arc::ptr_eq(&route.device, device) && route.gateway == Some(old.into()));
    if is_ours {
        route::note_redirect(net, inner.destination.into(), new.into(), device);
    }
}
