//! Neighbour discovery (RFC 4861): asking who has an IPv6 address, and answering; routers' messages go to `autoconf`.
//!
//! Receiving runs with preemption off; asking in any context. Locks: none of its own.

use abi::rtnetlink as linux;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv6Addr};
use linnet_lib::neighbour::{News, Nud};
use linnet_lib::wire::discovery::{
    Advertisement, HOP_LIMIT, Redirect, RouterAdvertisement, RouterSolicitation, Solicitation,
};
use linnet_lib::wire::icmp::v6;

use crate::device::NetDevice;
use crate::ip::address::inet6;
use crate::ip::config;
use crate::ip::icmp6::{self, Message};
use crate::ip::input::Received;
use crate::ip::multicast::{ALL_NODES, solicited_node};
use crate::ip::{autoconf, route};
use crate::netlink::route::neighbour as announcements;
use crate::packet::Packet;

fn own_link(device: &NetDevice) -> Option<[u8; 6]> {
    device.address().as_slice().try_into().ok()
}

/// Sends a message of discovery.
fn send(device: &Arc<NetDevice>, from: Ipv6Addr, to: Ipv6Addr, bytes: &[u8]) {
    let message = Message {
        from: Some(from),
        to,
        output: device.index(),
        hop_limit: Some(HOP_LIMIT),
        traffic_class: 0,
        mark: 0,
        parts: [bytes, &[]],
    };
    let _ = icmp6::send(&device.namespace(), &message);
}

/// Asks for an address: everybody, or who had it last. `source`: from which address the packet that waits comes.
pub(super) fn ask(device: &Arc<NetDevice>, target: Ipv6Addr, source: Option<IpAddr>, is_known: bool) {
    let net = device.namespace();
    let own = match source {
        Some(IpAddr::V6(source)) => {
            inet6::owner(&net, source, device.index()).filter(|found| found.is_usable()).map(|_| source)
        }
        _ => None,
    };
    let from = own.or_else(|| inet6::select_source(&net, Some(device), target));
    let Some(from) = from else { return };
    let (bytes, length) = Solicitation { target, link: own_link(device) }.write();
    send(device, from, if is_known { target } else { solicited_node(target) }, &bytes[..length]);
}

/// Asks whether somebody else has an address that is to be ours (RFC 4862 section 5.4.2).
pub(crate) fn probe(device: &Arc<NetDevice>, target: Ipv6Addr) {
    let (bytes, length) = Solicitation { target, link: None }.write();
    send(device, Ipv6Addr::UNSPECIFIED, solicited_node(target), &bytes[..length]);
}

/// Asks the routers on a link to tell of themselves.
pub(crate) fn ask_routers(device: &Arc<NetDevice>) {
    let net = device.namespace();
    let to = crate::ip::multicast::ALL_ROUTERS;
    let from = inet6::select_source(&net, Some(device), to).unwrap_or(Ipv6Addr::UNSPECIFIED);
    let link = own_link(device).filter(|_| !from.is_unspecified());
    let (bytes, length) = RouterSolicitation { link }.write();
    send(device, from, to, &bytes[..length]);
}

fn advertise(device: &Arc<NetDevice>, address: Ipv6Addr, from: Ipv6Addr, to: Ipv6Addr, is_solicited: bool) {
    let is_router = device.ip().is_some_and(|ip| ip.settings6.is_on(config::v6::FORWARDING));
    let answer =
        Advertisement { target: address, link: own_link(device), is_router, is_solicited, overrides: true };
    let (bytes, length) = answer.write();
    send(device, from, to, &bytes[..length]);
}

