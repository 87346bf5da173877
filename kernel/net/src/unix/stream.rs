//! Streams: bytes from one socket to its partner, with descriptors and credentials between them (unix(7)).
//!
//! A send copies its bytes into messages of up to half the buffer, without a lock, and appends each to the partner's queue; a
//! receive takes bytes from one message after the other, but never across a change of sender or behind descriptors. An urgent byte is
//! a message of its own in the queue, to which the receiver's `urgent` points until it was read.
//! Locks: the readers' lock of the socket, while bytes are copied out; see the module's head.

use abi::errno::{Errno, Result};
use abi::poll::PollEvents;
use alloc::sync::Arc;
use machine::memory::try_arc;

use super::packet::{Packet, Payload};
use super::rights::InFlight;
use super::{Status, UnixSocket};
use crate::account::{self, LINEAR_PAGE, PIECE, SendCharge, has_send_room};
use crate::message::{Identity, MessageFlags, ReceiveMessage, SendMessage, Sender};
use crate::options::Switches;
use crate::queue::Message;
use machine::PAGE_SIZE;

/// Who a message says it is from: what the program said, else who sends, if one of the two wants to know.
pub fn identity_of(
    socket: &UnixSocket,
    other: &UnixSocket,
    message: &mut SendMessage<'_>,
) -> Option<Identity> {
    message.ancillary.sender.clone().or_else(|| {
        // Before it is accepted nobody has said yet whether it wants to know.
        let wanted =
            socket.wants_credentials() || other.wants_credentials() || other.listener.lock().is_some();
        wanted.then(|| Sender::current().identity())
    })
}

/// The descriptors that come with a message. `EPERM`: the receiver takes none; `ETOOMANYREFS`.
pub fn rights_of(other: &Arc<UnixSocket>, message: &mut SendMessage<'_>) -> Result<Option<InFlight>> {
    let files = core::mem::take(&mut message.ancillary.files);
    if files.is_empty() {
        return Ok(None);
    }
    if other.core.options.has(Switches::NO_RIGHTS) {
        super::rights::drop_files(files);
        return Err(Errno::EPERM);
    }
    InFlight::new(files, other, &Sender::current().credentials).map(Some)
}

/// Waits until the sender may send one more message. `EAGAIN`, `EINTR`; `EPIPE`: it was shut down; a noted error.
pub fn wait_for_send_room(socket: &UnixSocket, nonblocking: bool, deadline_ns: Option<u64>) -> Result<()> {
    let core = &socket.core;
    let ready = || {
        if let Err(error) = core.check_error() {
            return Some(Err(error));
        }
        if core.is_send_shut() {
            return Some(Err(Errno::EPIPE));
        }
        has_send_room(core).then_some(Ok(()))
    };
    match ready() {
        Some(result) => result,
        None if nonblocking => Err(Errno::EAGAIN),
        None => core.wait(core.writable(), deadline_ns, ready)?,
    }
}

/// How many of the bytes that are left go into the next message: half the buffer at most, so that two are on their way, and as
/// much as one large piece of memory and a page hold.
fn piece(socket: &UnixSocket, left: usize) -> (usize, usize) {
    let most = (socket.core.options.send_buffer() / 2).saturating_sub(64).max(1);
    let size = left.min(most).min(LINEAR_PAGE + PIECE);
    let paged = size.saturating_sub(LINEAR_PAGE).next_multiple_of(PAGE_SIZE).min(size);
    (size, account::cost(size - paged, paged))
}

