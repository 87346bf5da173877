//! The Internet protocols of a namespace: addresses, routes, and what goes through them.
//!
//! | file | what |
//! |---|---|
//! | `device`, `config` | what IP keeps for an interface; settings |
//! | `address` | addresses of interfaces, their lifetimes |
//! | `autoconf`, `multicast` | IPv6 addresses that make themselves; groups |
//! | `route` | tables, rules, look-ups |
//! | `control`, `map`, `sysctl` | what a namespace has of all this; maps that are read without a lock; numbers to set |
//! | `ioctl`, `show` | the old calls; tables below `/proc/net` |
//!
//! Key type: [`IpState`]. Locks: what changes needs [`crate::device::Rtnl`]; what packets need is read without a lock.

pub mod address;
pub mod autoconf;
pub mod config;
pub mod control;
pub mod device;
pub mod input;
pub mod ioctl;
pub(crate) mod map;
pub mod multicast;
pub mod output;
pub mod route;
pub mod show;
pub mod sysctl;

/// What a namespace has for IP.
pub struct IpState {
    /// Addresses, routes, settings.
    pub control: control::Control,
}

impl IpState {
    pub(crate) fn new() -> IpState {
        IpState { control: control::Control::new() }
    }

    /// Lets go of what is in it at once: the namespace ends.
    pub(crate) fn clear(&self) {
        self.control.clear();
    }
}
