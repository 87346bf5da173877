//! Errors that come back: ICMP about what a socket sent, and what was refused here (ip(7), IP_RECVERR).
//!
//! Key types: [`Report`] (one in the error queue), [`Trouble`] (what went wrong). Locks: the queue's, a leaf.

use abi::errno::{Errno, Result};
use abi::inet::*;
use abi::socket::{AF_INET, AF_INET6, SOL_IP, SOL_IPV6};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use machine::memory::try_arc;
use zerocopy::IntoBytes;

use super::address::Endpoint;
use super::receive::add;
use super::socket::{InetSocket, copy};
use crate::account::{ReceiveCharge, datagram_cost};
use crate::message::{MessageFlags, ReceiveMessage};
use crate::queue::Message;

/// What went wrong, as `struct sock_extended_err` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The error.
    pub errno: Errno,
    /// SO_EE_ORIGIN_*.
    pub origin: u8,
    /// ICMP's type.
    pub kind: u8,
    /// ICMP's code.
    pub code: u8,
    /// The MTU and the like.
    pub info: u32,
    /// Whether it ends what is connected, and is told of without being asked for.
    pub is_fatal: bool,
}

/// What ICMP's message means. `None`: nothing to a socket.
pub fn meaning_of_icmp(kind: u8, code: u8, info: u32) -> Option<Trouble> {
    let (errno, is_fatal) = match (kind, code) {
        (ICMP_DEST_UNREACH, 0) => (Errno::ENETUNREACH, false),
        (ICMP_DEST_UNREACH, 1) => (Errno::EHOSTUNREACH, false),
        (ICMP_DEST_UNREACH, 2) => (Errno::ENOPROTOOPT, true),
        (ICMP_DEST_UNREACH, 3) => (Errno::ECONNREFUSED, true),
        (ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED) => (Errno::EMSGSIZE, true),
        (ICMP_DEST_UNREACH, 5) => (Errno::EOPNOTSUPP, false),
        (ICMP_DEST_UNREACH, 6 | 9) => (Errno::ENETUNREACH, true),
        (ICMP_DEST_UNREACH, 7) => (Errno::EHOSTDOWN, true),
        (ICMP_DEST_UNREACH, 8) => (Errno::ENONET, true),
        (ICMP_DEST_UNREACH, 11) => (Errno::ENETUNREACH, false),
        (ICMP_DEST_UNREACH, 12) => (Errno::EHOSTUNREACH, false),
        (ICMP_DEST_UNREACH, 10 | 13..=15) => (Errno::EHOSTUNREACH, true),
        (ICMP_DEST_UNREACH, _) | (ICMP_TIME_EXCEEDED, _) => (Errno::EHOSTUNREACH, false),
        (ICMP_PARAMETERPROB, _) => (Errno::EPROTO, true),
        _ => return None,
    };
    Some(Trouble { errno, origin: SO_EE_ORIGIN_ICMP, kind, code, info, is_fatal })
}

/// What ICMPv6's message means.
pub fn meaning_of_icmp6(kind: u8, code: u8, info: u32) -> Option<Trouble> {
    let (errno, is_fatal) = match (kind, code) {
        (ICMPV6_DEST_UNREACH, 0) => (Errno::ENETUNREACH, false),
        (ICMPV6_DEST_UNREACH, 1 | 5 | 6) => (Errno::EACCES, true),
        (ICMPV6_DEST_UNREACH, 2 | 3) => (Errno::EHOSTUNREACH, false),
        (ICMPV6_DEST_UNREACH, 4) => (Errno::ECONNREFUSED, true),
        (ICMPV6_DEST_UNREACH, _) => (Errno::EPROTO, true),
        (ICMPV6_PKT_TOOBIG, _) => (Errno::EMSGSIZE, true),
        (ICMPV6_TIME_EXCEED, _) => (Errno::EHOSTUNREACH, false),
        (ICMPV6_PARAMPROB, _) => (Errno::EPROTO, true),
        _ => return None,
    };
    Some(Trouble { errno, origin: SO_EE_ORIGIN_ICMP6, kind, code, info, is_fatal })
}

/// An error in a socket's queue.
pub struct Report {
    trouble: Trouble,
    /// Who says so.
    offender: Option<IpAddr>,
    /// Where the message went.
    destination: Endpoint,
    /// The interface that the error came through.
    device: i32,
    is_v4: bool,
    payload: Vec<u8>,
    _charge: ReceiveCharge,
}

impl Message for Report {
    fn length(&self) -> usize {
        self.payload.len()
    }
}

/// How much of a message an error in the queue quotes at most.
const QUOTED_MAX: usize = 1 << 16;

