//! What goes through a socket: bytes, an address, control messages, flags (sendmsg(2), recvmsg(2)).
//!
//! Key types: [`SendMessage`], [`ReceiveMessage`], [`SocketAddress`], [`Ancillary`]. The system-call layer decodes user
//! memory into these; families never touch user memory but through the readers and writers. Locks: none.

use crate::namespace::NetNamespace;
use abi::errno::{Errno, Result};
use abi::socket as linux;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::Once;
use mm::io::{IoReader, IoWriter};
use security::{Credentials, Kgid, Kuid};
use vfs::{File, FsContext};

/// Room for the largest address (`struct sockaddr_storage`).
pub const ADDRESS_MAX: usize = 128;

bitflags::bitflags! {
    /// `MSG_*`: what a call asks for, and what the answer says.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MessageFlags: u32 {
        /// Urgent data.
        const OOB = linux::MSG_OOB;
        /// Look, do not take.
        const PEEK = linux::MSG_PEEK;
        /// Do not route (send).
        const DONTROUTE = linux::MSG_DONTROUTE;
        /// Control messages were cut (answer).
        const CTRUNC = linux::MSG_CTRUNC;
        /// Give the real length (ask); the data was cut (answer).
        const TRUNC = linux::MSG_TRUNC;
        /// Do not block.
        const DONTWAIT = linux::MSG_DONTWAIT;
        /// End of a record.
        const EOR = linux::MSG_EOR;
        /// Wait for all of it.
        const WAITALL = linux::MSG_WAITALL;
        /// The link-layer neighbour answered.
        const CONFIRM = linux::MSG_CONFIRM;
        /// From the error queue.
        const ERRQUEUE = linux::MSG_ERRQUEUE;
        /// No SIGPIPE.
        const NOSIGNAL = linux::MSG_NOSIGNAL;
        /// More follows.
        const MORE = linux::MSG_MORE;
        /// Descriptors that are received are closed on exec.
        const CMSG_CLOEXEC = linux::MSG_CMSG_CLOEXEC;
        const _ = !0;
    }
}

/// A socket address as bytes: family, then what the family says. The empty one stands for "none".
#[derive(Clone, Copy)]
pub struct SocketAddress {
    bytes: [u8; ADDRESS_MAX],
    length: u8,
}

impl SocketAddress {
    /// No address.
    pub const NONE: SocketAddress = SocketAddress { bytes: [0; ADDRESS_MAX], length: 0 };

    /// An address of these bytes. `EINVAL`: longer than any.
    pub fn new(bytes: &[u8]) -> Result<SocketAddress> {
        let mut address = SocketAddress::NONE;
        address.bytes.get_mut(..bytes.len()).ok_or(Errno::EINVAL)?.copy_from_slice(bytes);
        address.length = bytes.len() as u8;
        Ok(address)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// Its family (`AF_*`); `None` if it is too short to have one.
    pub fn family(&self) -> Option<u16> {
        self.as_bytes().first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.length == 0
    }
}

/// Who calls: a process handle that `task` gave, and on whose behalf.
#[derive(Clone)]
pub struct Sender {
    /// The process; `None` for the kernel. Numbered in the receiver's pid namespace by [`ProcessHandle::number`].
    pub process: Option<Arc<dyn ProcessHandle>>,
    /// On whose behalf.
    pub credentials: Arc<Credentials>,
}

impl Sender {
    /// The kernel.
    pub fn kernel() -> Sender {
        Sender { process: None, credentials: Credentials::initial() }
    }

    /// Who calls now; on a kernel thread, the kernel.
    pub fn current() -> Sender {
        caller().and_then(|caller| caller.sender()).unwrap_or_else(Sender::kernel)
    }

