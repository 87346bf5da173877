//! ARP (RFC 826): asking who has an IPv4 address, and answering.
//!
//! Receiving runs with preemption off; asking in any context. Locks: none of its own.

use abi::rtnetlink as linux;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr};
use linnet_lib::neighbour::{News, Nud};
use linnet_lib::wire::arp::{Arp, LENGTH, REPLY, REQUEST};
use linnet_lib::wire::ethernet::{self, BROADCAST, Ethernet, TYPE_ARP};

use super::Neighbour;
use super::proxy::{self, Answer};
use crate::device::{NetDevice, traffic};
use crate::ip::address::{AddressKind, kind_of, network_of, select_source};
use crate::ip::config::v4;
use crate::ip::route::{self, Flow, RouteKind};
use crate::namespace::NetState;
use crate::netlink::route::neighbour as announcements;
use crate::packet::{HEAD_ROOM, Packet, PacketKind};

/// Asks for an address: everybody, or (`link`) who had it last. `source`: from which address the packet that waits comes.
pub(super) fn ask(device: &Arc<NetDevice>, target: Ipv4Addr, source: Option<IpAddr>, link: Option<&[u8]>) {
    let net = device.namespace();
    let own = |address: &IpAddr| kind_of(&net, *address, 0) == AddressKind::Local;
    let announces = config(&net, device, v4::ARP_ANNOUNCE);
    let from = source
        .filter(|source| announces == 0 && own(source))
        .or_else(|| select_source(&net, device, target.into()));
    let Some(IpAddr::V4(sender)) = from else { return };
    let to = link.and_then(|link| link.try_into().ok());
    send(device, REQUEST, sender, target, [0; 6], to.unwrap_or(BROADCAST));
}

fn config(net: &NetState, device: &NetDevice, which: usize) -> i32 {
    let own = device.ip().map_or(0, |ip| ip.settings4.get(which));
    own.max(net.ip.control.all4.get(which))
}

fn send(
    device: &Arc<NetDevice>,
    operation: u16,
    sender: Ipv4Addr,
    target: Ipv4Addr,
    target_link: [u8; 6],
    to: [u8; 6],
) {
    let Ok(sender_link) = <[u8; 6]>::try_from(device.address().as_slice()) else { return };
    let message = Arp { operation, sender_link, sender, target_link, target };
    let Ok(mut packet) = Packet::with_room(HEAD_ROOM, LENGTH) else { return };
    let header = Ethernet { destination: to, source: sender_link, kind: TYPE_ARP };
    if packet.append(&message.write()).is_err() {
        return;
    }
    packet.protocol = TYPE_ARP;
    packet.mark_network_header();
    if let Ok(place) = packet.push(ethernet::HEADER) {
        place.copy_from_slice(&header.write());
        let _ = traffic::transmit(device, packet);
    }
}

/// Answers a question: its address is here.
pub(super) fn reply(device: &Arc<NetDevice>, asked: &Arp) {
    send(device, REPLY, asked.target, asked.sender, asked.sender_link, asked.sender_link);
}

/// Whether the machine answers for an address that it forwards packets to (`arp_fwd_proxy`, `arp_fwd_pvlan`).
fn stands_in(net: &NetState, device: &Arc<NetDevice>, way: &Arc<NetDevice>, message: &Arp) -> bool {
    let Some(ip) = device.ip() else { return false };
    if Arc::ptr_eq(way, device) {
        return ip.settings4.is_on(v4::PROXY_ARP_PVLAN);
    }
    if proxy::find(net, device, message.target.into()).is_some() {
        return true;
    }
    // Interfaces of one medium hear each other's questions.
    let medium = |device: &NetDevice| device.ip().map_or(0, |ip| ip.settings4.get(v4::MEDIUM_ID));
    let proxies = config(net, device, v4::PROXY_ARP) != 0;
    match medium(device) {
        0 => proxies,
        -1 => false,
        own => proxies && medium(way) != own && medium(way) != -1,
    }
}

/// Whether an answer to who asks would go out through the device the question came by, where that matters (`arp_filter`).
fn passes_filter(net: &Arc<NetState>, device: &Arc<NetDevice>, message: &Arp) -> bool {
    if config(net, device, v4::ARP_FILTER) == 0 {
        return true;
    }
    let back = Flow { source: Some(message.target.into()), ..Flow::to(message.sender.into()) };
    route::output(net, &back).is_ok_and(|route| Arc::ptr_eq(&route.device, device))
}

