//! What every socket has, whatever its family: options, pending error, buffer accounts, wait queues (Linux's `struct sock`).
//!
//! Key type: [`SocketCore`], shared by the [`crate::Socket`] behind a descriptor and the family's own object, so that whoever
//! sends to a socket can look at its limits and wake it without its descriptor.
//! Locks: `peer` and `filter` are leaf spinlocks; the rest are atomics.

use abi::errno::{Errno, Result};
use abi::poll::PollEvents;
use alloc::sync::Arc;
use machine::memory::try_arc;
use machine::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use machine::sync::{SpinLock, WaitError, WaitKind, WaitQueue};
use security::{Credentials, Kuid};

use crate::filter::Filter;
use crate::message::Sender;
use crate::namespace::NetNamespace;
use crate::options::Options;
use crate::socket::{Shutdown, SocketKind};

/// The bit of `RCV_SHUTDOWN`.
const NO_RECEIVE: u32 = 1;
/// The bit of `SEND_SHUTDOWN`.
const NO_SEND: u32 = 2;

static NEXT_COOKIE: AtomicU64 = AtomicU64::new(1);

/// See the module's head.
pub struct SocketCore {
    family: u16,
    kind: SocketKind,
    protocol: i32,
    namespace: Arc<NetNamespace>,
    owner: Kuid,
    /// The options of `SOL_SOCKET`.
    pub options: Options,
    pending_error: AtomicI32,
    shutdown: AtomicU32,
    listening: AtomicBool,
    inode_number: AtomicU64,
    cookie: AtomicU64,
    peer: SpinLock<Option<Sender>>,
    filter: SpinLock<Option<Arc<Filter>>>,
    /// Bytes of messages that it sent and nobody has taken yet (`sk_wmem_alloc`).
    pub(crate) send_charged: AtomicUsize,
    /// Bytes of messages that wait for it (`sk_rmem_alloc`).
    pub(crate) receive_charged: AtomicUsize,
    /// Messages dropped for want of room (`SO_RXQ_OVFL`, `SO_MEMINFO`).
    pub(crate) drops: AtomicU32,
    readable: Arc<WaitQueue>,
    writable: Arc<WaitQueue>,
}

impl Drop for SocketCore {
    fn drop(&mut self) {
        self.namespace.count_socket(usize::MAX);
    }
}

