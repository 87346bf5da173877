//! `epoll`: event bits and the packed event structure.

pub use linux_raw_sys::general::{
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLL_IOC_TYPE, EPOLLERR, EPOLLET,
    EPOLLEXCLUSIVE, EPOLLHUP, EPOLLIN, EPOLLMSG, EPOLLNVAL, EPOLLONESHOT, EPOLLOUT, EPOLLPRI, EPOLLRDBAND,
    EPOLLRDHUP, EPOLLRDNORM, EPOLLWAKEUP, EPOLLWRBAND, EPOLLWRNORM,
};

use bitflags::bitflags;

bitflags! {
    /// Event bits of `epoll_ctl(2)`; the low ones are [`crate::poll::PollEvents`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct EpollEvents: u32 {
        /// Edge-triggered.
        const ET = EPOLLET;
        /// Disarm after one event.
        const ONESHOT = EPOLLONESHOT;
        /// Keep the system awake.
        const WAKEUP = EPOLLWAKEUP;
        /// Wake one epoll of many.
        const EXCLUSIVE = EPOLLEXCLUSIVE;
        const _ = !0;
    }
}

/// `struct epoll_event`: packed on x86-64 (12 bytes), so that it is the one i386 has.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
)]
#[repr(C, packed)]
pub struct EpollEvent {
    /// `EPOLL*`.
    pub events: u32,
    /// The caller's own.
    pub data: u64,
}
const _: () = assert!(size_of::<EpollEvent>() == 12);

abi_struct! {
    /// `struct epoll_params` of `EPIOCSPARAMS`.
    pub struct EpollParams: 8 {
        /// Busy poll time, microseconds.
        pub busy_poll_usecs: u32,
        /// Busy poll budget, packets.
        pub busy_poll_budget: u16,
        /// Prefer busy polling.
        pub prefer_busy_poll: u8,
        /// Zero.
        pub pad: u8,
    }
}