    /// What `SCM_CREDENTIALS` says of it if it does not say otherwise itself.
    pub fn identity(&self) -> Identity {
        Identity { process: self.process.clone(), uid: self.credentials.ruid, gid: self.credentials.rgid }
    }
}

/// What this crate asks of the task that calls now; `task` implements it. Each gives `None` on a kernel thread.
pub trait Caller: Sync {
    /// Who it is.
    fn sender(&self) -> Option<Sender>;
    /// Its network namespace.
    fn network(&self) -> Option<Arc<NetNamespace>>;
    /// What paths mean to it.
    fn file_system(&self) -> Option<Arc<FsContext>>;
    /// How many descriptors it may have (`RLIMIT_NOFILE`).
    fn descriptor_limit(&self) -> Option<u64>;
    /// The network namespace that one of its descriptors stands for. `EBADF`: it is not open; `EINVAL`: it is something else.
    fn namespace_of_descriptor(&self, descriptor: i32) -> Result<Arc<NetNamespace>>;
    /// The network namespace of a process, by the number the caller knows it by. `ESRCH`.
    fn namespace_of_process(&self, process: i32) -> Result<Arc<NetNamespace>>;
}

static CALLER: Once<&'static dyn Caller> = Once::new();

/// Says how to ask about the calling task; once, from `task`.
pub fn register_caller(caller: &'static dyn Caller) {
    let _ = CALLER.set(caller);
}

/// What was registered.
pub(crate) fn caller() -> Option<&'static dyn Caller> {
    CALLER.get().copied()
}

/// Who sent something, as `SCM_CREDENTIALS` carries it.
#[derive(Clone)]
pub struct Identity {
    /// The process; `None` for the kernel.
    pub process: Option<Arc<dyn ProcessHandle>>,
    /// The user.
    pub uid: Kuid,
    /// The group.
    pub gid: Kgid,
}

/// What this crate needs to know of a process; `task` implements it.
pub trait ProcessHandle: Send + Sync {
    /// Its number as the calling task sees it, 0 if it cannot.
    fn number(&self) -> i32;
    /// A descriptor of it (a pidfd). `ESRCH`: it has been reaped; `ENOMEM`.
    fn open(&self) -> Result<Arc<File>>;
    /// The same process?
    fn is(&self, other: &dyn ProcessHandle) -> bool {
        core::ptr::addr_eq(core::ptr::from_ref(self), core::ptr::from_ref(other))
    }
}

/// The control messages of one message, decoded. Generic ones have a field; those of a protocol travel as they are.
#[derive(Default)]
pub struct Ancillary {
    /// `SCM_RIGHTS`.
    pub files: Vec<Arc<File>>,
    /// `SCM_CREDENTIALS`, checked by the system-call layer on the way in. On the way out it is shown if the receiver wants it.
    pub sender: Option<Identity>,
    /// The others: (level, type, bytes), in order.
    pub others: Vec<ControlMessage>,
}

/// A control message of a protocol (`struct cmsghdr` without its length).
pub struct ControlMessage {
    /// `cmsg_level`.
    pub level: i32,
    /// `cmsg_type`.
    pub kind: i32,
    /// What follows the header.
    pub data: Vec<u8>,
}

/// A message to be sent.
pub struct SendMessage<'a> {
    /// Where to; none means where it is connected.
    pub address: SocketAddress,
    /// The data.
    pub data: &'a mut dyn IoReader,
    /// The control messages.
    pub ancillary: Ancillary,
    /// The flags; `DONTWAIT` is set too if the description does not block.
    pub flags: MessageFlags,
}

impl SendMessage<'_> {
    /// Whether it must not block.
    pub fn is_nonblocking(&self) -> bool {
        self.flags.contains(MessageFlags::DONTWAIT)
    }
}

/// Room for a message to be received, and what came.
pub struct ReceiveMessage<'a> {
    /// Where the data goes.
    pub data: &'a mut dyn IoWriter,
    /// What was asked for; `DONTWAIT` is set too if the description does not block.
    pub flags: MessageFlags,
    /// Answer: from where.
    pub address: SocketAddress,
    /// Answer: the control messages.
    pub ancillary: Ancillary,
    /// Answer: flags of the message (`TRUNC`, `EOR`, `OOB`, `ERRQUEUE`).
    pub answer_flags: MessageFlags,
}

impl ReceiveMessage<'_> {
    /// Room for a message in `data`, with these flags asked for.
    pub fn new(data: &mut dyn IoWriter, flags: MessageFlags) -> ReceiveMessage<'_> {
        ReceiveMessage {
            data,
            flags,
            address: SocketAddress::NONE,
            ancillary: Ancillary::default(),
            answer_flags: MessageFlags::empty(),
        }
    }

    /// Whether it must not block.
    pub fn is_nonblocking(&self) -> bool {
        self.flags.contains(MessageFlags::DONTWAIT)
    }
}
