//! NETLINK_SOCK_DIAG: programs list sockets (sock_diag(7)); ss(8) reads it.
//!
//! | file | which sockets |
//! |---|---|
//! | `unix`, `inet`, `netlink`, `packet` | those families' |
//!
//! A family's handler gets the whole request. Lists go on from a key, so that sockets which come and go hide nothing that stays.
//! Locks: those of the tables that are read.

mod inet;
mod netlink;
mod packet;
mod unix;

use abi::diag::*;
use abi::errno::{Errno, Result};
use abi::netlink::NLM_F_DUMP;
use abi::socket::{AF_INET, AF_INET6, AF_MAX, AF_NETLINK, AF_PACKET, AF_UNIX};
use linnet_lib::netlink::{Builder, Mark, Outcome};
use zerocopy::IntoBytes;

use super::request::{Dumper, Handled, Reply, Request};
use crate::core::SocketCore;
use crate::options;

/// Multicast groups.
pub(super) const GROUPS: u32 = SKNLGRP_MAX;
/// Room for one answer.
const ANSWER: usize = 16 << 10;
/// A cookie that stands for any (`INET_DIAG_NOCOOKIE`).
const ANY_COOKIE: [u32; 2] = [u32::MAX; 2];

/// `TCP_ESTABLISHED` and its like, which say the state of every family's sockets.
mod state {
    pub const ESTABLISHED: u8 = 1;
    pub const CLOSE: u8 = 7;
    pub const LISTEN: u8 = 10;
}

/// A message to the protocol. `EINVAL`: no such message, too short; `ENOENT`: a family that is not listed; `EOPNOTSUPP`.
pub(super) fn handle(request: &Request<'_>) -> Outcome<Handled> {
    match request.message.header.nlmsg_type {
        SOCK_DIAG_BY_FAMILY | SOCK_DESTROY => {}
        // What these asked for was TCP's alone.
        TCPDIAG_GETSOCK => return Err(Errno::ENOENT.into()),
        _ => return Err(Errno::EINVAL.into()),
    }
    let [family, _] = *request.message.payload.first_chunk::<2>().ok_or(Errno::EINVAL)?;
    let family = u32::from(family);
    if family >= AF_MAX {
        return Err(Errno::EINVAL.into());
    }
    let handler = match family {
        AF_UNIX => unix::handle,
        AF_INET | AF_INET6 => inet::handle,
        AF_NETLINK => netlink::handle,
        AF_PACKET => packet::handle,
        _ => return Err(Errno::ENOENT.into()),
    };
    if is_destruction(request) && !matches!(family, AF_INET | AF_INET6) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    handler(request)
}

fn is_destruction(request: &Request<'_>) -> bool {
    request.message.header.nlmsg_type == SOCK_DESTROY
}

fn is_dump(request: &Request<'_>) -> bool {
    request.has_flag(NLM_F_DUMP & !0xff) || request.message.header.nlmsg_flags & NLM_F_DUMP != 0
}

/// A socket's cookie in halves.
fn cookie(core: &SocketCore) -> [u32; 2] {
    let cookie = core.cookie();
    [cookie as u32, (cookie >> 32) as u32]
}

/// `ESTALE`: the socket has another cookie.
fn check_cookie(core: &SocketCore, wanted: [u32; 2]) -> Result<()> {
    if wanted == ANY_COOKIE || wanted == cookie(core) { Ok(()) } else { Err(Errno::ESTALE) }
}

/// `SHUTDOWN_MASK` of a socket.
fn shutdown_bits(core: &SocketCore) -> u8 {
    u8::from(core.is_receive_shut()) | u8::from(core.is_send_shut()) << 1
}

/// A socket's owner in the numbers of who asks.
fn owner(request_owner: &security::UserNamespace, core: &SocketCore) -> u32 {
    request_owner.from_kuid_munged(core.owner())
}

/// An attribute with what SO_MEMINFO says.
fn put_memory(out: &mut Builder, kind: u16, core: &SocketCore) -> Result<()> {
    out.attribute(kind, options::memory_info(core).as_bytes())
}

/// Begins a message about a socket.
fn begin(out: &mut Builder, reply: &Reply) -> Result<Mark> {
    out.begin(SOCK_DIAG_BY_FAMILY, reply.flags, reply.sequence, reply.port)
}

/// Where a list goes on: what comes next, with the key to go on from behind it.
trait Listing: Send {
    type Socket;
    /// The next socket; moves on.
    fn next(&mut self) -> Option<Self::Socket>;
    /// Writes it. `EMSGSIZE`: no room.
    fn write(&self, socket: &Self::Socket, out: &mut Builder, reply: &Reply) -> Result<()>;
}

/// A listing as a dump. A socket for which there was no room waits here.
struct Dump<L: Listing> {
    listing: L,
    waiting: Option<L::Socket>,
}

impl<L: Listing> Dump<L> {
    fn new(listing: L) -> Dump<L> {
        Dump { listing, waiting: None }
    }
}

impl<L: Listing> Dumper for Dump<L>
where
    L::Socket: Send,
{
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        while let Some(socket) = self.waiting.take().or_else(|| self.listing.next()) {
            let before = out.mark();
            match self.listing.write(&socket, out, reply) {
                Ok(()) => {}
                Err(Errno::EMSGSIZE) => {
                    out.cancel(before);
                    self.waiting = Some(socket);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
