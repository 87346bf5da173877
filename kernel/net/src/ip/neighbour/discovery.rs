//! Neighbour discovery (RFC 4861): asking who has an IPv6 address, and answering; routers' messages go to `autoconf`.
//!
//! Receiving runs with preemption off; asking in any context. Locks: none of its own.

use abi::neighbour::NTF_ROUTER;
use abi::rtnetlink as linux;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv6Addr};
use linnet_lib::neighbour::{News, Nud};
use linnet_lib::wire::discovery::{
    Advertisement, HOP_LIMIT, Redirect, RouterAdvertisement, RouterSolicitation, SOURCE_LINK, Solicitation,
    link_address,
};
use linnet_lib::wire::icmp::v6;

use super::proxy::{self, Answer};
use crate::device::NetDevice;
use crate::ip::address::{Address, inet6};
use crate::ip::autoconf;
use crate::ip::config;
use crate::ip::icmp6::{self, Message};
use crate::ip::input::Received;
use crate::ip::multicast::{ALL_NODES, solicited_node};
use crate::ip::route::{self, Flow};
use crate::netlink::route::neighbour as announcements;
use crate::packet::{Packet, PacketKind};

/// Bytes of a redirect with what it quotes, without the header of IPv6.
const REDIRECT_MOST: usize = 1280 - 40;
/// The option that quotes a packet, and bytes of its header.
const REDIRECTED: u8 = 4;
const REDIRECTED_HEADER: usize = 8;

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

fn advertise(device: &Arc<NetDevice>, address: Ipv6Addr, to: Ipv6Addr, is_solicited: bool) {
    let is_router = device.ip().is_some_and(|ip| ip.settings6.is_on(config::v6::FORWARDING));
    let answer =
        Advertisement { target: address, link: own_link(device), is_router, is_solicited, overrides: true };
    let (bytes, length) = answer.write();
    send(device, address, to, &bytes[..length]);
}

/// Answers for somebody else's address: from one of our own, and not so that it counts more than what that one says.
pub(super) fn stand_in(device: &Arc<NetDevice>, target: Ipv6Addr, to: Ipv6Addr, is_router: bool) {
    let is_solicited = to != ALL_NODES;
    let answer = Advertisement { target, link: own_link(device), is_router, is_solicited, overrides: false };
    let (bytes, length) = answer.write();
    if let Some(from) = inet6::select_source(&device.namespace(), Some(device), to) {
        send(device, from, to, &bytes[..length]);
    }
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
                hear_solicitation(about, packet.kind, &asked, source, destination);
            }
        }
        v6::NEIGHBOUR_ADVERTISEMENT => {
            if let Ok(told) = Advertisement::read(message) {
                hear_advertisement(about, &told, destination);
            }
        }
        v6::ROUTER_ADVERTISEMENT if source.is_unicast_link_local() => {
            if let Ok(told) = RouterAdvertisement::read(message) {
                let link = link_address(told.options, SOURCE_LINK).ok().flatten();
                if autoconf::hear_router(&about.device, source, &told)
                    && let Some(link) = link
                {
                    learn(about, source, Some(&link), Nud::Stale, true);
                    mark_router(about, source);
                }
            }
        }
        v6::REDIRECT if source.is_unicast_link_local() => {
            if let Ok(told) = Redirect::read(message) {
                hear_redirect(about, &told, source);
            }
        }
        _ => {}
    }
}

fn hear_solicitation(
    about: &Received,
    kind: PacketKind,
    asked: &Solicitation,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) {
    let device = &about.device;
    let is_probe = source.is_unspecified();
    if is_probe && (destination != solicited_node(asked.target) || asked.link.is_some()) {
        return;
    }
    let Some(own) = inet6::owner(&about.net, asked.target, device.index()) else {
        return hear_for_others(about, kind, asked, source, destination);
    };
    if !own.is_usable() {
        // Somebody else is trying the same address.
        if is_probe {
            autoconf::is_taken(device, asked.target);
        }
        return;
    }
    if is_probe {
        return advertise(device, asked.target, ALL_NODES, false);
    }
    let is_to_group = destination.is_multicast();
    if let Some(link) = asked.link {
        learn(about, source, Some(&link), Nud::Stale, true);
    } else if is_to_group {
        return;
    }
    advertise(device, asked.target, source, true);
}

