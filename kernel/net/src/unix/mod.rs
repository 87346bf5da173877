//! The UNIX family: sockets within one machine (unix(7)).
//!
//! | file | what |
//! |---|---|
//! | `address` | names and the tables that find a socket by them |
//! | `connect` | bind, listen, connect, accept, shutdown, close |
//! | `stream`, `datagram` | sending and receiving |
//! | `packet` | one message |
//! | `rights`, `graph` | descriptors in flight, and the collection of circles of them |
//! | `show` | `/proc/net/unix` |
//!
//! Key type: [`UnixSocket`]. Locks, outermost first: `binding` (a sleeping lock; one bind or autobind at a time), `reader` (a
//! sleeping lock; one reader of a stream at a time, held while bytes are copied out), the graph of `rights` (sleeping); then
//! spinlocks: a listener's `backlog`, then a socket's `state`, of which never two are held; the queues are leaves. A stream's
//! bytes go through the two queues of the pair and nothing else that others share. The slot of the urgent byte is a leaf under
//! its queue.

mod address;
mod connect;
mod datagram;
mod graph;
mod packet;
mod rights;
mod show;
mod stream;

use abi::errno::{Errno, Result};
use abi::ioctl::SIOCATMARK;
use abi::poll::PollEvents;
use abi::socket::{SIOCINQ, SIOCOUTQ};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use machine::memory::try_arc;
use machine::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use machine::sync::{Mutex, Once, SpinLock, WaitQueue};
use mm::user::UserPtr;
use security::Credentials;
use vfs::{File, PollTable};

use crate::account;
use crate::core::SocketCore;
use crate::message::{ReceiveMessage, SendMessage, SocketAddress};
use crate::namespace::NetNamespace;
use crate::options::Switches;
use crate::queue::ReceiveQueue;
use crate::socket::{Shutdown, Socket, SocketKind, SocketOperations};

pub use address::{UnixAddress, UnixCursor, UnixNamespace};
use packet::Packet;
pub use show::write_sockets;

/// Where a socket is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Status {
    Unconnected,
    Listening,
    Connected,
    Dead,
}

/// A socket's state as programs see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketState {
    /// It has a peer.
    Connected,
    /// It listens.
    Listening,
    /// Neither.
    Other,
}

struct State {
    status: Status,
    peer: Option<Arc<UnixSocket>>,
    address: Option<Arc<UnixAddress>>,
}

/// What a listener has.
#[derive(Default)]
struct Backlog {
    /// Connections that were not accepted yet.
    waiting: VecDeque<Arc<UnixSocket>>,
    /// One less than how many there may be.
    limit: usize,
    listening: bool,
}

/// A UNIX socket.
pub struct UnixSocket {
    core: Arc<SocketCore>,
    me: Once<Weak<UnixSocket>>,
    number: u64,
    state: SpinLock<State>,
    binding: Mutex<()>,
    reader: Mutex<()>,
    queue: ReceiveQueue<Packet>,
    /// The message with the last urgent byte, until that is read.
    urgent: SpinLock<Option<Arc<Packet>>>,
    backlog: SpinLock<Backlog>,
    /// How many datagrams may wait from those to whom it is not connected.
    queue_limit: AtomicUsize,
    /// Woken when there is room in the queue or the backlog again.
    room: Arc<WaitQueue>,
    /// Sockets that found the queue full and whose pollers want to know when it is not.
    refused: SpinLock<Vec<Weak<UnixSocket>>>,
    /// Whether it is on such a list.
    is_refused: AtomicBool,
    /// The description, whose count tells whether it is held from outside of messages.
    file: SpinLock<Weak<File>>,
    /// Whose `accept` will make it a socket of its own.
    listener: SpinLock<Option<Weak<UnixSocket>>>,
}

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

