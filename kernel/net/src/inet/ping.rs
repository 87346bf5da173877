//! ICMP echo sockets (icmp(7), `net.ipv4.ping_group_range`): a program sends and receives echo messages, the kernel keeps their identifiers
//! apart. Locks: none; the table's and the queues' are leaves.

use abi::errno::{Errno, Result};
use abi::inet::*;
use alloc::sync::Arc;

use super::address::Endpoint;
use super::network::Received;
use super::receive::{About, deliver};
use super::send::{Plan, finish};
use super::socket::InetSocket;
use super::table::Wanted;
use super::{errors, network};
use crate::ip::input::IcmpError;
use crate::packet::Packet;

/// Bytes of an echo message's header.
const HEADER: usize = 8;

/// `EINVAL`: shorter than a header.
pub fn check_length(length: usize) -> Result<()> {
    if length < HEADER { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Sends an echo request with the socket's identifier. `EINVAL`: another message.
pub fn transmit(socket: &Arc<InetSocket>, plan: &Plan, mut packet: Packet) -> Result<()> {
    let is_v4 = plan.remote.address.is_ipv4();
    let [kind, code, ..] = *packet.bytes() else { return Err(Errno::EINVAL) };
    let is_request = match is_v4 {
        true => matches!(kind, ICMP_ECHO | ICMP_EXT_ECHO),
        false => matches!(kind, ICMPV6_ECHO_REQUEST | ICMPV6_EXT_ECHO_REQUEST),
    };
    if !is_request || code != 0 || is_v4 == socket.is_v6() {
        return Err(Errno::EINVAL);
    }
    let identifier = socket.endpoints().port;
    let message = packet.bytes_mut()?;
    message[2..4].fill(0);
    message[4..6].copy_from_slice(&identifier.to_be_bytes());
    let sum = if is_v4 {
        linnet_lib::wire::checksum(message)
    } else {
        network::checksum(plan.way.source(), plan.way.destination(), IPPROTO_ICMPV6, message)
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    finish(socket, plan, packet)
}

fn wanted(
    received_local: core::net::IpAddr,
    remote: core::net::IpAddr,
    identifier: u16,
    device: i32,
) -> Wanted {
    Wanted { local: received_local, port: identifier, remote, remote_port: 0, device }
}

/// An echo reply came in; its bytes begin with the ICMP header. Whether a socket took it. Preemption is off.
pub fn receive(packet: &Packet, received: &Received) -> bool {
    let Some(header) = packet.bytes().first_chunk::<HEADER>() else { return false };
    let identifier = u16::from_be_bytes([header[4], header[5]]);
    let wanted = wanted(received.destination, received.source, identifier, received.device.index());
    let is_v6 = received.source.is_ipv6();
    let table = &received.net.inet().ping[usize::from(is_v6)].table;
    let Some(socket) = table.find_latest(&wanted) else { return false };
    let about = About::new(packet, received, (0, 0));
    deliver(&socket, packet, 0, &about);
    true
}

/// ICMP says that a request of ours did not arrive; `quoted` begins with its ICMP header.
pub fn error(error: &IcmpError, quoted: &[u8]) {
    let Some(header) = quoted.first_chunk::<HEADER>() else { return };
    let is_v6 = error.destination.is_ipv6();
    let request = if is_v6 { ICMPV6_ECHO_REQUEST } else { ICMP_ECHO };
    if header[0] != request {
        return;
    }
    let identifier = u16::from_be_bytes([header[4], header[5]]);
    let wanted = wanted(error.source, error.destination, identifier, error.device.index());
    let Some(socket) = error.net.inet().ping[usize::from(is_v6)].table.find_latest(&wanted) else { return };
    let Some(trouble) = super::network::meaning(&socket, error) else { return };
    let payload = quoted.get(HEADER..).unwrap_or_default();
    let remote = Endpoint::new(error.destination, 0);
    errors::report(&socket, &trouble, Some(error.offender), remote, payload, error.device.index());
}
