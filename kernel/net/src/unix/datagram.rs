//! Datagrams and sequenced packets: messages that stay whole (unix(7)).
//!
//! A message waits in the receiver's queue; the sender's buffer bounds what it has on the way, and the receiver's limit how many
//! messages of strangers wait. Locks: none across calls; see the module's head.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use machine::memory::try_arc;
use machine::sync::atomic::Ordering;

use super::packet::{Packet, Payload};

use super::stream::{identity_of, rights_of, wait_for_send_room};
use super::{Status, UnixSocket, address, connect};
use crate::account::{SendCharge, datagram_cost};
use crate::message::{MessageFlags, ReceiveMessage, SendMessage, SocketAddress};
use crate::options::Switches;
use crate::queue::Message;
use crate::socket::SocketKind;

/// What a message of half the buffer would leave no room for: its header.
const RESERVED: usize = 32;

/// send(2) on a sequenced-packet socket: where to is settled, so that an address is ignored. `ENOTCONN`, and as [`send`].
pub fn send_sequenced(socket: &Arc<UnixSocket>, message: &mut SendMessage<'_>) -> Result<usize> {
    socket.core.check_error()?;
    if socket.status() != Status::Connected {
        return Err(Errno::ENOTCONN);
    }
    message.address = SocketAddress::NONE;
    send(socket, message)
}

