//! UDP (RFC 768, udp(7)): datagrams between ports.
//!
//! Locks: none; the tables' and the queues' are leaves. Packets come with preemption off.

use abi::errno::{Errno, Result};
use abi::inet::*;
use alloc::sync::Arc;
use linnet_lib::wire::Sum;
use linnet_lib::wire::udp::{self as wire, Udp};
use machine::sync::Lazy;

use super::address::{Endpoint, code};
use super::counters::{UdpCounters, count};
use super::errors;
use super::network::Received;
use super::receive::{About, deliver};
use super::send::{Plan, finish};
use super::settings::Flag;
use super::socket::InetSocket;
use super::table::Wanted;
use crate::ip::input::IcmpError;
use crate::ip::route::RouteKind;
use crate::options::Switches;
use crate::packet::Packet;

/// Bytes of the header.
pub const HEADER: usize = 8;

/// Sends one datagram. `ENOBUFS`, and what the layers below say.
pub fn transmit(socket: &Arc<InetSocket>, plan: &Plan, mut packet: Packet) -> Result<()> {
    let length = (packet.len() + HEADER) as u16;
    let port = socket.endpoints().port;
    let header = packet.push(HEADER)?;
    header[..2].copy_from_slice(&port.to_be_bytes());
    header[2..4].copy_from_slice(&plan.remote.port.to_be_bytes());
    header[4..6].copy_from_slice(&length.to_be_bytes());
    header[6..8].fill(0);
    let (source, destination) = (plan.way.source(), plan.way.destination());
    let unchecked = match destination.is_ipv4() {
        true => socket.core().options.has(Switches::NO_CHECK),
        false => socket.settings.has(Flag::NO_CHECKSUM_SEND),
    };
    if !unchecked {
        // What stays on the machine is not summed up; as on Linux the sum of the pseudo-header is in its place.
        let sum = if plan.way.route().device.is_loopback() {
            !Sum::of_pseudo_header(source, destination, IPPROTO_UDP, packet.len()).finish()
        } else {
            wire::sum(packet.bytes(), source, destination)
        };
        packet.bytes_mut()?[6..8].copy_from_slice(&sum.to_be_bytes());
        packet.is_checked = true;
    }
    finish(socket, plan, packet)?;
    let counters = &socket.core().namespace().inet().counters;
    count(&counters[usize::from(destination.is_ipv6())].sent);
    Ok(())
}

/// A hash of who talks to whom, that nobody outside can foresee.
fn hash(wanted: &Wanted) -> u32 {
    static KEY: Lazy<u64> = Lazy::new(|| machine::random::next_u64() | 1);
    let parts = [
        code(wanted.local) as u64,
        code(wanted.remote) as u64,
        (code(wanted.local) >> 64) as u64 ^ (code(wanted.remote) >> 64) as u64,
        u64::from(wanted.port) << 16 | u64::from(wanted.remote_port),
    ];
    let mixed = parts.iter().fold(*KEY, |mixed, part| {
        let mixed = (mixed ^ part).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ mixed >> 32
    });
    (mixed.wrapping_mul(*KEY) >> 32) as u32
}

/// What a packet's length and checksum say: its header if it is right, cut to its length.
fn check(packet: &mut Packet, received: &Received, counters: &UdpCounters) -> Option<Udp> {
    let header = Udp::read_unchecked(packet.bytes()).ok().filter(|_| packet.len() >= HEADER);
    // A length of 0 is a jumbogram's, which has IPv6's (RFC 2675).
    let length = header.map(|header| match header.length {
        0 if received.source.is_ipv6() => packet.len(),
        length => length,
    });
    let fits = length.filter(|length| (HEADER..=packet.len()).contains(length));
    let (Some(header), Some(length)) = (header, fits) else {
        count(&counters.errors);
        return None;
    };
    packet.truncate(length);
    let is_right = header.checksum == 0
        || packet.is_checked
        || wire::is_right(packet.bytes(), received.source, received.destination);
    if !is_right {
        count(&counters.checksums);
        count(&counters.errors);
        return None;
    }
    Some(header)
}

/// Whether a datagram without a checksum is for this socket: IPv6 demands one unless the program does not (RFC 6936).
fn takes_unchecked(socket: &InetSocket, packet: &Packet, received: &Received) -> bool {
    let has_sum = packet.bytes().get(6..8).is_some_and(|sum| sum != [0, 0]);
    has_sum || received.source.is_ipv4() || socket.settings.has(Flag::NO_CHECKSUM_RECEIVE)
}