impl UnixSocket {
    fn new(
        kind: SocketKind,
        protocol: i32,
        namespace: &Arc<NetNamespace>,
        who: &Credentials,
    ) -> Result<Arc<UnixSocket>> {
        let family = abi::socket::AF_UNIX as u16;
        let socket = try_arc(UnixSocket {
            core: SocketCore::new(family, kind, protocol, namespace.clone(), who)?,
            me: Once::new(),
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            state: SpinLock::new(State { status: Status::Unconnected, peer: None, address: None }),
            binding: Mutex::new(()),
            reader: Mutex::new(()),
            queue: ReceiveQueue::new(),
            urgent: SpinLock::new(None),
            backlog: SpinLock::new(Backlog::default()),
            queue_limit: AtomicUsize::new(namespace.unix().queue_length()),
            room: try_arc(WaitQueue::new())?,
            refused: SpinLock::new(Vec::new()),
            is_refused: AtomicBool::new(false),
            file: SpinLock::new(Weak::new()),
            listener: SpinLock::new(None),
        })?;
        let _ = socket.me.set(Arc::downgrade(&socket));
        namespace.unix().register(&socket)?;
        Ok(socket)
    }

    /// What all sockets have.
    pub fn core(&self) -> &Arc<SocketCore> {
        &self.core
    }

    /// A number of its own.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The socket whose reader gets at its queue: its listener before it is accepted.
    fn reader_number(&self) -> u64 {
        let listener = self.listener.lock().clone();
        listener.and_then(|listener| listener.upgrade()).map_or(self.number, |listener| listener.number)
    }

    /// How many hold its description, messages among them.
    fn file_count(&self) -> usize {
        self.file.lock().strong_count()
    }

    fn peer(&self) -> Option<Arc<UnixSocket>> {
        self.state.lock().peer.clone()
    }

    fn status(&self) -> Status {
        self.state.lock().status
    }

    /// Whether it was closed.
    pub fn is_dead(&self) -> bool {
        self.status() == Status::Dead
    }

    fn address(&self) -> Option<Arc<UnixAddress>> {
        self.state.lock().address.clone()
    }

    /// Its state as those who list sockets tell it.
    pub fn socket_state(&self) -> SocketState {
        match self.status() {
            Status::Connected => SocketState::Connected,
            Status::Listening => SocketState::Listening,
            Status::Unconnected | Status::Dead => SocketState::Other,
        }
    }

    /// Its address.
    pub fn bound_address(&self) -> Option<Arc<UnixAddress>> {
        self.address()
    }

    /// The socket it is connected to.
    pub fn connected_to(&self) -> Option<Arc<UnixSocket>> {
        self.peer()
    }

    /// The inodes of those who connected to it and were not accepted yet. `ENOMEM`.
    pub fn waiting_connections(&self) -> Result<Vec<u32>> {
        let embryos: Vec<Arc<UnixSocket>> = {
            let backlog = self.backlog.lock();
            let mut copy = Vec::new();
            copy.try_reserve_exact(backlog.waiting.len()).map_err(|_| Errno::ENOMEM)?;
            copy.extend(backlog.waiting.iter().cloned());
            copy
        };
        let mut numbers = Vec::new();
        numbers.try_reserve_exact(embryos.len()).map_err(|_| Errno::ENOMEM)?;
        let inode =
            |embryo: &Arc<UnixSocket>| embryo.peer().map_or(0, |peer| peer.core.inode_number() as u32);
        numbers.extend(embryos.iter().map(inode));
        Ok(numbers)
    }

    /// What it has to read and what others have not read yet; of a listener, how many wait and how many may.
    pub fn queue_lengths(&self) -> (usize, usize) {
        if self.status() == Status::Listening {
            let backlog = self.backlog.lock();
            return (backlog.waiting.len(), backlog.limit);
        }
        let received = match self.core.kind() {
            SocketKind::Datagram => self.queue.first_length(),
            _ => self.queue.bytes(),
        };
        (received, self.core.send_charged())
    }

    fn is_connection_based(&self) -> bool {
        self.core.kind() != SocketKind::Datagram
    }

    /// Whether it wants to know who sends.
    fn wants_credentials(&self) -> bool {
        let options = &self.core.options;
        options.has(Switches::PASSCRED) || options.has(Switches::PASSPIDFD)
    }

    /// Whether so many datagrams wait that others must wait.
    fn is_queue_full(&self) -> bool {
        self.queue.len() > self.queue_limit.load(Ordering::Relaxed)
    }

