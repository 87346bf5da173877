//! The Internet protocols of a namespace: addresses, routes, and what goes through them.
//!
//! | file | what |
//! |---|---|
//! | `device`, `config` | what IP keeps for an interface; settings |
//! | `address` | addresses of interfaces, their lifetimes |
//! | `autoconf` | IPv6 addresses that make themselves |
//! | `multicast`, `reports` | groups, and telling routers of them |
//! | `route` | tables, rules, look-ups |
//! | `control`, `map`, `sysctl` | what a namespace has of all this; maps that are read without a lock; numbers to set |
//! | `input`, `output`, `forward` | packets in, out, and on |
//! | `fragment`, `options` | packets cut and put together; options of IPv4 |
//! | `icmp`, `icmp6`, `limits` | echoes and errors; how often others are told |
//! | `neighbour` | who is on a link, and where: ARP, neighbour discovery |
//! | `counters` | what is counted |
//! | `ioctl`, `arp_ioctl`, `show`, `show_counters` | the old calls; tables below `/proc/net` |
//!
//! Key type: [`IpState`]. Locks: what changes needs [`crate::device::Rtnl`]; what packets need is read without a lock.

pub mod address;
mod arp_ioctl;
pub mod autoconf;
pub mod config;
pub mod control;
pub mod counters;
pub mod device;
mod forward;
pub(crate) mod fragment;
pub(crate) mod icmp;
pub(crate) mod icmp6;
pub mod input;
pub mod ioctl;
pub(crate) mod limits;
pub(crate) mod map;
pub mod multicast;
pub mod neighbour;
pub(crate) mod options;
pub mod output;
pub(crate) mod reports;
pub mod route;
pub mod show;
pub mod show_counters;
pub mod sysctl;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wire_tests;

use machine::sync::atomic::AtomicU32;

/// What a namespace has for IP.
pub struct IpState {
    /// Addresses, routes, settings.
    pub control: control::Control,
    /// What is counted.
    pub counters: counters::Counters,
    /// Unfinished packets.
    pub(crate) fragments: fragment::Fragments,
    /// How many errors may be told.
    pub(crate) errors_to_send: limits::Bucket,
    /// Who was told of errors and better routers.
    pub(crate) told: limits::Peers,
    /// Tells the fragments of one packet from those of another.
    pub(crate) identification: AtomicU32,
}

impl IpState {
    pub(crate) fn new() -> IpState {
        let mut first = [0; 4];
        machine::random::fill(&mut first);
        IpState {
            control: control::Control::new(),
            counters: counters::Counters::new(),
            fragments: fragment::Fragments::default(),
            errors_to_send: limits::Bucket::new(),
            told: limits::Peers::default(),
            identification: AtomicU32::new(u32::from_ne_bytes(first)),
        }
    }

    /// Lets go of what is in it at once: the namespace ends.
    pub(crate) fn clear(&self) {
        self.control.clear();
        self.fragments.clear();
        self.told.clear();
    }
}
