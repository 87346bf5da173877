//! UNIX sockets for sock_diag(7). Locks: those of a socket's state and backlog, one after the other.

use abi::diag::*;
use abi::errno::{Errno, Result};
use abi::socket::AF_UNIX;
use alloc::sync::Arc;
use linnet_lib::netlink::{Builder, Outcome};
use security::UserNamespace;
use zerocopy::IntoBytes;

use super::{ANSWER, Dump, Listing, begin, check_cookie, cookie, is_dump, put_memory, shutdown_bits, state};
use crate::namespace::NetNamespace;
use crate::netlink::request::{Handled, Reply, Request, begin_dump, boxed};
use crate::unix::{SocketState, UnixCursor, UnixSocket};

/// `EINVAL`: too short, no inode; `ENOENT`: no such socket; `ESTALE`.
pub(super) fn handle(request: &Request<'_>) -> Outcome<Handled> {
    let wanted: UnixDiagReq = request.message.fixed().ok_or(Errno::EINVAL)?;
    let describe =
        Describe { show: wanted.udiag_show, viewer: request.sender.credentials.user_namespace.clone() };
    if is_dump(request) {
        return begin_dump(request, || {
            let listing = UnixListing {
                namespace: request.namespace().clone(),
                states: wanted.udiag_states,
                describe,
                cursor: UnixCursor::default(),
            };
            boxed(Dump::new(listing))
        });
    }
    if wanted.udiag_ino == 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut cursor = UnixCursor::default();
    let socket = loop {
        let socket = request.namespace().unix().next(&mut cursor).ok_or(Errno::ENOENT)?;
        if socket.core().inode_number() as u32 == wanted.udiag_ino {
            break socket;
        }
    };
    check_cookie(socket.core(), wanted.udiag_cookie)?;
    let mut out = Builder::new(ANSWER);
    let reply = Reply { sequence: request.message.header.nlmsg_seq, port: request.socket.port(), flags: 0 };
    describe.write(&socket, &mut out, &reply)?;
    request.answer(out);
    Ok(Handled::Done)
}

struct UnixListing {
    namespace: Arc<NetNamespace>,
    states: u32,
    describe: Describe,
    cursor: UnixCursor,
}

impl Listing for UnixListing {
    type Socket = Arc<UnixSocket>;

    fn next(&mut self) -> Option<Arc<UnixSocket>> {
        loop {
            let socket = self.namespace.unix().next(&mut self.cursor)?;
            let is_wanted = self.states & 1 << state_of(&socket) != 0;
            if is_wanted && socket.core().inode_number() != 0 {
                return Some(socket);
            }
        }
    }

    fn write(&self, socket: &Arc<UnixSocket>, out: &mut Builder, reply: &Reply) -> Result<()> {
        self.describe.write(socket, out, reply)
    }
}

fn state_of(socket: &UnixSocket) -> u8 {
    match socket.socket_state() {
        SocketState::Connected => state::ESTABLISHED,
        SocketState::Listening => state::LISTEN,
        SocketState::Other => state::CLOSE,
    }
}

/// What is told, and to whom.
struct Describe {
    show: u32,
    viewer: Arc<UserNamespace>,
}

impl Describe {
    fn write(&self, socket: &Arc<UnixSocket>, out: &mut Builder, reply: &Reply) -> Result<()> {
        let core = socket.core();
        let mark = begin(out, reply)?;
        let header = UnixDiagMsg {
            udiag_family: AF_UNIX as u8,
            udiag_type: core.kind().number() as u8,
            udiag_state: state_of(socket),
            pad: 0,
            udiag_ino: core.inode_number() as u32,
            udiag_cookie: cookie(core),
        };
        out.fixed(header.as_bytes())?;
        let shows = |what| self.show & what != 0;
        let address = socket.bound_address();
        if let Some(address) = address.as_ref().filter(|_| shows(UDIAG_SHOW_NAME)) {
            out.attribute(UNIX_DIAG_NAME, address.address.as_bytes().get(2..).unwrap_or_default())?;
        }
        if shows(UDIAG_SHOW_VFS)
            && let Some(place) = address.as_ref().and_then(|address| address.path.as_ref())
            && let Ok(inode) = place.inode()
        {
            let device = inode.superblock().device();
            let numbers = [inode.number() as u32, device.major << 20 | device.minor];
            out.attribute(UNIX_DIAG_VFS, numbers.as_bytes())?;
        }
        if shows(UDIAG_SHOW_PEER)
            && let Some(peer) = socket.connected_to()
        {
            out.u32(UNIX_DIAG_PEER, peer.core().inode_number() as u32)?;
        }
        let is_listening = socket.socket_state() == SocketState::Listening;
        if shows(UDIAG_SHOW_ICONS) && is_listening {
            let waiting = socket.waiting_connections()?;
            out.attribute(UNIX_DIAG_ICONS, waiting.as_bytes())?;
        }
        if shows(UDIAG_SHOW_RQLEN) {
            let (received, sent) = socket.queue_lengths();
            out.attribute(UNIX_DIAG_RQLEN, [received as u32, sent as u32].as_bytes())?;
        }
        if shows(UDIAG_SHOW_MEMINFO) {
            put_memory(out, UNIX_DIAG_MEMINFO, core)?;
        }
        out.u8(UNIX_DIAG_SHUTDOWN, shutdown_bits(core))?;
        if shows(UDIAG_SHOW_UID) {
            out.u32(UNIX_DIAG_UID, super::owner(&self.viewer, core))?;
        }
        out.end(mark);
        Ok(())
    }
}
