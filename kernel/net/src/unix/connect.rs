//! The life of a UNIX socket: bind(2), listen(2), connect(2), accept(2), shutdown(2), close(2).
//!
//! Locks: see the module's head. A connection is made under the listener's backlog and then the client's state, so that
//! neither side sees half of one.

use abi::errno::{Errno, Result};
use abi::socket::{AF_UNIX, AF_UNSPEC};
use alloc::sync::Arc;
use security::Credentials;

use super::address::{self, UnixName};
use super::packet::Packet;
use super::{Backlog, State, Status, UnixSocket, rights};
use crate::message::{Sender, SocketAddress};
use crate::queue::Message;
use crate::socket::{Shutdown, SocketKind};

/// Whether a socket that is closed was never accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Embryo {
    /// It was waiting in a backlog.
    Yes,
    /// It had a descriptor.
    No,
}

/// bind(2). `EINVAL`: not an address, or bound already; `EADDRINUSE`; those of mknod(2).
pub fn bind(socket: &Arc<UnixSocket>, address: &SocketAddress) -> Result<()> {
    let name = UnixName::parse(address)?;
    if let UnixName::Unnamed = name {
        return bind_itself(socket);
    }
    let _binding = socket.binding.lock();
    let address = match name {
        UnixName::Path(path) => address::bind_path(socket, path)?,
        _ if socket.address().is_some() => return Err(Errno::EINVAL),
        UnixName::Abstract(name) => address::bind_abstract(socket, name)?,
        UnixName::Unnamed => return Ok(()),
    };
    socket.state.lock().address = Some(address);
    Ok(())
}

/// Gives a socket without a name a free one (autobind). `ENOSPC`: there are none.
pub fn bind_itself(socket: &Arc<UnixSocket>) -> Result<()> {
    let _binding = socket.binding.lock();
    if socket.address().is_none() {
        let address = address::bind_free(socket)?;
        socket.state.lock().address = Some(address);
    }
    Ok(())
}

/// Who wants to know of senders must be answerable: such a socket binds itself.
pub fn bind_if_wanted(socket: &Arc<UnixSocket>) -> Result<()> {
    if socket.wants_credentials() && socket.address().is_none() { bind_itself(socket) } else { Ok(()) }
}

/// listen(2). `EOPNOTSUPP`: datagrams; `EINVAL`: not bound, or connected.
pub fn listen(socket: &Arc<UnixSocket>, limit: usize) -> Result<()> {
    if !socket.is_connection_based() {
        return Err(Errno::EOPNOTSUPP);
    }
    if socket.address().is_none() {
        return Err(Errno::EINVAL);
    }
    let mut backlog = socket.backlog.lock();
    let mut state = socket.state.lock();
    if !matches!(state.status, Status::Unconnected | Status::Listening) {
        return Err(Errno::EINVAL);
    }
    state.status = Status::Listening;
    drop(state);
    let grows = limit > backlog.limit;
    backlog.limit = limit;
    backlog.listening = true;
    drop(backlog);
    socket.core.set_listening();
    socket.core.set_peer(Some(Sender::current()));
    if grows {
        socket.wake_room();
    }
    Ok(())
}

/// socketpair(2): joins two new sockets.
pub fn pair(one: &Arc<UnixSocket>, other: &Arc<UnixSocket>) {
    let who = Sender::current();
    for (socket, peer) in [(one, other), (other, one)] {
        socket.core.set_peer(Some(who.clone()));
        let mut state = socket.state.lock();
        state.peer = Some(peer.clone());
        state.status = Status::Connected;
    }
}