    /// Something was taken from the queue or the backlog: those who wait for room may look.
    fn wake_room(&self) {
        let events = PollEvents::WRITABLE | PollEvents::WRBAND;
        self.room.wake_with(usize::MAX, events.bits());
        let refused = core::mem::take(&mut *self.refused.lock());
        for socket in refused.iter().filter_map(Weak::upgrade) {
            socket.is_refused.store(false, Ordering::Release);
            socket.core.wake_writers();
        }
    }

    /// Has the pollers of `sender`, which found the queue full, woken when there is room; whether it is still full.
    fn refuse(&self, sender: &UnixSocket) -> bool {
        if !sender.is_refused.swap(true, Ordering::AcqRel)
            && let Some(weak) = sender.me.get()
        {
            let mut refused = self.refused.lock();
            if refused.try_reserve(1).is_ok() {
                refused.push(weak.clone());
            }
        }
        if self.is_queue_full() {
            return true;
        }
        self.wake_room();
        false
    }

    /// Takes the messages with descriptors out of its queue, and of those that wait to be accepted: for the collector.
    fn take_rights(&self, into: &mut Vec<Arc<Packet>>) {
        into.extend(self.queue.take_matching(Packet::has_rights));
        let embryos: Vec<_> = self.backlog.lock().waiting.iter().cloned().collect();
        for embryo in embryos {
            into.extend(embryo.queue.take_matching(Packet::has_rights));
        }
    }

    fn poll(&self, table: &mut PollTable<'_>) -> PollEvents {
        let core = &self.core;
        table.register(core.readable());
        table.register(core.writable());
        let mut events = PollEvents::empty();
        if core.has_error() {
            events |= PollEvents::ERR;
        }
        if core.is_shut() {
            events |= PollEvents::HUP;
        }
        if core.is_receive_shut() {
            events |= PollEvents::RDHUP | PollEvents::READABLE;
        }
        let (status, peer) = {
            let state = self.state.lock();
            (state.status, state.peer.clone())
        };
        if !self.queue.is_empty() || (status == Status::Listening && self.has_connections()) {
            events |= PollEvents::READABLE;
        }
        if self.urgent.lock().is_some() {
            events |= PollEvents::PRI;
        }
        if self.is_connection_based() && status == Status::Unconnected {
            events |= PollEvents::HUP;
        }
        if status != Status::Listening && account::is_writable(core) && !self.is_blocked_by(peer) {
            events |= PollEvents::WRITABLE | PollEvents::WRBAND;
        }
        events
    }

    fn has_connections(&self) -> bool {
        !self.backlog.lock().waiting.is_empty()
    }

    /// Whether datagrams to where it is connected would have to wait: the other side's queue is full, and it is not a pair.
    fn is_blocked_by(&self, peer: Option<Arc<UnixSocket>>) -> bool {
        if self.core.kind() == SocketKind::Stream {
            return false;
        }
        let Some(peer) = peer else { return false };
        let is_pair = peer.peer().is_some_and(|back| core::ptr::eq(&*back, self));
        !is_pair && peer.is_queue_full() && peer.refuse(self)
    }
}

/// What a UNIX socket does.
pub struct UnixOperations(Arc<UnixSocket>);

impl UnixOperations {
    /// The socket itself.
    pub fn socket(&self) -> &Arc<UnixSocket> {
        &self.0
    }
}

