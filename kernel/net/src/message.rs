//! What goes through a socket: bytes, an address, control messages, flags (sendmsg(2), recvmsg(2)).
//!
//! Key types: [`SendMessage`], [`ReceiveMessage`], [`SocketAddress`], [`Ancillary`]. The system-call layer decodes user
//! memory into these; families never touch user memory but through the readers and writers. Locks: none.

use abi::errno::{Errno, Result};
use abi::socket as linux;
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::io::{IoReader, IoWriter};
use security::Credentials;
use vfs::File;

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

/// Who sent something (`SCM_CREDENTIALS`, `SO_PEERCRED`): a process handle that `task` gave, and identifiers.
#[derive(Clone)]
pub struct Sender {
    /// The process; `None` for the kernel. Numbered in the receiver's pid namespace by [`ProcessHandle::number`].
    pub process: Option<Arc<dyn ProcessHandle>>,
    /// On whose behalf.
    pub credentials: Arc<Credentials>,
}

/// What this crate needs to know of a process; `task` implements it.
pub trait ProcessHandle: Send + Sync {
    /// Its number as the calling task sees it, 0 if it cannot.
    fn number(&self) -> i32;
}

/// The control messages of one message, decoded. Generic ones have a field; those of a protocol travel as they are.
#[derive(Default)]
pub struct Ancillary {
    /// `SCM_RIGHTS`.
    pub files: Vec<Arc<File>>,
    /// `SCM_CREDENTIALS`, checked by the system-call layer on the way in.
    pub sender: Option<Sender>,
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
    /// Who sends.
    pub sender: Sender,
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
