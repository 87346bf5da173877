//! Raw sockets (raw(7), RFC 3542): packets of one protocol with (IPv4) or without (IPv6) their header, each to every socket of the protocol
//! that it fits. Locks: none; the table's and the queues' are leaves.

use abi::errno::{Errno, Result};
use abi::inet::*;
use alloc::sync::Arc;
use core::net::IpAddr;
use machine::sync::atomic::Ordering;

use super::address::{Endpoint, code};
use super::network::{HEADER_V4, HEADER_V6, Received};
use super::ports::Local;
use super::receive::{About, deliver};
use super::send::{Plan, finish};
use super::settings::Flag;
use super::socket::InetSocket;
use super::{errors, network};
use crate::ip::input::IcmpError;
use crate::packet::Packet;

/// Whether the program writes the IP header itself.
pub fn includes_header(socket: &InetSocket, is_v4: bool) -> bool {
    let is_raw = socket.transport() == super::socket::Transport::Raw;
    let flag = if is_v4 { Flag::HEADER_INCLUDED } else { Flag::V6_HEADER_INCLUDED };
    is_raw && (socket.settings.has(flag) || (!is_v4 && socket.settings.has(Flag::HEADER_INCLUDED)))
}

/// Sends a packet. `EINVAL`: a header that is none, a checksum beyond the packet.
pub fn transmit(socket: &Arc<InetSocket>, plan: &Plan, mut packet: Packet) -> Result<()> {
    let is_v4 = plan.remote.address.is_ipv4();
    if includes_header(socket, is_v4) {
        return transmit_whole(socket, plan, packet, is_v4);
    }
    let offset = socket.settings.checksum_offset.load(Ordering::Relaxed);
    if !is_v4 && let Ok(offset) = usize::try_from(offset) {
        let (source, destination) = (plan.way.source(), plan.way.destination());
        let message = packet.bytes_mut()?;
        message.get_mut(offset..offset + 2).ok_or(Errno::EINVAL)?.fill(0);
        let sum = network::checksum(source, destination, socket.protocol(), message);
        message[offset..offset + 2].copy_from_slice(&sum.to_be_bytes());
        packet.is_checked = true;
    }
    finish(socket, plan, packet)
}

/// A packet with its header: what the program left out of an IPv4 header is filled in (raw(7)).
fn transmit_whole(socket: &Arc<InetSocket>, plan: &Plan, mut packet: Packet, is_v4: bool) -> Result<()> {
    let least = if is_v4 { HEADER_V4 } else { HEADER_V6 };
    let first = packet.bytes().first().filter(|_| packet.len() >= least).ok_or(Errno::EINVAL)?;
    if !is_v4 {
        return plan.way.send_raw(socket, packet);
    }
    let length = usize::from(first & 0xf) * 4;
    if length > packet.len() {
        return Err(Errno::EINVAL);
    }
    let whole = packet.bytes_mut()?;
    if length >= HEADER_V4 {
        let total = whole.len() as u16;
        whole[2..4].copy_from_slice(&total.to_be_bytes());
        if whole[4..6] == [0, 0] {
            whole[4..6].copy_from_slice(&(machine::random::next_u64() as u16).to_be_bytes());
        }
        if whole[12..16] == [0; 4]
            && let IpAddr::V4(source) = plan.way.source()
        {
            whole[12..16].copy_from_slice(&source.octets());
        }
        whole[10..12].fill(0);
        let sum = linnet_lib::wire::checksum(&whole[..length]);
        whole[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    plan.way.send_raw(socket, packet)
}

/// Whether a packet between these addresses is for a socket.
fn fits(socket: &InetSocket, local: IpAddr, remote: IpAddr, device: i32, about: Option<&About>) -> bool {
    let endpoints = socket.endpoints();
    let bound = socket.core().options.bound_interface();
    let is_own = match Local::of(endpoints.local, false) {
        Local::One(own) => own == code(local),
        _ => true,
    };
    let is_peer = endpoints.remote.is_none_or(|peer| peer.address == remote);
    let hears = !local.is_multicast() || is_own && about.is_none_or(|about| socket.hears(about));
    is_own && is_peer && hears && (bound == 0 || bound == device)
}

/// Calls with the raw sockets of a protocol that a packet is for.
fn each(
    net: &crate::namespace::NetState,
    is_v6: bool,
    protocol: u8,
    mut visit: impl FnMut(&Arc<InetSocket>),
) {
    net.inet().raw[usize::from(is_v6)].table.each_at_port(u16::from(protocol), &mut visit);
}

/// A raw socket of a protocol that talks between these addresses (`raw_lookup`).
pub fn find(
    net: &crate::namespace::NetState,
    protocol: u8,
    local: IpAddr,
    remote: IpAddr,
    device: i32,
) -> Option<Arc<InetSocket>> {
    let mut found = None;
    each(net, local.is_ipv6(), protocol, |socket| {
        if found.is_none() && fits(socket, local, remote, device, None) {
            found = Some(socket.clone());
        }
    });
    found
}

/// A packet of a protocol came in; its bytes begin with the transport header. Every socket that it fits gets a copy; whether there is one
/// (else who sent it may be told that nobody speaks the protocol). Preemption is off.
pub fn receive(packet: &Packet, received: &Received, protocol: u8) -> bool {
    let is_v6 = received.source.is_ipv6();
    if received.net.inet().raw[usize::from(is_v6)].table.is_empty() {
        return false;
    }
    let about = About::new(packet, received, (0, 0));
    let first = packet.bytes().first().copied().unwrap_or_default();
    let device = received.device.index();
    let mut taken = false;
    each(&received.net, is_v6, protocol, |socket| {
        if !fits(socket, received.destination, received.source, device, Some(&about)) {
            return;
        }
        taken = true;
        let admitted = match protocol {
            IPPROTO_ICMP if !is_v6 => socket.settings.admits_icmp(first),
            IPPROTO_ICMPV6 if is_v6 => socket.settings.admits_icmp6(first),
            _ => true,
        };
        if !admitted {
            return;
        }
        if is_v6 {
            deliver_v6(socket, packet, received, protocol, &about);
        } else {
            // IPv4's get the header too.
            let mut whole = packet.clone();
            if whole.restore_network_header() {
                deliver(socket, &whole, 0, &about);
            }
        }
    });
    taken
}

/// With IPV6_CHECKSUM only what is right is handed on.
fn deliver_v6(socket: &Arc<InetSocket>, packet: &Packet, received: &Received, protocol: u8, about: &About) {
    let is_checked = socket.settings.checksum_offset.load(Ordering::Relaxed) >= 0 && !packet.is_checked;
    if is_checked {
        let sum = network::checksum(received.source, received.destination, protocol, packet.bytes());
        if sum != 0 {
            socket.core().count_drop();
            return;
        }
    }
    deliver(socket, packet, 0, about);
}

/// ICMP says that a packet of a protocol did not arrive; `quoted` begins with its transport header.
pub fn error(error: &IcmpError, protocol: u8, quoted: &[u8]) {
    let is_v6 = error.destination.is_ipv6();
    let device = error.device.index();
    each(&error.net, is_v6, protocol, |socket| {
        if !fits(socket, error.source, error.destination, device, None) {
            return;
        }
        let Some(trouble) = super::network::meaning(socket, error) else { return };
        let remote = Endpoint::new(error.destination, 0);
        errors::report(socket, &trouble, Some(error.offender), remote, quoted, device);
    });
}
