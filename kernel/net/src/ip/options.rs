//! Options of IPv4 on their way: noted in what comes, answered in what goes back (RFC 791, RFC 1122 section 3.2.1.8).
//!
//! Any context; no locks. Neighbours: `input` and `forward` note, `icmp` and sockets answer; [`linnet_lib::wire::ipv4_options`] knows them.

use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr};
use linnet_lib::wire::ipv4::{self, Ipv4};
use linnet_lib::wire::ipv4_options::{self as wire, Asked, Surroundings};

use super::address::{AddressKind, kind_of, select_source};
use super::route::{Route, RouteKind};
use crate::device::NetDevice;
use crate::namespace::NetState;
use crate::packet::Packet;

/// Milliseconds since midnight, universal time.
pub(crate) fn milliseconds() -> u32 {
    const DAY_MS: u64 = 86_400_000;
    (sched::clock::realtime_ns() / 1_000_000 % DAY_MS) as u32
}

/// Notes in a packet with options what they ask for: where it came to, or the way it goes on. Whether they are right, and there was memory.
pub(super) fn note(net: &Arc<NetState>, device: &NetDevice, route: &Route, packet: &mut Packet) -> bool {
    let Ok(header) = Ipv4::read_unchecked(packet.bytes()) else { return false };
    let (source, destination, ttl) = (header.source, header.destination, header.ttl);
    let length = header.header_length();
    let chosen = match route.kind {
        RouteKind::Local => Some(IpAddr::V4(destination)),
        RouteKind::Unicast => select_source(net, &route.device, destination.into()),
        RouteKind::Broadcast | RouteKind::Multicast => select_source(net, device, source.into()),
    };
    let own = match chosen {
        Some(IpAddr::V4(own)) => own,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let is_elsewhere = |address: Ipv4Addr| kind_of(net, address.into(), 0) == AddressKind::Other;
    let around = Surroundings { own, time_ms: milliseconds(), is_elsewhere: &is_elsewhere };
    let mut options = wire::Bytes::from_iter(header.options.iter().copied().take(wire::MOST));
    match wire::note(&mut options, &around) {
        Err(_) => return false,
        Ok(false) => return true,
        Ok(true) => {}
    }
    let Ok(bytes) = packet.bytes_mut() else { return false };
    let Some(place) = bytes.get_mut(ipv4::HEADER..length) else { return false };
    place.copy_from_slice(&options);
    // The checksum of the header is made anew.
    ipv4::set_ttl(bytes, ttl);
    true
}

/// What the answer to a packet with options has of them.
pub(crate) fn answer(net: &Arc<NetState>, options: &[u8]) -> Option<Asked> {
    if options.is_empty() {
        return None;
    }
    wire::answer(options, &|address| kind_of(net, address.into(), 0) == AddressKind::Other)
}