/// connect(2) for streams and sequenced packets: leaves a connection in the listener's backlog.
///
/// Errors: `EINVAL`, those of the lookup, `ECONNREFUSED`, `EAGAIN`: the backlog is full; `EISCONN`, `EINTR`.
pub fn connect_stream(socket: &Arc<UnixSocket>, address: &SocketAddress, nonblocking: bool) -> Result<()> {
    if let UnixName::Unnamed = UnixName::parse(address)? {
        return Err(Errno::EINVAL);
    }
    bind_if_wanted(socket)?;
    let deadline_ns = socket.core.options.send_deadline();
    let who = Sender::current();
    let embryo = new_embryo(socket, &who.credentials)?;
    let result = loop {
        let listener = match address::find(socket, address) {
            Ok(listener) => listener,
            Err(error) => break Err(error),
        };
        match enter_backlog(socket, &listener, &embryo, &who) {
            Ok(Entered::Full) if nonblocking => break Err(Errno::EAGAIN),
            Ok(Entered::Full) => {
                if let Err(error) = wait_for_room(socket, &listener, deadline_ns) {
                    break Err(error);
                }
            }
            // There may be another by now.
            Ok(Entered::Closed) => {}
            Ok(Entered::Connected) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if result.is_err() {
        release(&embryo, Embryo::Yes);
    }
    result
}

/// The listener's side of a connection to be.
fn new_embryo(socket: &Arc<UnixSocket>, who: &Credentials) -> Result<Arc<UnixSocket>> {
    UnixSocket::new(socket.core.kind(), socket.core.protocol(), socket.core.namespace(), who)
}

fn wait_for_room(socket: &UnixSocket, listener: &UnixSocket, deadline_ns: Option<u64>) -> Result<()> {
    let ready = || {
        let backlog = listener.backlog.lock();
        let full = backlog.listening && backlog.waiting.len() > backlog.limit;
        (!full || listener.core.is_receive_shut()).then_some(())
    };
    socket.core.wait_exclusive(&listener.room, deadline_ns, ready)
}

/// What became of a try to connect.
enum Entered {
    Connected,
    /// The backlog is full.
    Full,
    /// The listener was closed since it was found.
    Closed,
}

/// Makes the connection, if the listener takes one more. `ECONNREFUSED`: it does not listen; `EISCONN`, `EINVAL`: so is the client.
fn enter_backlog(
    socket: &Arc<UnixSocket>,
    listener: &Arc<UnixSocket>,
    embryo: &Arc<UnixSocket>,
    who: &Sender,
) -> Result<Entered> {
    let listener_address = listener.address();
    let mut backlog = listener.backlog.lock();
    if listener.is_dead() {
        return Ok(Entered::Closed);
    }
    if !backlog.listening || listener.core.is_receive_shut() {
        return Err(Errno::ECONNREFUSED);
    }
    if backlog.waiting.len() > backlog.limit {
        return Ok(Entered::Full);
    }
    backlog.waiting.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    match socket.status() {
        Status::Unconnected => {}
        Status::Connected => return Err(Errno::EISCONN),
        Status::Listening | Status::Dead => return Err(Errno::EINVAL),
    }
    *embryo.listener.lock() = Some(Arc::downgrade(listener));
    embryo.core.set_peer(Some(who.clone()));
    *embryo.state.lock() =
        State { status: Status::Connected, peer: Some(socket.clone()), address: listener_address };
    let mut state = socket.state.lock();
    if state.status != Status::Unconnected {
        drop(state);
        embryo.state.lock().peer = None;
        return Err(Errno::EISCONN);
    }
    state.peer = Some(embryo.clone());
    state.status = Status::Connected;
    drop(state);
    socket.core.set_peer(listener.core.peer());
    backlog.waiting.push_back(embryo.clone());
    drop(backlog);
    socket.core.wake_all();
    listener.core.wake_readers();
    Ok(Entered::Connected)
}

/// connect(2) for datagrams: says where they go, and from whom they are taken; `AF_UNSPEC` undoes it.
///
/// Errors: `EINVAL`, those of the lookup, `ECONNREFUSED`, `EPROTOTYPE`; `EPERM`: the other is connected elsewhere.
pub fn connect_datagram(socket: &Arc<UnixSocket>, address: &SocketAddress) -> Result<()> {
    let family = address.family().map(u32::from).ok_or(Errno::EINVAL)?;
    let other = if family == AF_UNSPEC {
        None
    } else {
        if family != AF_UNIX {
            return Err(Errno::EINVAL);
        }
        bind_if_wanted(socket)?;
        let other = address::find(socket, address)?;
        if !may_send(socket, &other) {
            return Err(Errno::EPERM);
        }
        Some(other)
    };
    let status = if other.is_some() { Status::Connected } else { Status::Unconnected };
    let old = {
        let mut state = socket.state.lock();
        state.status = status;
        core::mem::replace(&mut state.peer, other.clone())
    };
    if let Some(old) = old
        && !other.is_some_and(|other| Arc::ptr_eq(&other, &old))
    {
        disconnect(socket, &old);
    }
    socket.core.wake_writers();
    Ok(())
}

/// Whether `other` takes datagrams from `socket`: it is connected to it, or to nobody.
pub fn may_send(socket: &Arc<UnixSocket>, other: &UnixSocket) -> bool {
    other.peer().is_none_or(|peer| Arc::ptr_eq(&peer, socket))
}

/// A datagram socket left its partner: what came is dropped, and if anything was, a partner that was connected back is told.
pub fn disconnect(socket: &UnixSocket, old: &UnixSocket) {
    let messages = socket.queue.take_matching(|_| true);
    if messages.is_empty() {
        return;
    }
    drop(messages);
    socket.wake_room();
    let back = old.peer().is_some_and(|peer| core::ptr::eq(&*peer, socket));
    if back && !old.is_dead() {
        old.core.set_error(Errno::ECONNRESET);
        old.core.wake_all();
    }
}

/// accept(2). `EOPNOTSUPP`, `EINVAL`: not listening, or shut down; `EAGAIN`, `EINTR`.
pub fn accept(socket: &Arc<UnixSocket>, nonblocking: bool) -> Result<Arc<UnixSocket>> {
    if !socket.is_connection_based() {
        return Err(Errno::EOPNOTSUPP);
    }
    if socket.status() != Status::Listening {
        return Err(Errno::EINVAL);
    }
    let take = || {
        socket
            .core
            .check_error()
            .map(|()| take_connection(socket))
            .transpose()
            .or_else(|| // One that does not block is told only that there is none.
            (socket.core.is_receive_shut() && !nonblocking).then_some(Err(Errno::EINVAL)))
    };
    let embryo = match take() {
        Some(result) => result?,
        None if nonblocking => return Err(Errno::EAGAIN),
        None => {
            let deadline_ns = socket.core.options.receive_deadline();
            socket.core.wait_exclusive(socket.core.readable(), deadline_ns, take)??
        }
    };
    rights::accepting(|| *embryo.listener.lock() = None);
    socket.wake_room();
    Ok(embryo)
}

fn take_connection(socket: &UnixSocket) -> Option<Arc<UnixSocket>> {
    socket.backlog.lock().waiting.pop_front()
}

/// shutdown(2): what one side does not send the other does not receive.
pub fn shutdown(socket: &UnixSocket, how: Shutdown) {
    socket.core.add_shutdown(how);
    let peer = socket.peer();
    socket.core.wake_all();
    socket.wake_room();
    let Some(peer) = peer.filter(|_| socket.is_connection_based()) else { return };
    let mirrored = match how {
        Shutdown::Read => Shutdown::Write,
        Shutdown::Write => Shutdown::Read,
        Shutdown::Both => Shutdown::Both,
    };
    peer.core.add_shutdown(mirrored);
    peer.core.wake_all();
}

/// The last descriptor is gone, or a connection is refused that was not accepted. A second call does nothing.
pub fn release(socket: &UnixSocket, embryo: Embryo) {
    let (peer, address) = {
        let mut state = socket.state.lock();
        if state.status == Status::Dead {
            return;
        }
        state.status = Status::Dead;
        (state.peer.take(), state.address.clone())
    };
    socket.core.add_shutdown(Shutdown::Both);
    socket.core.namespace().unix().unregister(socket, address.as_deref());
    let messages = socket.queue.close();
    let urgent = socket.urgent.lock().take();
    drop(urgent);
    let backlog = core::mem::take::<Backlog>(&mut socket.backlog.lock());
    if let Some(peer) = peer {
        if socket.is_connection_based() {
            peer.core.add_shutdown(Shutdown::Both);
            // An urgent byte that was read leaves an empty message.
            let unread =
                |message: &Arc<Packet>| message.length() > 0 || socket.core.kind() != SocketKind::Stream;
            if embryo == Embryo::Yes || messages.iter().any(unread) {
                peer.core.set_error(Errno::ECONNRESET);
            }
            peer.core.wake_all();
        }
        drop(peer);
    }
    for waiting in backlog.waiting {
        release(&waiting, Embryo::Yes);
    }
    // Not under any lock: descriptors in them may close others.
    drop(messages);
    socket.wake_room();
    socket.core.wake_all();
    rights::note_closed();
}

/// Whether room for one more datagram is worth waiting for.
pub fn wait_for_queue(socket: &UnixSocket, other: &UnixSocket, deadline_ns: Option<u64>) -> Result<()> {
    let ready = || {
        let blocked = other.is_queue_full() && !other.core.is_receive_shut() && !other.is_dead();
        (!blocked).then_some(())
    };
    socket.core.wait_exclusive(&other.room, deadline_ns, ready)
}