/// A new socket of the family. `EPROTONOSUPPORT`: another protocol; `ESOCKTNOSUPPORT`: no such type; `ENOMEM`.
pub fn create(
    kind: SocketKind,
    protocol: i32,
    namespace: &Arc<NetNamespace>,
    who: &Credentials,
) -> Result<Arc<Socket>> {
    if protocol != 0 && protocol != abi::socket::AF_UNIX as i32 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let kind = match kind {
        // As BSD had it: a raw UNIX socket is one of datagrams.
        SocketKind::Raw => SocketKind::Datagram,
        SocketKind::Stream | SocketKind::Datagram | SocketKind::SequencedPacket => kind,
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    wrap(UnixSocket::new(kind, protocol, namespace, who)?)
}

fn wrap(socket: Arc<UnixSocket>) -> Result<Arc<Socket>> {
    let core = socket.core.clone();
    let operations = machine::memory::try_box(UnixOperations(socket)).map_err(|_| Errno::ENOMEM)?;
    Socket::new(core, operations as Box<dyn SocketOperations>)
}

impl SocketOperations for UnixOperations {
    fn bind(&self, _socket: &Socket, address: &SocketAddress) -> Result<()> {
        connect::bind(&self.0, address)
    }

    fn connect(&self, _socket: &Socket, address: &SocketAddress, nonblocking: bool) -> Result<()> {
        match self.0.core.kind() {
            SocketKind::Datagram => connect::connect_datagram(&self.0, address),
            _ => connect::connect_stream(&self.0, address, nonblocking),
        }
    }

    fn listen(&self, _socket: &Socket, backlog: i32) -> Result<()> {
        connect::listen(&self.0, backlog.max(0) as usize)
    }

    fn accept(&self, _socket: &Socket, nonblocking: bool) -> Result<Arc<Socket>> {
        wrap(connect::accept(&self.0, nonblocking)?)
    }

    fn pair(&self, _socket: &Arc<Socket>, other: &Arc<Socket>) -> Result<()> {
        let other = other.operations_as::<UnixOperations>().ok_or(Errno::EOPNOTSUPP)?;
        connect::pair(&self.0, &other.0);
        Ok(())
    }

    fn local_address(&self, _socket: &Socket) -> Result<SocketAddress> {
        Ok(self.0.address().map_or_else(address::unnamed, |address| address.address))
    }

    fn peer_address(&self, _socket: &Socket) -> Result<SocketAddress> {
        let peer = self.0.peer().ok_or(Errno::ENOTCONN)?;
        Ok(peer.address().map_or_else(address::unnamed, |address| address.address))
    }

    fn send(&self, _socket: &Socket, message: &mut SendMessage<'_>) -> Result<usize> {
        match self.0.core.kind() {
            SocketKind::Stream => stream::send(&self.0, message),
            SocketKind::SequencedPacket => datagram::send_sequenced(&self.0, message),
            _ => datagram::send(&self.0, message),
        }
    }

    fn receive(&self, _socket: &Socket, message: &mut ReceiveMessage<'_>) -> Result<usize> {
        match self.0.core.kind() {
            SocketKind::Stream => stream::receive(&self.0, message),
            SocketKind::SequencedPacket if self.0.status() != Status::Connected => Err(Errno::ENOTCONN),
            _ => datagram::receive(&self.0, message),
        }
    }

    fn shutdown(&self, _socket: &Socket, how: Shutdown) -> Result<()> {
        connect::shutdown(&self.0, how);
        Ok(())
    }

    fn ioctl(&self, _socket: &Socket, command: u32, argument: usize) -> Result<usize> {
        let unix = &self.0;
        let value = match command {
            SIOCOUTQ => unix.core.send_charged() as i32,
            SIOCINQ if unix.status() == Status::Listening => return Err(Errno::EINVAL),
            SIOCINQ if unix.core.kind() == SocketKind::Datagram => unix.queue.first_length() as i32,
            SIOCINQ => unix.queue.bytes() as i32,
            SIOCATMARK => i32::from(stream::is_at_mark(unix)),
            _ => return Err(Errno::ENOIOCTLCMD),
        };
        UserPtr::new(argument).write(&value)?;
        Ok(0)
    }

    fn attach(&self, _socket: &Socket, file: &Arc<File>) {
        *self.0.file.lock() = Arc::downgrade(file);
    }

    fn poll(&self, _socket: &Socket, table: &mut PollTable<'_>) -> PollEvents {
        self.0.poll(table)
    }

    fn release(&self, _socket: &Socket) {
        connect::release(&self.0, connect::Embryo::No);
    }
}

impl Drop for UnixOperations {
    /// A socket that never got a descriptor (an error on the way) is closed here; else this finds it dead.
    fn drop(&mut self) {
        connect::release(&self.0, connect::Embryo::No);
    }
}