/// A datagram came in; its bytes begin with the UDP header. Preemption is off.
pub fn receive(mut packet: Packet, received: &Received) {
    let counters = &received.net.inet().counters[usize::from(received.source.is_ipv6())];
    let Some(Udp { source, destination, .. }) = check(&mut packet, received, counters) else { return };
    let wanted = Wanted {
        local: received.destination,
        port: destination,
        remote: received.source,
        remote_port: source,
        device: received.device.index(),
    };
    let about = About::new(&packet, received, (source, destination));
    let table = &received.net.inet().udp.table;
    if matches!(received.route_kind, RouteKind::Broadcast | RouteKind::Multicast) {
        table.each(&wanted, |socket| {
            let is_member = received.route_kind == RouteKind::Broadcast || socket.hears(&about);
            if is_member && takes_unchecked(socket, &packet, received) {
                counters.count_delivery(deliver(socket, &packet, HEADER, &about));
            }
        });
        return;
    }
    match table.find(&wanted, || hash(&wanted)) {
        Some(socket) if takes_unchecked(&socket, &packet, received) => {
            counters.count_delivery(deliver(&socket, &packet, HEADER, &about));
        }
        Some(_) => count(&counters.errors),
        None => {
            count(&counters.no_ports);
            super::network::refuse_port(&packet, received);
        }
    }
}

/// The socket that a datagram would be for.
pub fn find(net: &crate::namespace::NetState, wanted: &Wanted) -> Option<Arc<InetSocket>> {
    net.inet().udp.table.find(wanted, || hash(wanted))
}

/// ICMP says that a datagram of ours did not arrive; `quoted` is what it quotes of it, from the UDP header on.
pub fn error(error: &IcmpError, quoted: &[u8]) {
    let Ok(Udp { source, destination, .. }) = Udp::read_unchecked(quoted) else { return };
    let wanted = Wanted {
        local: error.source,
        port: source,
        remote: error.destination,
        remote_port: destination,
        device: error.device.index(),
    };
    let Some(socket) = error.net.inet().udp.table.find(&wanted, || hash(&wanted)) else { return };
    let Some(trouble) = super::network::meaning(&socket, error) else { return };
    let payload = quoted.get(HEADER..).unwrap_or_default();
    let remote = Endpoint::new(error.destination, destination);
    errors::report(&socket, &trouble, Some(error.offender), remote, payload, error.device.index());
}

/// Options of level SOL_UDP: set.
pub fn set_option(socket: &Arc<InetSocket>, name: u32, value: i32) -> Result<()> {
    let settings = &socket.settings;
    let on = value != 0;
    match name {
        UDP_CORK => {
            settings.switch(Flag::CORK, on);
            if on { Ok(()) } else { super::send::uncork(socket) }
        }
        UDP_NO_CHECK6_TX => {
            settings.switch(Flag::NO_CHECKSUM_SEND, on);
            Ok(())
        }
        UDP_NO_CHECK6_RX => {
            settings.switch(Flag::NO_CHECKSUM_RECEIVE, on);
            Ok(())
        }
        UDP_SEGMENT => {
            let size = u16::try_from(value).map_err(|_| Errno::EINVAL)?;
            settings.segment.store(u32::from(size), machine::sync::atomic::Ordering::Relaxed);
            Ok(())
        }
        UDP_GRO => {
            // Datagrams are never put together here, which a receiver that allows it must expect too.
            settings.switch(Flag::RECEIVE_COALESCED, on);
            Ok(())
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// Options of level SOL_UDP: read.
pub fn get_option(socket: &InetSocket, name: u32) -> Result<i32> {
    let settings = &socket.settings;
    let switch = |flag| Ok(i32::from(settings.has(flag)));
    match name {
        UDP_CORK => switch(Flag::CORK),
        UDP_ENCAP => Ok(0),
        UDP_NO_CHECK6_TX => switch(Flag::NO_CHECKSUM_SEND),
        UDP_NO_CHECK6_RX => switch(Flag::NO_CHECKSUM_RECEIVE),
        UDP_SEGMENT => Ok(settings.segment.load(machine::sync::atomic::Ordering::Relaxed) as i32),
        UDP_GRO => switch(Flag::RECEIVE_COALESCED),
        _ => Err(Errno::ENOPROTOOPT),
    }
}