/// A message came in; its bytes begin with it. Preemption is off.
pub(crate) fn receive(packet: Packet) {
    let Some(device) = packet.device.clone() else { return };
    let is_ours = device.hardware_type() == linux::ARPHRD_ETHER
        && device.flags() & linux::IFF_NOARP == 0
        && !matches!(packet.kind, PacketKind::OtherHost);
    let Ok(message) = Arp::read(packet.bytes()) else { return };
    if !is_ours || !matches!(message.operation, REQUEST | REPLY) {
        return;
    }
    let net = device.namespace();
    let routes_loopback = config(&net, &device, v4::ROUTE_LOCALNET) != 0;
    if message.target.is_multicast() || (message.target.is_loopback() && !routes_loopback) {
        return;
    }
    // Whether anybody has it: a probe (RFC 5227).
    if message.sender.is_unspecified() {
        if message.operation == REQUEST && answers(&net, &device, &message) {
            reply(&device, &message);
        }
        return;
    }
    let flow = Flow { source: Some(message.sender.into()), ..Flow::to(message.target.into()) };
    let way = route::input(&net, &device, &flow).ok();
    if let Some(route) = way.filter(|_| message.operation == REQUEST) {
        if route.kind == RouteKind::Local {
            let may = answers(&net, &device, &message) && passes_filter(&net, &device, &message);
            if may && hear(&net, &device, &message, Manner::Asks) {
                reply(&device, &message);
            }
            return;
        }
        if route.kind == RouteKind::Unicast && stands_in(&net, &device, &route.device, &message) {
            if hear(&net, &device, &message, Manner::Asks) {
                proxy::answer(&device, false, packet.kind == PacketKind::Host, Answer::Arp(message));
            }
            return;
        }
    }
    let manner = if message.operation == REPLY && packet.kind == PacketKind::Host {
        Manner::Answers
    } else {
        Manner::Mentions
    };
    hear(&net, &device, &message, manner);
}

/// Whether a question is answered through this device (`arp_ignore`).
fn answers(net: &Arc<NetState>, device: &Arc<NetDevice>, message: &Arp) -> bool {
    let target = IpAddr::V4(message.target);
    if kind_of(net, target, 0) != AddressKind::Local {
        return false;
    }
    let here = || device.ip().is_some_and(|ip| ip.addresses4.get(target).is_some());
    match config(net, device, v4::ARP_IGNORE) {
        1 => here(),
        2 | 3 => {
            let sender = IpAddr::V4(message.sender);
            here()
                && device.ip().is_some_and(|ip| {
                    ip.addresses4
                        .find(|address| {
                            (network_of(sender, address.length) == address.network()).then_some(())
                        })
                        .is_some()
                })
        }
        8 => false,
        _ => true,
    }
}

/// How a message speaks of its sender.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It asks for one of our addresses: we are about to answer.
    Asks,
    /// It answers us.
    Answers,
    /// It is for others.
    Mentions,
}

/// Learns where the sender of a message is; whether it is known now.
fn hear(net: &Arc<NetState>, device: &Arc<NetDevice>, message: &Arp, manner: Manner) -> bool {
    let Some(ip) = device.ip() else { return false };
    let table = ip.neighbours(false);
    let address = IpAddr::V4(message.sender);
    let is_gratuitous = message.sender == message.target;
    let accepts = manner == Manner::Asks || (is_gratuitous && config(net, device, v4::ARP_ACCEPT) != 0);
    let known: Option<Arc<Neighbour>> = table.find(address);
    let neighbour = match known {
        Some(known) => known,
        None if accepts && kind_of(net, address, 0) == AddressKind::Other => {
            match table.find_or_add(device, address) {
                Ok(new) => new,
                Err(_) => return false,
            }
        }
        None => return false,
    };
    let updated_ns = neighbour.describe().reachability.updated_ns;
    let is_old = machine::time::now_ns() > updated_ns + table.settings().parameters().lock_ns;
    let news = News {
        state: if manner == Manner::Answers { Nud::Reachable } else { Nud::Stale },
        is_other_address: false,
        overrides: manner == Manner::Asks || is_gratuitous || is_old,
        is_doubt: false,
        is_order: false,
    };
    if neighbour.hear(Some(&message.sender_link), news).is_notable {
        announcements::announce_later(device, &neighbour);
    }
    true
}
