//! The socket layer: one object behind a socket's descriptor, whatever its family (socket(7)).
//!
//! Key types: [`Socket`] (a [`SocketCore`] with what its family does), [`SocketOperations`] (what a family implements). A
//! `Socket` is the `FileOperations` of its description, so that read, write, poll and close work on it.
//! Locks: none here; a family's own lock is taken inside its operations and never while user memory is copied
//! under a spinlock.

use abi::errno::{Errno, Result};
use abi::fcntl::OpenFlags;
use abi::poll::PollEvents;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use machine::memory::try_arc;
use security::Credentials;
use vfs::{File, PollTable};

use crate::core::SocketCore;
use crate::message::{ReceiveMessage, SendMessage, SocketAddress};
use crate::namespace::NetNamespace;

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
    /// Another number below `SOCK_MAX`, for which there is no name here.
    Other(u8),
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
    /// setsockopt(2) on a level other than `SOL_SOCKET`, or with a name that not every socket has.
    /// A family without options of its own answers `EOPNOTSUPP`.
    fn set_option(&self, socket: &Socket, level: i32, name: i32, value: &[u8]) -> Result<()> {
        let _ = (socket, name, value);
        Err(no_option(level))
    }
    /// getsockopt(2), in the same cases: writes into `value`, gives the length.
    fn get_option(&self, socket: &Socket, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        let _ = (socket, name, value);
        Err(no_option(level))
    }
    /// An ioctl of the family. `ENOIOCTLCMD`: ask the device layer.
    fn ioctl(&self, socket: &Socket, command: u32, argument: usize) -> Result<usize> {
        let _ = (socket, command, argument);
        Err(Errno::ENOIOCTLCMD)
    }
    /// `SO_BINDTODEVICE`, `SO_BINDTOIFINDEX`, `SO_REUSEADDR` or `SO_REUSEPORT` was set: where the socket is bound, or with whom.
    fn binding_changed(&self, socket: &Socket) -> Result<()> {
        let _ = socket;
        Ok(())
    }
    /// What mmap(2) maps. `ENODEV`: nothing.
    fn map(&self, socket: &Socket, file: &Arc<File>) -> Result<Arc<dyn mm::MappedFile>> {
        let _ = (socket, file);
        Err(Errno::ENODEV)
    }
    /// The socket has got its descriptor's file (`sock->file`).
    fn attach(&self, socket: &Socket, file: &Arc<File>) {
        let _ = (socket, file);
    }
    /// What it is ready for; registers the queues first.
    fn poll(&self, socket: &Socket, table: &mut PollTable<'_>) -> PollEvents;
    /// The last descriptor is gone.
    fn release(&self, socket: &Socket) {
        let _ = socket;
    }
}

/// What a family without options answers: it has none of that level, or the level has no such name.
fn no_option(level: i32) -> Errno {
    if level as u32 == abi::socket::SOL_SOCKET { Errno::ENOPROTOOPT } else { Errno::EOPNOTSUPP }
}

/// A socket.
pub struct Socket {
    core: Arc<SocketCore>,
    operations: Box<dyn SocketOperations>,
}

impl Socket {
    /// A socket of this core that does what its family says. `ENOMEM`.
    pub fn new(core: Arc<SocketCore>, operations: Box<dyn SocketOperations>) -> Result<Arc<Socket>> {
        Ok(try_arc(Socket { core, operations })?)
    }

    /// What all sockets have.
    pub fn core(&self) -> &Arc<SocketCore> {
        &self.core
    }

    /// `AF_*` (`SO_DOMAIN`).
    pub fn family(&self) -> u16 {
        self.core.family()
    }

    /// `SO_TYPE`.
    pub fn kind(&self) -> SocketKind {
        self.core.kind()
    }

    /// `SO_PROTOCOL`.
    pub fn protocol(&self) -> i32 {
        self.core.protocol()
    }

    /// Where it was made; it keeps it alive.
    pub fn namespace(&self) -> &Arc<NetNamespace> {
        self.core.namespace()
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

    /// A description of it, shown as `socket:[N]`. `flags`: of the status flags, `NONBLOCK`. `ENOMEM`.
    pub fn into_file(self: Arc<Self>, flags: OpenFlags, who: &Arc<Credentials>) -> Result<Arc<File>> {
        let place = vfs::anonymous::new_socket_place(who)?;
        self.core.set_inode_number(place.inode()?.number());
        let file = File::new(place, self.clone(), OpenFlags::RDWR | flags, who);
        self.operations.attach(&self, &file);
        Ok(file)
    }
}