/// send(2) on a stream. `EISCONN`, `EOPNOTSUPP`: with an address; `ENOTCONN`, `EPIPE`, `EAGAIN`, `EINTR`, `EFAULT`, `ENOMEM`,
/// `ETOOMANYREFS`; an error only if nothing was sent.
pub fn send(socket: &Arc<UnixSocket>, message: &mut SendMessage<'_>) -> Result<usize> {
    let urgent = message.flags.contains(MessageFlags::OOB);
    if urgent && message.data.remaining() == 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let (status, peer) = {
        let state = socket.state.lock();
        (state.status, state.peer.clone())
    };
    if !message.address.is_none() {
        let connected = status == Status::Connected;
        return Err(if connected { Errno::EISCONN } else { Errno::EOPNOTSUPP });
    }
    let peer = peer.ok_or(Errno::ENOTCONN)?;
    if socket.core.is_send_shut() {
        return Err(Errno::EPIPE);
    }
    let deadline_ns = socket.core.options.send_deadline();
    let mut sent = 0;
    // The last byte of an urgent message goes by itself.
    while message.data.remaining() > 0 {
        let left = message.data.remaining();
        let (size, urgency) = match urgent {
            true if left == 1 => (1, Urgency::Urgent),
            true => (left - 1, Urgency::Ordinary),
            false => (left, Urgency::Ordinary),
        };
        match send_piece(socket, &peer, message, size, urgency, deadline_ns) {
            Ok(count) => sent += count,
            Err(_) if sent > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Whether a message is one urgent byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Urgency {
    Ordinary,
    Urgent,
}

fn send_piece(
    socket: &Arc<UnixSocket>,
    peer: &Arc<UnixSocket>,
    message: &mut SendMessage<'_>,
    left: usize,
    urgency: Urgency,
    deadline_ns: Option<u64>,
) -> Result<usize> {
    wait_for_send_room(socket, message.is_nonblocking(), deadline_ns)?;
    let (size, cost) = piece(socket, left);
    let charge = SendCharge::new(&socket.core, cost);
    let payload = Payload::read(message.data, size)?;
    let rights = rights_of(peer, message)?;
    let mut packet = Packet::new(socket, payload, size, charge, rights);
    packet.sender = identity_of(socket, peer, message);

    let packet = try_arc(packet)?;
    let _sync = sched::sync_wakes();
    if urgency == Urgency::Urgent {
        push_urgent(peer, packet)?;
        peer.core.readable().wake_with(1, (PollEvents::READABLE | PollEvents::PRI).bits());
    } else {
        peer.queue.push(packet, |_| open_for_receiving(peer))?;
        peer.core.wake_readers();
    }
    Ok(size)
}

fn open_for_receiving(peer: &UnixSocket) -> Result<()> {
    if peer.core.is_receive_shut() { Err(Errno::EPIPE) } else { Ok(()) }
}

/// Appends an urgent byte, which takes the place of the one before: that becomes an ordinary byte.
fn push_urgent(peer: &UnixSocket, packet: Arc<Packet>) -> Result<()> {
    let mut old = None;
    let result = peer.queue.push(packet.clone(), |_| {
        open_for_receiving(peer)?;
        old = peer.urgent.lock().replace(packet.clone());
        Ok(())
    });
    if result.is_err() {
        forget_urgent(peer, &packet);
    }
    result
}

/// The urgent byte is one no more, if it is this.
fn forget_urgent(socket: &UnixSocket, packet: &Arc<Packet>) {
    let old = {
        let mut urgent = socket.urgent.lock();
        if urgent.as_ref().is_some_and(|urgent| Arc::ptr_eq(urgent, packet)) { urgent.take() } else { None }
    };
    drop(old);
}

fn is_urgent(socket: &UnixSocket, packet: &Arc<Packet>) -> bool {
    socket.urgent.lock().as_ref().is_some_and(|urgent| Arc::ptr_eq(urgent, packet))
}

/// Whether the next byte is the urgent one, or comes right behind it (`SIOCATMARK`).
pub fn is_at_mark(socket: &UnixSocket) -> bool {
    let Some(first) = socket.queue.get(0) else { return false };
    if is_urgent(socket, &first) {
        return true;
    }
    let read_already = first.length() == 0;
    let next_is = socket.queue.get(1).is_some_and(|next| is_urgent(socket, &next));
    read_already && (next_is || socket.urgent.lock().is_none())
}

/// recv(2) with `MSG_OOB`: the urgent byte. `EINVAL`: there is none, or it is among the others (`SO_OOBINLINE`); `EFAULT`.
fn receive_urgent(socket: &UnixSocket, message: &mut ReceiveMessage<'_>) -> Result<usize> {
    let _reading = socket.reader.lock();
    let inline = socket.core.options.has(Switches::OOBINLINE);
    let packet = socket.urgent.lock().clone().filter(|_| !inline).ok_or(Errno::EINVAL)?;
    packet.copy_to(0, 1, message.data)?;
    if !message.flags.contains(MessageFlags::PEEK) {
        packet.consume(1);
        socket.queue.note_consumed(1);
        forget_urgent(socket, &packet);
    }
    message.answer_flags |= MessageFlags::OOB;
    Ok(1)
}

/// What an ordinary receive does with a message because of an urgent byte.
enum AtMark {
    /// It is taken like any other.
    Take,
    /// The receive ends in front of it.
    Stop,
    /// It was left out.
    Skipped,
}

/// An urgent byte ends the receive before it; one that starts with it leaves it out, unless it is to be among the others.
fn pass_mark(socket: &UnixSocket, packet: &Arc<Packet>, progress: &mut Progress, peeking: bool) -> AtMark {
    let read_already = packet.length() == 0;
    let urgent = is_urgent(socket, packet);
    if !read_already && !urgent {
        return AtMark::Take;
    }
    let inline = socket.core.options.has(Switches::OOBINLINE);
    if progress.copied > 0 && (urgent || socket.urgent.lock().is_none()) {
        return AtMark::Stop;
    }
    if urgent && inline {
        if !peeking {
            forget_urgent(socket, packet);
        }
        return AtMark::Take;
    }
    if peeking {
        progress.place += 1;
    } else {
        forget_urgent(socket, packet);
        socket.queue.pop_if_first(packet);
    }
    AtMark::Skipped
}

/// What a receive has so far.
struct Progress {
    copied: usize,
    /// Where in the queue a peek is, and how many bytes from there on it leaves out.
    place: usize,
    skip: usize,
    /// Whom the bytes are from, once that matters.
    sender: Option<Option<Identity>>,
}

/// Whether a receive goes on.
#[derive(PartialEq, Eq)]
enum Go {
    On,
    Done,
}

fn is_same_sender(one: &Option<Identity>, other: &Option<Identity>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            let same_process = match (&one.process, &other.process) {
                (Some(one), Some(other)) => one.is(&**other),
                (None, None) => true,
                _ => false,
            };
            same_process && one.uid == other.uid && one.gid == other.gid
        }
        _ => false,
    }
}

/// recv(2) on a stream. `EINVAL`: not connected; `EAGAIN`, `EINTR`, `EFAULT`, `ECONNRESET` and other noted errors.
pub fn receive(socket: &Arc<UnixSocket>, message: &mut ReceiveMessage<'_>) -> Result<usize> {
    if socket.status() != Status::Connected {
        return Err(Errno::EINVAL);
    }
    if message.flags.contains(MessageFlags::OOB) {
        return receive_urgent(socket, message);
    }
    let options = &socket.core.options;
    let peeking = message.flags.contains(MessageFlags::PEEK);
    let wanted = message.data.remaining();
    let target = options.receive_target(message.flags.contains(MessageFlags::WAITALL), wanted);
    let deadline_ns = options.receive_deadline();
    let offset = if peeking { options.peek_offset().max(0) as usize } else { 0 };
    let mut progress = Progress { copied: 0, place: 0, skip: offset, sender: None };
    let mut reading = socket.reader.lock();
    let result = loop {
        match socket.queue.get(progress.place) {
            Some(packet) if progress.skip >= packet.length() && packet.length() > 0 => {
                progress.skip -= packet.length();
                progress.place += 1;
            }
            Some(packet) => match pass_mark(socket, &packet, &mut progress, peeking) {
                AtMark::Skipped => {}
                AtMark::Stop => break Ok(()),
                AtMark::Take => match take(socket, &packet, message, &mut progress, peeking) {
                    Ok(Go::On) if message.data.remaining() > 0 => {}
                    Ok(_) => break Ok(()),
                    Err(error) => break Err(error),
                },
            },
            // A peek does not wait for more than is there.
            None if progress.copied >= target || (peeking && progress.copied > 0) => break Ok(()),
            None => {
                if let Err(error) = socket.core.check_error() {
                    break Err(error);
                }
                if socket.core.is_receive_shut() {
                    break Ok(());
                }
                if message.is_nonblocking() {
                    break Err(Errno::EAGAIN);
                }
                drop(reading);
                let waited = wait_for_data(socket, progress.place, deadline_ns);
                reading = socket.reader.lock();
                if let Err(error) = waited {
                    break Err(error);
                }
            }
        }
    };
    drop(reading);
    if let Some(sender) = progress.sender.take() {
        message.ancillary.sender = sender;
    }
    match result {
        Err(error) if progress.copied == 0 => Err(error),
        _ => Ok(progress.copied),
    }
}

fn wait_for_data(socket: &UnixSocket, place: usize, deadline_ns: Option<u64>) -> Result<()> {
    let core = &socket.core;
    let ready = || {
        let come = socket.queue.len() > place || core.is_receive_shut() || core.has_error();
        come.then_some(())
    };
    core.wait(core.readable(), deadline_ns, ready)
}

/// Takes, or looks at, what is wanted of one message.
fn take(
    socket: &UnixSocket,
    packet: &Arc<Packet>,
    message: &mut ReceiveMessage<'_>,
    progress: &mut Progress,
    peeking: bool,
) -> Result<Go> {
    match &progress.sender {
        // Bytes of different senders are not glued together.
        Some(sender) if socket.wants_credentials() && !is_same_sender(sender, &packet.sender) => {
            return Ok(Go::Done);
        }
        Some(_) => {}
        None => {
            progress.sender = Some(packet.sender.clone());
            packet.name_source(&mut message.address);
        }
    }
    let wanted = message.data.remaining();
    let left = packet.length() - progress.skip.min(packet.length());
    let count = packet.copy_to(progress.skip, wanted, message.data)?;
    progress.copied += count;
    let all = count == left;
    let faulted = count < left.min(wanted);
    let stop = packet.has_rights() || faulted;
    if peeking {
        message.ancillary.files = packet.peek_rights()?;
        socket.core.options.note_peeked(count);
        progress.skip = 0;
        progress.place += 1;
        return Ok(if stop || !all { Go::Done } else { Go::On });
    }
    packet.consume(count);
    socket.queue.note_consumed(count);
    socket.core.options.note_read(count);
    if packet.has_rights()
        && let Some(rights) = packet.take_rights()
    {
        message.ancillary.files = rights.receive();
    }
    if !all {
        return Ok(Go::Done);
    }
    socket.queue.pop_if_first(packet);
    Ok(if stop { Go::Done } else { Go::On })
}