/// send(2) and sendto(2) of a datagram.
///
/// Errors: `EOPNOTSUPP`: urgent; `EINVAL`: a bad address; `ENOTCONN`, `EMSGSIZE`, `EAGAIN`, `EINTR`, `EFAULT`, `ECONNREFUSED`, `EPERM`:
/// the receiver is connected to another; `EPIPE`, `ETOOMANYREFS`, `ENOMEM`.
pub fn send(socket: &Arc<UnixSocket>, message: &mut SendMessage<'_>) -> Result<usize> {
    if message.flags.contains(MessageFlags::OOB) {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut target = None;
    if message.address.is_none() {
        target = Some(socket.peer().ok_or(Errno::ENOTCONN)?);
    } else if let address::UnixName::Unnamed = address::UnixName::parse(&message.address)? {
        return Err(Errno::EINVAL);
    }
    connect::bind_if_wanted(socket)?;
    let length = message.data.remaining();
    if length > socket.core.options.send_buffer().saturating_sub(RESERVED) {
        return Err(Errno::EMSGSIZE);
    }
    let deadline_ns = socket.core.options.send_deadline();
    wait_for_send_room(socket, message.is_nonblocking(), deadline_ns)?;
    let charge = SendCharge::new(&socket.core, datagram_cost(length));
    let payload = Payload::read(message.data, length)?;
    let other = match target {
        Some(target) => target,
        None => address::find(socket, &message.address)?,
    };
    let mut packet = build(socket, &other, message, payload, length, charge)?;
    if let Some(filter) = other.core.filter() {
        match filter.run(&packet) {
            // Dropped on the way, of which the sender is not told.
            0 => return Ok(length),
            kept => packet.truncate(kept),
        }
    }
    deliver(socket, other, try_arc(packet)?, message, deadline_ns)?;
    Ok(length)
}

fn build(
    socket: &Arc<UnixSocket>,
    other: &Arc<UnixSocket>,
    message: &mut SendMessage<'_>,
    payload: Payload,
    length: usize,
    charge: SendCharge,
) -> Result<Packet> {
    let rights = rights_of(other, message)?;
    let mut packet = Packet::new(socket, payload, length, charge, rights);
    packet.sender = identity_of(socket, other, message);

    packet.time_ns = other.core.options.has(Switches::TIMESTAMP).then(sched::clock::realtime_ns);
    Ok(packet)
}

/// Puts a message into the queue of its receiver, when there is room.
fn deliver(
    socket: &Arc<UnixSocket>,
    other: Arc<UnixSocket>,
    packet: Arc<Packet>,
    message: &SendMessage<'_>,
    deadline_ns: Option<u64>,
) -> Result<()> {
    loop {
        if !connect::may_send(socket, &other) {
            return Err(Errno::EPERM);
        }
        if other.is_dead() {
            return Err(partner_gone(socket, &other));
        }
        if other.core.is_receive_shut() {
            return Err(Errno::EPIPE);
        }
        let is_pair = other.peer().is_some_and(|back| Arc::ptr_eq(&back, socket));
        let limit = other.queue_limit.load(Ordering::Relaxed);
        let pushed = other.queue.push(packet.clone(), |waiting| {
            let full = waiting > limit && !is_pair && !Arc::ptr_eq(&other, socket);
            if full { Err(Errno::EAGAIN) } else { Ok(()) }
        });
        match pushed {
            Ok(()) => {
                let _sync = sched::sync_wakes();
                other.core.wake_readers();
                return Ok(());
            }
            Err(Errno::EAGAIN) if message.is_nonblocking() => {
                let connected = socket.peer().is_some_and(|peer| Arc::ptr_eq(&peer, &other));
                if !connected || other.refuse(socket) {
                    return Err(Errno::EAGAIN);
                }
            }
            Err(Errno::EAGAIN) => connect::wait_for_queue(socket, &other, deadline_ns)?,
            // Closed since it was looked at: the next round says so.
            Err(Errno::EPIPE) if other.is_dead() => {}
            Err(error) => return Err(error),
        }
    }
}

/// What sending to a socket that is closed means; a datagram socket that was connected to it is so no more.
fn partner_gone(socket: &Arc<UnixSocket>, other: &Arc<UnixSocket>) -> Errno {
    if socket.core.kind() == SocketKind::SequencedPacket {
        return Errno::EPIPE;
    }
    let left = {
        let mut state = socket.state.lock();
        if state.peer.as_ref().is_some_and(|peer| Arc::ptr_eq(peer, other)) {
            state.status = Status::Unconnected;
            state.peer.take()
        } else {
            None
        }
    };
    if let Some(left) = left {
        connect::disconnect(socket, &left);
    }
    Errno::ECONNREFUSED
}

/// recv(2) of one message; what does not fit is lost.
///
/// Errors: `EOPNOTSUPP`: urgent; `EAGAIN`, `EINTR`, `EFAULT`, and the noted error. A shut-down socket gives 0.
pub fn receive(socket: &Arc<UnixSocket>, message: &mut ReceiveMessage<'_>) -> Result<usize> {
    if message.flags.contains(MessageFlags::OOB) {
        return Err(Errno::EOPNOTSUPP);
    }
    let options = &socket.core.options;
    let peeking = message.flags.contains(MessageFlags::PEEK);
    let mut skip = 0;
    let mut find = || {
        if let Err(error) = socket.core.check_error() {
            return Some(Err(error));
        }
        skip = if peeking { options.peek_offset().max(0) as usize } else { 0 };
        let found = if peeking { peek(socket, &mut skip) } else { socket.queue.pop() };
        match found {
            Some(packet) => Some(Ok(Some(packet))),
            None if ends(socket, message) => Some(Ok(None)),
            None => None,
        }
    };
    let found = match find() {
        Some(found) => found?,
        None if message.is_nonblocking() => return Err(Errno::EAGAIN),
        None => {
            let deadline_ns = options.receive_deadline();
            socket.core.wait_exclusive(socket.core.readable(), deadline_ns, find)??
        }
    };
    let Some(packet) = found else { return Ok(0) };
    if !peeking {
        socket.wake_room();
    }
    give(socket, &packet, message, skip, peeking)
}

/// Whether nothing comes any more, and the reader is told so. A socket of datagrams that does not block is not.
fn ends(socket: &UnixSocket, message: &ReceiveMessage<'_>) -> bool {
    let told = socket.core.kind() == SocketKind::SequencedPacket || !message.is_nonblocking();
    told && socket.core.is_receive_shut()
}

/// The message that a peek with an offset starts in; the offset within it is left in `skip`.
fn peek(socket: &UnixSocket, skip: &mut usize) -> Option<Arc<Packet>> {
    let mut place = 0;
    loop {
        let packet = socket.queue.get(place)?;
        let length = packet.length();
        if *skip < length || (*skip == 0 && length == 0) {
            return Some(packet);
        }
        *skip -= length;
        place += 1;
    }
}

fn give(
    socket: &UnixSocket,
    packet: &Arc<Packet>,
    message: &mut ReceiveMessage<'_>,
    skip: usize,
    peeking: bool,
) -> Result<usize> {
    let length = packet.length() - skip;
    let wanted = message.data.remaining().min(length);
    packet.name_source(&mut message.address);
    if wanted < length {
        message.answer_flags |= MessageFlags::TRUNC;
    }
    if packet.copy_to(skip, wanted, message.data)? < wanted {
        return Err(Errno::EFAULT);
    }
    if let Some(time_ns) = packet.time_ns {
        crate::timestamp::add(&socket.core, time_ns, &mut message.ancillary)?;
    }
    message.ancillary.sender.clone_from(&packet.sender);
    // A peek has the descriptors out of the message for a moment, in which nobody else may look for them.
    let _reading = packet.has_rights().then(|| socket.reader.lock());
    if peeking {
        message.ancillary.files = packet.peek_rights()?;
        socket.core.options.note_peeked(wanted);
    } else {
        if let Some(rights) = packet.take_rights() {
            message.ancillary.files = rights.receive();
        }
        socket.core.options.note_read(packet.length());
    }
    Ok(if message.flags.contains(MessageFlags::TRUNC) { length } else { wanted })
}