/// A message came in; its bytes begin with the ICMPv6 header, its checksum is right. Preemption is off.
pub(crate) fn receive(packet: &Packet, about: &Received, kind: u8) {
    let is_from_link = about.hop_limit == HOP_LIMIT && packet.bytes().get(1) == Some(&0);
    let has_discovery =
        about.device.hardware_type() == linux::ARPHRD_ETHER && about.device.flags() & linux::IFF_NOARP == 0;
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (about.source, about.destination) else { return };
    if !is_from_link || !has_discovery {
        return;
    }
    let message = packet.bytes();
    match kind {
        v6::NEIGHBOUR_SOLICITATION => {
            if let Ok(asked) = Solicitation::read(message) {
                hear_solicitation(about, &asked, source, destination);
            }
        }
        v6::NEIGHBOUR_ADVERTISEMENT => {
            if let Ok(told) = Advertisement::read(message) {
                hear_advertisement(about, &told, destination);
            }
        }
        v6::ROUTER_ADVERTISEMENT if source.is_unicast_link_local() => {
            if let Ok(told) = RouterAdvertisement::read(message) {
                autoconf::hear_router(&about.device, source, &told);
            }
        }
        v6::REDIRECT if source.is_unicast_link_local() => {
            if let Ok(told) = Redirect::read(message) {
                let device = &about.device;
                route::note_redirect(&about.net, told.destination.into(), told.target.into(), device);
            }
        }
        _ => {}
    }
}

fn hear_solicitation(about: &Received, asked: &Solicitation, source: Ipv6Addr, destination: Ipv6Addr) {
    let device = &about.device;
    let is_probe = source.is_unspecified();
    if is_probe && (destination != solicited_node(asked.target) || asked.link.is_some()) {
        return;
    }
    let Some(own) = inet6::owner(&about.net, asked.target, device.index()) else { return };
    let is_here = device.ip().is_some_and(|ip| ip.addresses6.get(asked.target.into()).is_some());
    if !is_here {
        return;
    }
    if !own.is_usable() {
        // Somebody else is trying the same address.
        if is_probe {
            autoconf::is_taken(device, asked.target);
        }
        return;
    }
    if is_probe {
        return advertise(device, asked.target, asked.target, ALL_NODES, false);
    }
    let is_to_group = destination.is_multicast();
    if let Some(link) = asked.link {
        learn(about, source, Some(&link), Nud::Stale, true);
    } else if is_to_group {
        return;
    }
    advertise(device, asked.target, asked.target, source, true);
}

/// Learns where a neighbour is. `makes`: also one that was not known.
fn learn(about: &Received, address: Ipv6Addr, link: Option<&[u8]>, state: Nud, makes: bool) {
    let Some(ip) = about.device.ip() else { return };
    let table = ip.neighbours(true);
    let found = match table.find(address.into()) {
        Some(found) => Some(found),
        None if makes => table.find_or_add(&about.device, address.into()).ok(),
        None => None,
    };
    let Some(neighbour) = found else { return };
    let news = News { state, is_other_address: false, overrides: true, is_doubt: true, is_order: false };
    if neighbour.hear(link, news).is_notable {
        announcements::announce_later(&about.device, &neighbour);
    }
}

fn hear_advertisement(about: &Received, told: &Advertisement, destination: Ipv6Addr) {
    let device = &about.device;
    if told.is_solicited && destination.is_multicast() {
        return;
    }
    if let Some(own) = inet6::owner(&about.net, told.target, device.index()) {
        if !own.is_usable() {
            autoconf::is_taken(device, told.target);
        }
        return;
    }
    let Some(ip) = device.ip() else { return };
    let Some(neighbour) = ip.neighbours(true).find(told.target.into()) else { return };
    let news = News {
        state: if told.is_solicited { Nud::Reachable } else { Nud::Stale },
        is_other_address: false,
        overrides: told.overrides,
        is_doubt: true,
        is_order: false,
    };
    let link = told.link;
    let mut is_notable = neighbour.hear(link.as_ref().map(<[u8; 6]>::as_slice), news).is_notable;
    is_notable |= neighbour.set_router(told.is_router);
    if is_notable {
        announcements::announce_later(device, &neighbour);
    }
}
