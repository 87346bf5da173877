//! `poll` and `select`: event bits and structures.

pub use linux_raw_sys::general::{
    POLLERR, POLLHUP, POLLIN, POLLMSG, POLLNVAL, POLLOUT, POLLPRI, POLLRDBAND, POLLRDHUP, POLLRDNORM,
    POLLREMOVE, POLLWRBAND, POLLWRNORM,
};

use bitflags::bitflags;

bitflags! {
    /// Readiness, in the bits that `poll(2)` and `epoll(7)` share.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct PollEvents: u32 {
        /// There is something to read.
        const IN = POLLIN;
        /// Urgent data, or an event on a pseudo file.
        const PRI = POLLPRI;
        /// A write would not block.
        const OUT = POLLOUT;
        /// Error. Reported whether asked for or not.
        const ERR = POLLERR;
        /// Hung up. Reported whether asked for or not.
        const HUP = POLLHUP;
        /// Not an open descriptor.
        const NVAL = POLLNVAL;
        /// Normal data to read.
        const RDNORM = POLLRDNORM;
        /// Priority data to read.
        const RDBAND = POLLRDBAND;
        /// Normal data may be written.
        const WRNORM = POLLWRNORM;
        /// Priority data may be written.
        const WRBAND = POLLWRBAND;
        /// A message (unused).
        const MSG = POLLMSG;
        /// The peer closed its writing half.
        const RDHUP = POLLRDHUP;
    }
}

impl PollEvents {
    /// What a plain readable file reports.
    pub const READABLE: Self = Self::IN.union(Self::RDNORM);
    /// What a plain writable file reports.
    pub const WRITABLE: Self = Self::OUT.union(Self::WRNORM);
    /// Reported whether asked for or not.
    pub const ALWAYS: Self = Self::ERR.union(Self::HUP);
}

abi_struct! {
    /// `struct pollfd`.
    pub struct Pollfd: 8 {
        /// Descriptor; negative entries are skipped.
        pub fd: i32,
        /// Asked for.
        pub events: u16,
        /// Found.
        pub revents: u16,
    }
}

/// Descriptors in an `fd_set`.
pub const FD_SETSIZE: usize = 1024;
