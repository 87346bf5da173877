//! Packets for others (`ip_forward`, `ip6_forward`), and those that have nowhere to go.
//!
//! Preemption is off; no locks. Neighbours: `input`, `output`, `icmp`, `icmp6`.

use abi::errno::Errno;
use alloc::sync::Arc;
use core::net::IpAddr;
use linnet_lib::wire::icmp as wire;
use linnet_lib::wire::ipv4::{self, Ipv4};
use linnet_lib::wire::ipv6::Ipv6;

use super::config::{v4, v6};
use super::counters::Count;
use super::icmp::{self, Complaint};
use super::icmp6;
use super::output::{self, Manner};
use super::route::Route;
use crate::device::NetDevice;
use crate::namespace::NetState;
use crate::packet::{Packet, PacketKind};

/// A packet of IPv4 for someone else, on its way.
pub(super) fn forward_v4(net: &Arc<NetState>, device: &Arc<NetDevice>, route: &Route, mut packet: Packet) {
    if packet.kind != PacketKind::Host {
        return;
    }
    let Ok(header) = Ipv4::read_unchecked(packet.bytes()) else { return };
    let (ttl, destination, dont_fragment) = (header.ttl, header.destination, header.dont_fragment);
    if ttl <= 1 {
        net.ip.counters.v4(Count::InHeaderErrors);
        return icmp::complain(net, &packet, Complaint::TtlExceeded);
    }
    if packet.len() > route.mtu as usize && dont_fragment {
        net.ip.counters.v4(Count::FragmentFailures);
        return icmp::complain(net, &packet, Complaint::TooBig(route.mtu));
    }
    if Arc::ptr_eq(&route.device, device) {
        redirect_v4(net, device, route, &packet, destination.into());
    }
    let Ok(bytes) = packet.bytes_mut() else { return net.ip.counters.v4(Count::InDiscards) };
    ipv4::set_ttl(bytes, ttl - 1);
    net.ip.counters.v4(Count::Forwarded);
    let manner = Manner { dont_fragment, is_for_others_only: true };
    let _ = output::emit(net, route, destination.into(), manner, packet);
}

/// Who could have sent it there directly is told.
fn redirect_v4(net: &Arc<NetState>, device: &NetDevice, route: &Route, packet: &Packet, destination: IpAddr) {
    let sends = net.ip.control.all4.is_on(v4::SEND_REDIRECTS)
        || device.ip().is_some_and(|ip| ip.settings4.is_on(v4::SEND_REDIRECTS));
    if let (true, IpAddr::V4(gateway)) = (sends, route.gateway.unwrap_or(destination)) {
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
pub(super) fn forward_v6(net: &Arc<NetState>, route: &Route, mut packet: Packet) {
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
    let Ok(bytes) = packet.bytes_mut() else { return net.ip.counters.v6(Count::InDiscards) };
    bytes[7] -= 1;
    net.ip.counters.v6(Count::Forwarded);
    let manner = Manner { dont_fragment: true, is_for_others_only: true };
    let _ = output::emit(net, route, destination, manner, packet);
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