/// Tells a socket of an error about what it sent to `destination`: queues it if it wants that, notes it if it is fatal to a
/// connected one or is queued.
pub fn report(
    socket: &Arc<InetSocket>,
    trouble: &Trouble,
    offender: Option<IpAddr>,
    destination: Endpoint,
    payload: &[u8],
    device: i32,
) {
    let core = socket.core();
    let is_v4 = destination.address.is_ipv4();
    if socket.settings.wants_errors(is_v4) {
        let payload = payload.get(..payload.len().min(QUOTED_MAX)).unwrap_or_default();
        let queued = ReceiveCharge::try_new(core, datagram_cost(payload.len())).and_then(|charge| {
            let payload = copy(payload).ok()?;
            let one =
                Report { trouble: *trouble, offender, destination, device, is_v4, payload, _charge: charge };
            socket.errors.push(try_arc(one).ok()?, |_| Ok(())).ok()
        });
        if queued.is_some() {
            core.wake_all();
        }
    } else if !trouble.is_fatal || socket.endpoints().remote.is_none() {
        return;
    }
    // What was refused here is the answer of the call.
    if trouble.origin != SO_EE_ORIGIN_LOCAL {
        core.set_error(trouble.errno);
        core.wake_all();
    }
}

/// recvmsg(2) with MSG_ERRQUEUE. `EAGAIN`: there is none.
pub fn receive(socket: &Arc<InetSocket>, message: &mut ReceiveMessage<'_>) -> Result<usize> {
    let report = socket.errors.pop().ok_or(Errno::EAGAIN)?;
    let wanted = report.payload.len().min(message.data.remaining());
    if wanted < report.payload.len() {
        message.answer_flags |= MessageFlags::TRUNC;
    }
    if wanted > 0 && message.data.write_bytes(&report.payload[..wanted])? < wanted {
        return Err(Errno::EFAULT);
    }
    let mut destination = report.destination;
    if super::address::needs_scope(destination.address) {
        destination.scope = report.device as u32;
    }
    message.address = destination.to_socket_address(socket.core().family());
    let trouble = &report.trouble;
    let error = SockExtendedErr {
        ee_errno: trouble.errno.code() as u32,
        ee_origin: trouble.origin,
        ee_type: trouble.kind,
        ee_code: trouble.code,
        ee_pad: 0,
        ee_info: trouble.info,
        ee_data: 0,
    };
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(64).map_err(|_| Errno::ENOMEM)?;
    bytes.extend_from_slice(error.as_bytes());
    put_offender(&report, socket.is_v6(), &mut bytes);
    let (level, kind) = if socket.is_v6() { (SOL_IPV6, IPV6_RECVERR) } else { (SOL_IP, IP_RECVERR) };
    add(message, level, kind, &bytes)?;
    message.answer_flags |= MessageFlags::ERRQUEUE;
    // The next one, if ICMP told it, is what the next call fails with.
    let core = socket.core();
    let is_remote = |trouble: &Trouble| trouble.origin != SO_EE_ORIGIN_LOCAL;
    match socket.errors.get(0) {
        Some(next) if is_remote(&next.trouble) => core.set_error(next.trouble.errno),
        _ if is_remote(trouble) => {
            core.take_error();
        }
        _ => {}
    }
    Ok(wanted)
}

/// The address of who told it, in the form of the socket's family; of nobody where it was refused here.
fn put_offender(report: &Report, is_v6: bool, bytes: &mut Vec<u8>) {
    let family = if is_v6 { AF_INET6 } else { AF_INET } as u16;
    let is_remote = matches!(report.trouble.origin, SO_EE_ORIGIN_ICMP | SO_EE_ORIGIN_ICMP6);
    let Some(offender) = report.offender.filter(|_| is_remote) else {
        let size = if is_v6 { size_of::<SockaddrIn6>() } else { size_of::<SockaddrIn>() };
        bytes.extend(core::iter::repeat_n(0, size));
        return;
    };
    let mut endpoint = Endpoint::new(offender, 0);
    if !report.is_v4 && super::address::needs_scope(offender) {
        endpoint.scope = report.device as u32;
    }
    bytes.extend_from_slice(endpoint.to_socket_address(family).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn icmp_means_what_it_means_to_linux() {
        let of = |kind, code| meaning_of_icmp(kind, code, 0).map(|trouble| (trouble.errno, trouble.is_fatal));
        assert_eq!(of(ICMP_DEST_UNREACH, 3), Some((Errno::ECONNREFUSED, true)));
        assert_eq!(of(ICMP_DEST_UNREACH, 1), Some((Errno::EHOSTUNREACH, false)));
        assert_eq!(of(ICMP_DEST_UNREACH, 200), Some((Errno::EHOSTUNREACH, false)));
        assert_eq!(of(ICMP_ECHO, 0), None);
        let of =
            |kind, code| meaning_of_icmp6(kind, code, 0).map(|trouble| (trouble.errno, trouble.is_fatal));
        assert_eq!(of(ICMPV6_DEST_UNREACH, 4), Some((Errno::ECONNREFUSED, true)));
        assert_eq!(of(ICMPV6_ECHO_REQUEST, 0), None);
    }
}
