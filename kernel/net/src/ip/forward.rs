//! Packets for others (`ip_forward`, `ip6_forward`), and those that have nowhere to go.
//!
//! Preemption is off; no locks. Neighbours: `input`, `output`, `icmp`, `icmp6`.

use abi::errno::Errno;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr};
use linnet_lib::wire::icmp as wire;
use linnet_lib::wire::ipv4::{self, Ipv4};
use linnet_lib::wire::ipv6::Ipv6;

use super::address::inet;
use super::config::{v4, v6};
use super::counters::Count;
use super::icmp::{self, Complaint};
use super::icmp6;
use super::neighbour::discovery;
use super::output::{self, Manner};
use super::route::{self, Flow, Route};
use crate::device::NetDevice;
use crate::namespace::NetState;
use crate::packet::{Packet, PacketKind};

/// A packet of IPv4 for someone else, on its way.
pub(super) fn forward_v4(net: &Arc<NetState>, device: &Arc<NetDevice>, route: &Route, mut packet: Packet) {
    if packet.kind != PacketKind::Host {
        return;
    }
    let Ok(header) = Ipv4::read_unchecked(packet.bytes()) else { return };
    let (ttl, dont_fragment) = (header.ttl, header.dont_fragment);
    let (source, destination) = (header.source, header.destination);
    if ttl <= 1 {
        net.ip.counters.v4(Count::InHeaderErrors);
        return icmp::complain(net, &packet, Complaint::TtlExceeded);
    }
    if packet.len() > route.mtu as usize && dont_fragment {
        net.ip.counters.v4(Count::FragmentFailures);
        return icmp::complain(net, &packet, Complaint::TooBig(route.mtu));
    }
    if Arc::ptr_eq(&route.device, device) {
        redirect_v4(net, device, route, &packet, (source, destination));
    }
    let Ok(bytes) = packet.bytes_mut() else { return net.ip.counters.v4(Count::InDiscards) };
    ipv4::set_ttl(bytes, ttl - 1);
    net.ip.counters.v4(Count::Forwarded);
    let manner = Manner { dont_fragment, is_for_others_only: true };
    let _ = output::emit(net, route, destination.into(), manner, packet);
}

/// Who could have sent it there directly is told (`ip_rt_send_redirect`).
fn redirect_v4(
    net: &Arc<NetState>,
    device: &Arc<NetDevice>,
    route: &Route,
    packet: &Packet,
    (source, destination): (Ipv4Addr, Ipv4Addr),
) {
    let Some(ip) = device.ip() else { return };
    let is_on = |which| ip.settings4.is_on(which) || net.ip.control.all4.is_on(which);
    let IpAddr::V4(gateway) = route.gateway.unwrap_or(destination.into()) else { return };
    let comes_from_link = || {
        let way = route::output(net, &Flow::to(source.into()));
        way.is_ok_and(|way| way.gateway.is_none() && Arc::ptr_eq(&way.device, device))
    };
    let is_near = is_on(v4::SHARED_MEDIA) || inet::is_on_link(&ip, source, gateway);
    if is_on(v4::SEND_REDIRECTS) && is_near && comes_from_link() && net.ip.told.allow_redirect(source.into())
    {
        icmp::complain(net, packet, Complaint::Redirect(gateway));
    }
}

/// A packet of IPv4 has nowhere to go.
pub(super) fn refuse_v4(net: &Arc<NetState>, device: &NetDevice, errno: Errno, packet: &Packet) {
    let forwards = device.ip().is_some_and(|ip| ip.settings4.is_on(v4::FORWARDING));
    let complaint = match errno {
        // It should not have come at all.
        Errno::EINVAL | Errno::EXDEV => return net.ip.counters.v4(Count::InAddressErrors),
        _ if !forwards || packet.kind != PacketKind::Host => {
            return net.ip.counters.v4(Count::InAddressErrors);
        }
        Errno::ENETUNREACH => {
            net.ip.counters.v4(Count::InNoRoutes);
            Complaint::NoNetwork
        }
        Errno::EACCES => Complaint::Prohibited,
        _ => Complaint::NoHost,
    };
    icmp::complain(net, packet, complaint);
}

/// A packet of IPv6 for someone else, on its way.
pub(super) fn forward_v6(net: &Arc<NetState>, device: &Arc<NetDevice>, route: &Route, mut packet: Packet) {
    if packet.kind != PacketKind::Host {
        return;
    }
    let Ok(header) = Ipv6::read_unchecked(packet.bytes()) else { return };
    if header.source.is_unspecified()
        || header.source.is_unicast_link_local()
        || header.destination.is_unicast_link_local()
    {
        return net.ip.counters.v6(Count::InAddressErrors);
    }
    let destination = IpAddr::V6(header.destination);
    if header.hop_limit <= 1 {
        net.ip.counters.v6(Count::InHeaderErrors);
        return icmp6::complain(net, &packet, wire::v6::TIME_EXCEEDED, wire::v6::HOP_LIMIT_EXCEEDED, 0);
    }
    if packet.len() > route.mtu as usize {
        net.ip.counters.v6(Count::InTooBig);
        net.ip.counters.v6(Count::FragmentFailures);
        return icmp6::complain(net, &packet, wire::v6::TOO_BIG, 0, route.mtu);
    }
    if Arc::ptr_eq(&route.device, device) {
        redirect_v6(net, device, route, &packet);
    }
    let Ok(bytes) = packet.bytes_mut() else { return net.ip.counters.v6(Count::InDiscards) };
    bytes[7] -= 1;
    net.ip.counters.v6(Count::Forwarded);
    let manner = Manner { dont_fragment: true, is_for_others_only: true };
    let _ = output::emit(net, route, destination, manner, packet);
}

/// Who could have sent it there directly is told (`ndisc_send_redirect`): a neighbour, once in a second, and so for its destination.
fn redirect_v6(net: &Arc<NetState>, device: &Arc<NetDevice>, route: &Route, packet: &Packet) {
    const INTERVAL_MS: u64 = 1000;
    let Ok(header) = Ipv6::read_unchecked(packet.bytes()) else { return };
    let (source, destination) = (header.source, header.destination);
    let IpAddr::V6(target) = route.gateway.unwrap_or(destination.into()) else { return };
    if !target.is_unicast_link_local() && target != destination {
        return;
    }
    let flow = Flow { output: device.index(), ..Flow::to(source.into()) };
    let is_neighbour = || route::output(net, &flow).is_ok_and(|way| way.gateway.is_none());
    if net.ip.told.allow(destination.into(), INTERVAL_MS)
        && is_neighbour()
        && net.ip.told.allow(source.into(), INTERVAL_MS)
    {
        discovery::redirect(device, source, target, destination, packet.bytes());
    }
}

/// A packet of IPv6 has nowhere to go.
pub(super) fn refuse_v6(net: &Arc<NetState>, device: &NetDevice, errno: Errno, packet: &Packet) {
    let forwards = device.ip().is_some_and(|ip| ip.settings6.is_on(v6::FORWARDING));
    let code = match errno {
        Errno::EINVAL => return net.ip.counters.v6(Count::InDiscards),
        _ if !forwards || packet.kind != PacketKind::Host => {
            return net.ip.counters.v6(Count::InAddressErrors);
        }
        Errno::EACCES => wire::v6::PROHIBITED,
        Errno::EHOSTUNREACH => wire::v6::ADDRESS_UNREACHABLE,
        _ => {
            net.ip.counters.v6(Count::InNoRoutes);
            wire::v6::NO_ROUTE
        }
    };
    icmp6::complain(net, packet, wire::v6::UNREACHABLE, code, 0);
}