/// A question for an address that is not ours: perhaps one that is answered for (RFC 4389, `proxy_ndp`).
fn hear_for_others(
    about: &Received,
    kind: PacketKind,
    asked: &Solicitation,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) {
    let device = &about.device;
    let Some(ip) = device.ip() else { return };
    let is_on = |which| ip.settings6.is_on(which);
    let all = &about.net.ip.control.all6;
    let proxies = is_on(config::v6::PROXY_NDP) || all.is_on(config::v6::PROXY_NDP);
    if !is_on(config::v6::FORWARDING) || !proxies {
        return;
    }
    let Some(found) = proxy::find(&about.net, device, asked.target.into()) else { return };
    let to = if source.is_unspecified() { ALL_NODES } else { source };
    if to == source {
        match asked.link {
            Some(link) => learn(about, source, Some(&link), Nud::Stale, true),
            None if destination.is_multicast() => return,
            None => {}
        }
    }
    let answer = Answer::Discovery { target: asked.target, to, is_router: found.flags & NTF_ROUTER != 0 };
    // Only a question to all of the link is one that its owner hears, too, and may be quicker to answer.
    let is_at_once = kind == PacketKind::Host || !destination.is_multicast();
    proxy::answer(device, true, is_at_once, answer);
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

/// A neighbour is a router.
fn mark_router(about: &Received, address: Ipv6Addr) {
    let neighbour = about.device.ip().and_then(|ip| ip.neighbours(true).find(address.into()));
    if let Some(neighbour) = neighbour.filter(|neighbour| neighbour.set_router(true)) {
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

/// A router says that another, or the destination itself, is a better next hop: believed only of the one that we use (RFC 4861 section
/// 8.1, `rt6_do_redirect`).
fn hear_redirect(about: &Received, told: &Redirect, router: Ipv6Addr) {
    let (net, device) = (&about.net, &about.device);
    let Some(ip) = device.ip() else { return };
    let is_on = |which| ip.settings6.is_on(which);
    let is_destination = told.target == told.destination;
    if is_on(config::v6::FORWARDING)
        || !is_on(config::v6::ACCEPT_REDIRECTS)
        || !(is_destination || told.target.is_unicast_link_local())
    {
        return;
    }
    let flow = Flow { output: device.index(), ..Flow::to(told.destination.into()) };
    let uses_router = route::output(net, &flow).is_ok_and(|route| route.gateway == Some(router.into()));
    if !uses_router {
        return;
    }
    if let Some(link) = told.link {
        learn(about, told.target, Some(&link), Nud::Stale, true);
    }
    route::note_redirect(net, told.destination.into(), told.target.into(), device);
}

/// Tells who sent a packet through us that `target` is the next hop for `destination`.
pub(crate) fn redirect(
    device: &Arc<NetDevice>,
    to: Ipv6Addr,
    target: Ipv6Addr,
    destination: Ipv6Addr,
    quoted: &[u8],
) {
    let Some(ip) = device.ip() else { return };
    let near = |address: &Arc<Address>| match address.local {
        IpAddr::V6(local) if local.is_unicast_link_local() && address.is_usable() => Some(local),
        _ => None,
    };
    let Some(from) = ip.addresses6.find(near) else { return };
    let known = ip.neighbours(true).find(target.into()).map(|found| found.describe());
    let link = known.filter(|known| known.reachability.state().is_valid()).map(|known| known.link);
    let link = link.and_then(|link| link.as_slice().try_into().ok());
    let (bytes, length) = Redirect { target, destination, link }.write();
    // What is quoted fits the least MTU with the headers, in units of 8 bytes.
    let room = REDIRECT_MOST - length - REDIRECTED_HEADER;
    let quoted = &quoted[..quoted.len().min(room) & !7];
    let mut body = [0; REDIRECT_MOST];
    body[..length].copy_from_slice(&bytes[..length]);
    body[length] = REDIRECTED;
    body[length + 1] = ((REDIRECTED_HEADER + quoted.len()) / 8) as u8;
    let end = length + REDIRECTED_HEADER + quoted.len();
    body[length + REDIRECTED_HEADER..end].copy_from_slice(quoted);
    send(device, from, to, &body[..end]);
}
