//! The socket layer: one object behind a socket's descriptor, whatever its family (socket(7)).
//!
//! Key types: [`Socket`] (what all sockets have: kind, namespace, generic options, pending error), [`SocketOperations`] (what
//! a family implements). A `Socket` is the `FileOperations` of its description, so that read, write, poll and close work on it.
//! Locks: none here yet; a family's own lock is taken inside its operations and never while user memory is copied
//! under a spinlock.

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use machine::sync::atomic::{AtomicI32, Ordering};
use vfs::PollTable;

use crate::message::{ReceiveMessage, SendMessage, SocketAddress};
use crate::namespace::NetNamespace;
use abi::poll::PollEvents;

/// `SOCK_STREAM` and its like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketKind {
    /// `SOCK_STREAM`.
    Stream,
    /// `SOCK_DGRAM`.
    Datagram,
    /// `SOCK_RAW`.
    Raw,
    /// `SOCK_RDM`.
    ReliableDatagram,
    /// `SOCK_SEQPACKET`.
    SequencedPacket,
}

/// Which directions shutdown(2) ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shutdown {
    /// `SHUT_RD`.
    Read,
    /// `SHUT_WR`.
    Write,
    /// `SHUT_RDWR`.
    Both,
}

/// What a family implements. Defaults are Linux's answers of families that cannot do it (`sock_no_*`).
/// All may sleep; none is called with a lock held.
pub trait SocketOperations: Any + Send + Sync {
    /// bind(2).
    fn bind(&self, socket: &Socket, address: &SocketAddress) -> Result<()> {
        let _ = (socket, address);
        Err(Errno::EOPNOTSUPP)
    }
    /// connect(2). `EINPROGRESS` where it does not block and would.
    fn connect(&self, socket: &Socket, address: &SocketAddress, nonblocking: bool) -> Result<()> {
        let _ = (socket, address, nonblocking);
        Err(Errno::EOPNOTSUPP)
    }
    /// listen(2).
    fn listen(&self, socket: &Socket, backlog: i32) -> Result<()> {
        let _ = (socket, backlog);
        Err(Errno::EOPNOTSUPP)
    }
    /// accept(2): the new socket.
    fn accept(&self, socket: &Socket, nonblocking: bool) -> Result<Arc<Socket>> {
        let _ = (socket, nonblocking);
        Err(Errno::EOPNOTSUPP)
    }
    /// socketpair(2): joins two new sockets of this family.
    fn pair(&self, socket: &Arc<Socket>, other: &Arc<Socket>) -> Result<()> {
        let _ = (socket, other);
        Err(Errno::EOPNOTSUPP)
    }
    /// getsockname(2).
    fn local_address(&self, socket: &Socket) -> Result<SocketAddress> {
        let _ = socket;
        Err(Errno::EOPNOTSUPP)
    }
    /// getpeername(2).
    fn peer_address(&self, socket: &Socket) -> Result<SocketAddress> {
        let _ = socket;
        Err(Errno::EOPNOTSUPP)
    }
    /// sendmsg(2): the bytes taken.
    fn send(&self, socket: &Socket, message: &mut SendMessage<'_>) -> Result<usize> {
        let _ = (socket, message);
        Err(Errno::EOPNOTSUPP)
    }
    /// recvmsg(2): the bytes given (with `TRUNC` asked for: the message's own length).
    fn receive(&self, socket: &Socket, message: &mut ReceiveMessage<'_>) -> Result<usize> {
        let _ = (socket, message);
        Err(Errno::EOPNOTSUPP)
    }
    /// shutdown(2).
    fn shutdown(&self, socket: &Socket, how: Shutdown) -> Result<()> {
        let _ = (socket, how);
        Err(Errno::EOPNOTSUPP)
    }
    /// setsockopt(2) on a level other than `SOL_SOCKET`.
    fn set_option(&self, socket: &Socket, level: i32, name: i32, value: &[u8]) -> Result<()> {
        let _ = (socket, level, name, value);
        Err(Errno::ENOPROTOOPT)
    }
    /// getsockopt(2) on a level other than `SOL_SOCKET`: writes into `value`, gives the length.
    fn get_option(&self, socket: &Socket, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        let _ = (socket, level, name, value);
        Err(Errno::ENOPROTOOPT)
    }
    /// An ioctl of the family. `ENOIOCTLCMD` becomes the device layer's, then `ENOTTY`.
    fn ioctl(&self, socket: &Socket, command: u32, argument: usize) -> Result<usize> {
        let _ = (socket, command, argument);
        Err(Errno::ENOTTY)
    }
    /// What it is ready for; registers the queues first.
    fn poll(&self, socket: &Socket, table: &mut PollTable<'_>) -> PollEvents;
    /// The last descriptor is gone.
    fn release(&self, socket: &Socket) {
        let _ = socket;
    }
}

/// A socket.
pub struct Socket {
    family: u16,
    kind: SocketKind,
    protocol: i32,
    namespace: Arc<NetNamespace>,
    operations: Box<dyn SocketOperations>,
    /// The error that the next call reports once (`SO_ERROR`), as a positive number; 0 for none.
    pending_error: AtomicI32,
}

impl Socket {
    /// A socket of this kind in `namespace`.
    pub fn new(
        family: u16,
        kind: SocketKind,
        protocol: i32,
        namespace: Arc<NetNamespace>,
        operations: Box<dyn SocketOperations>,
    ) -> Socket {
        Socket { family, kind, protocol, namespace, operations, pending_error: AtomicI32::new(0) }
    }

    /// `AF_*` (`SO_DOMAIN`).
    pub fn family(&self) -> u16 {
        self.family
    }

    /// `SO_TYPE`.
    pub fn kind(&self) -> SocketKind {
        self.kind
    }

    /// `SO_PROTOCOL`.
    pub fn protocol(&self) -> i32 {
        self.protocol
    }

    /// Where it was made; it keeps it alive.
    pub fn namespace(&self) -> &Arc<NetNamespace> {
        &self.namespace
    }

    /// What its family does.
    pub fn operations(&self) -> &dyn SocketOperations {
        &*self.operations
    }

    /// What its family keeps, if it is this type.
    pub fn operations_as<T: SocketOperations>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.operations;
        any.downcast_ref()
    }

    /// Notes an error for the next call.
    pub fn set_error(&self, error: Errno) {
        self.pending_error.store(error.code(), Ordering::Relaxed);
    }

    /// Takes the noted error (`SO_ERROR`).
    pub fn take_error(&self) -> i32 {
        self.pending_error.swap(0, Ordering::Relaxed)
    }
}