impl SocketCore {
    /// A core with default options, owned by whom the credentials name. `ENOMEM`.
    pub fn new(
        family: u16,
        kind: SocketKind,
        protocol: i32,
        namespace: Arc<NetNamespace>,
        credentials: &Credentials,
    ) -> Result<Arc<SocketCore>> {
        let readable = try_arc(WaitQueue::new())?;
        let writable = try_arc(WaitQueue::new())?;
        namespace.count_socket(1);
        let core = SocketCore {
            family,
            kind,
            protocol,
            namespace,
            owner: credentials.fsuid,
            options: Options::new(),
            pending_error: AtomicI32::new(0),
            shutdown: AtomicU32::new(0),
            listening: AtomicBool::new(false),
            inode_number: AtomicU64::new(0),
            cookie: AtomicU64::new(0),
            peer: SpinLock::new(None),
            filter: SpinLock::new(None),
            send_charged: AtomicUsize::new(0),
            receive_charged: AtomicUsize::new(0),
            drops: AtomicU32::new(0),
            readable,
            writable,
        };
        Ok(try_arc(core)?)
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

    /// Who made it.
    pub fn owner(&self) -> Kuid {
        self.owner
    }

    /// Woken when there may be something to read.
    pub fn readable(&self) -> &Arc<WaitQueue> {
        &self.readable
    }

    /// Woken when there may be room to write.
    pub fn writable(&self) -> &Arc<WaitQueue> {
        &self.writable
    }

    /// Tells readers, and whoever polls, that something came. One of those who wait exclusively is woken.
    pub fn wake_readers(&self) {
        self.readable.wake_with(1, PollEvents::READABLE.bits());
    }

    /// Tells writers that there is room.
    pub fn wake_writers(&self) {
        self.writable.wake_with(1, PollEvents::WRITABLE.bits());
    }

    /// Tells everybody that the state changed: a shutdown, an error, a connection.
    pub fn wake_all(&self) {
        let events = PollEvents::READABLE
            | PollEvents::WRITABLE
            | PollEvents::HUP
            | PollEvents::ERR
            | PollEvents::RDHUP
            | PollEvents::PRI;
        self.readable.wake_with(usize::MAX, events.bits());
        self.writable.wake_with(usize::MAX, events.bits());
    }

    /// Waits on a queue for `condition`, until the deadline. `EAGAIN`: it passed; `ERESTARTSYS`, or `EINTR` with a deadline: a
    /// signal came.
    pub fn wait<R>(
        &self,
        queue: &WaitQueue,
        deadline_ns: Option<u64>,
        condition: impl FnMut() -> Option<R>,
    ) -> Result<R> {
        let waited = queue.wait_until(WaitKind::Interruptible, deadline_ns, condition);
        waited.map_err(|error| wait_errno(error, deadline_ns))
    }

    /// The same, waiting alone: a wake-up for one wakes one such waiter.
    pub fn wait_exclusive<R>(
        &self,
        queue: &WaitQueue,
        deadline_ns: Option<u64>,
        condition: impl FnMut() -> Option<R>,
    ) -> Result<R> {
        let waited = queue.wait_until_exclusive(WaitKind::Interruptible, deadline_ns, condition);
        waited.map_err(|error| wait_errno(error, deadline_ns))
    }

    /// Notes an error for the next call.
    pub fn set_error(&self, error: Errno) {
        self.pending_error.store(error.code(), Ordering::Release);
    }

    /// Whether an error is noted (`POLLERR`).
    pub fn has_error(&self) -> bool {
        self.pending_error.load(Ordering::Acquire) != 0
    }

    /// Takes the noted error as a number, 0 for none (`SO_ERROR`).
    pub fn take_error(&self) -> i32 {
        if self.has_error() { self.pending_error.swap(0, Ordering::AcqRel) } else { 0 }
    }

    /// Fails with the noted error, which is then gone.
    pub fn check_error(&self) -> Result<()> {
        match Errno::from_code(self.take_error()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Ends one or both directions.
    pub fn add_shutdown(&self, how: Shutdown) {
        let bits = match how {
            Shutdown::Read => NO_RECEIVE,
            Shutdown::Write => NO_SEND,
            Shutdown::Both => NO_RECEIVE | NO_SEND,
        };
        self.shutdown.fetch_or(bits, Ordering::AcqRel);
    }

    /// Opens both directions again.
    pub fn clear_shutdown(&self) {
        self.shutdown.store(0, Ordering::Release);
    }

    /// Whether nothing more comes in.
    pub fn is_receive_shut(&self) -> bool {
        self.shutdown.load(Ordering::Acquire) & NO_RECEIVE != 0
    }

    /// Whether nothing more goes out.
    pub fn is_send_shut(&self) -> bool {
        self.shutdown.load(Ordering::Acquire) & NO_SEND != 0
    }

    /// Whether both directions have ended.
    pub fn is_shut(&self) -> bool {
        self.shutdown.load(Ordering::Acquire) == NO_RECEIVE | NO_SEND
    }

    /// Whether it listens (`SO_ACCEPTCONN`).
    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    /// Makes `SO_ACCEPTCONN` say so.
    pub fn set_listening(&self) {
        self.listening.store(true, Ordering::Release);
    }

    /// The number of its inode, 0 before it has a descriptor.
    pub fn inode_number(&self) -> u64 {
        self.inode_number.load(Ordering::Relaxed)
    }

    pub(crate) fn set_inode_number(&self, number: u64) {
        self.inode_number.store(number, Ordering::Relaxed);
    }

    /// A number that no other socket has or will have, made when it is first asked for (`SO_COOKIE`).
    pub fn cookie(&self) -> u64 {
        let known = self.cookie.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let fresh = NEXT_COOKIE.fetch_add(1, Ordering::Relaxed);
        match self.cookie.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => fresh,
            Err(other) => other,
        }
    }

    /// Who is on the other side (`SO_PEERCRED`).
    pub fn peer(&self) -> Option<Sender> {
        self.peer.lock().clone()
    }

    /// Sets who is on the other side.
    pub fn set_peer(&self, peer: Option<Sender>) {
        let old = core::mem::replace(&mut *self.peer.lock(), peer);
        drop(old);
    }

    /// The attached filter.
    pub fn filter(&self) -> Option<Arc<Filter>> {
        self.filter.lock().clone()
    }

    pub(crate) fn set_filter(&self, filter: Option<Arc<Filter>>) -> Option<Arc<Filter>> {
        core::mem::replace(&mut *self.filter.lock(), filter)
    }

    /// Messages dropped for want of room.
    pub fn drops(&self) -> u32 {
        self.drops.load(Ordering::Relaxed)
    }

    /// Counts a dropped message.
    pub fn count_drop(&self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of what it sent that nobody has taken yet, with overhead (`SIOCOUTQ` of UNIX sockets).
    pub fn send_charged(&self) -> usize {
        self.send_charged.load(Ordering::Relaxed)
    }

    /// Bytes of what waits for it, with overhead.
    pub fn receive_charged(&self) -> usize {
        self.receive_charged.load(Ordering::Relaxed)
    }
}

/// What a wait that failed means to a socket call (`sock_intr_errno`).
fn wait_errno(error: WaitError, deadline_ns: Option<u64>) -> Errno {
    match error {
        WaitError::TimedOut => Errno::EAGAIN,
        WaitError::Interrupted if deadline_ns.is_some() => Errno::EINTR,
        WaitError::Interrupted => Errno::ERESTARTSYS,
    }
}
