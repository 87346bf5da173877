//! The Linux user-space interface as data: numbers, flags, structures and errno.
//!
//! One module for each area. Values come from `linux-raw-sys` where it has them (re-exported by name), from
//! the UAPI headers else. Structures keep Linux's field names, derive zerocopy's traits so that they can be
//! copied to and from user memory, have their padding spelled out and their size asserted where they are
//! declared; the host tests compare sizes and offsets with `linux-raw-sys`. No algorithm lives here.

#![no_std]
#![forbid(unsafe_code)]

/// Declares a `repr(C)` structure with the traits every structure of the interface has, and its size.
macro_rules! abi_struct {
    ($(#[$meta:meta])* pub struct $name:ident: $size:literal { $($body:tt)* }) => {
        $(#[$meta])*
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
        #[repr(C)]
        pub struct $name { $($body)* }
        const _: () = assert!(size_of::<$name>() == $size);
    };
}

/// Constants of one area and type; the group's text stands for each.
macro_rules! constants {
    (#[doc = $doc:literal] $type:ident: $($name:ident = $value:literal;)*) => {
        $(#[doc = $doc] pub const $name: $type = $value;)*
    };
}

pub mod auxv;
pub mod capability;
pub mod clone;
pub mod diag;
pub mod dirent;
pub mod elf;
pub mod epoll;
pub mod errno;
pub mod eventfd;
pub mod fcntl;
pub mod fs;
pub mod futex;
pub mod inet;
pub mod inotify;
pub mod ioctl;
pub mod ipc;
pub mod kcmp;
pub mod link;
pub mod membarrier;
pub mod mman;
pub mod mount;
pub mod neighbour;
pub mod netlink;
pub mod nexthop;
pub mod nr;
pub mod packet;
pub mod personality;
pub mod poll;
pub mod prctl;
pub mod ptrace;
pub mod random;
pub mod reboot;
pub mod resource;
pub mod route;
pub mod rseq;
pub mod rtnetlink;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod signalfd;
pub mod socket;
pub mod stat;
pub mod swap;
pub mod sysinfo;
pub mod termios;
pub mod time;
pub mod timerfd;
pub mod tun;
pub mod uio;
pub mod utsname;
pub mod wait;

pub use errno::{Errno, Result};

#[cfg(test)]
mod tests;
