//! Addresses of interfaces, of both families: what one is, the list of a device, what an address is to a namespace.
//!
//! | file | what |
//! |---|---|
//! | `inet` | adding and removing IPv4 addresses; secondaries; the routes that come with them |
//! | `inet6` | the same for IPv6, with the state of duplicate detection |
//! | `lifetime` | they end by themselves |
//!
//! Key types: [`Address`] (never changes: who changes one puts another in its place), [`AddressList`]. A list keeps its order in a
//! key and finds the addresses of one network in another map, so that nothing costs more than O(log addresses).
//! Locks: changed under [`crate::device::Rtnl`]; read without a lock.

pub mod inet;
pub mod inet6;
pub mod lifetime;

use abi::errno::Result;
use abi::route as linux;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use linnet_lib::fib::Prefix;
use machine::memory::try_arc;
use machine::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::map::{Groups, RcuMap};
use super::route;
use crate::device::{InterfaceName, NetDevice};
use crate::namespace::NetState;

/// For ever (`INFINITY_LIFE_TIME`).
pub const FOREVER: u32 = u32::MAX;

/// An address as a key: that of IPv4 in the first 32 bits.
pub fn key_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A key as an address.
pub fn address_of(key: u128, is_v6: bool) -> IpAddr {
    if is_v6 { Ipv6Addr::from_bits(key).into() } else { Ipv4Addr::from_bits((key >> 96) as u32).into() }
}

/// The network of an address.
pub fn network_of(address: IpAddr, length: u8) -> Prefix {
    Prefix::new(key_of(address), length)
}

/// Hundredths of a second since the start, in which programs are told times.
pub(crate) fn now_hundredths() -> u32 {
    (machine::time::now_ns() / 10_000_000) as u32
}

/// An address of an interface.
#[derive(Clone, Debug)]
pub struct Address {
    /// IFA_LOCAL: what this end is called.
    pub local: IpAddr,
    /// IFA_ADDRESS: the other end of a point-to-point link, else the same.
    pub peer: IpAddr,
    /// Bits of the network.
    pub length: u8,
    /// Its broadcast address.
    pub broadcast: Option<Ipv4Addr>,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// `IFA_F_*`.
    pub flags: u32,
    /// What it is called (IPv4).
    pub label: InterfaceName,
    /// `IFAPROT_*` or what a program said.
    pub protocol: u8,
    /// Of its network's route; 0 for the usual.
    pub metric: u32,
    /// Seconds from `updated_ns` on.
    pub valid: u32,
    /// The same.
    pub preferred: u32,
    /// When it was made.
    pub created: u32,
    /// When its lifetimes were set.
    pub updated_ns: u64,
    /// How many more times duplicate detection will ask.
    pub probes: u8,
    /// When it will, or will be done; 0 for never.
    pub(crate) probe_ns: u64,
    /// Where it stands in its list.
    pub(crate) key: u128,
    /// Of which interface.
    pub(crate) index: i32,
}

impl Address {
    /// A permanent one.
    pub(crate) fn new(local: IpAddr, length: u8, scope: u8, label: InterfaceName) -> Address {
        Address {
            local,
            peer: local,
            length,
            broadcast: None,
            scope,
            flags: linux::IFA_F_PERMANENT,
            label,
            protocol: 0,
            metric: 0,
            valid: FOREVER,
            preferred: FOREVER,
            created: now_hundredths(),
            updated_ns: machine::time::now_ns(),
            probes: 0,
            probe_ns: 0,
            key: 0,
            index: 0,
        }
    }

    /// The network that it is in.
    pub fn network(&self) -> Prefix {
        network_of(self.peer, self.length)
    }
    /// Whether all its flags are set.
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }
    /// Whether another of the network comes before it.
    pub fn is_secondary(&self) -> bool {
        self.local.is_ipv4() && self.has(linux::IFA_F_SECONDARY)
    }
    /// Whether it may be used to send from: not being checked, not a duplicate.
    pub fn is_usable(&self) -> bool {
        let is_tentative = self.has(linux::IFA_F_TENTATIVE) && !self.has(linux::IFA_F_OPTIMISTIC);
        self.local.is_ipv4() || !(is_tentative || self.has(linux::IFA_F_DADFAILED))
    }
    /// Sets its lifetimes in seconds, and the flags that follow from them.
    pub(crate) fn set_lifetimes(&mut self, valid: u32, preferred: u32) {
        self.flags &= !(linux::IFA_F_PERMANENT | linux::IFA_F_DEPRECATED);
        if valid == FOREVER {
            self.flags |= linux::IFA_F_PERMANENT;
        }
        if preferred == 0 {
            self.flags |= linux::IFA_F_DEPRECATED;
        }
        (self.valid, self.preferred) = (valid, preferred);
        self.updated_ns = machine::time::now_ns();
    }
    /// Seconds that are left: preferred and valid.
    pub fn remaining(&self) -> (u32, u32) {
        if self.has(linux::IFA_F_PERMANENT) && self.preferred == FOREVER {
            return (FOREVER, FOREVER);
        }
        let age = (machine::time::now_ns().saturating_sub(self.updated_ns) / 1_000_000_000) as u32;
        let left = |seconds: u32| if seconds == FOREVER { FOREVER } else { seconds.saturating_sub(age) };
        (left(self.preferred), left(self.valid))
    }
}

/// The addresses of one family of a device.
pub struct AddressList {
    /// In the order in which they are told.
    by_order: RcuMap<Arc<Address>>,
    /// Those of one name: IPv4 may have it with several lengths and peers.
    by_local: Groups<Arc<Address>>,
    /// Those of one network.
    by_network: Groups<Arc<Address>>,
    next: AtomicU64,
    count: AtomicUsize,
}

impl AddressList {
    pub(crate) const fn new() -> AddressList {
        AddressList {
            by_order: RcuMap::new(),
            by_local: Groups::new(),
            by_network: Groups::new(),
            next: AtomicU64::new(1),
            count: AtomicUsize::new(0),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_order.is_empty()
    }
    /// All in order, as they are now.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Address>> {
        self.by_order.iter()
    }
    /// The first from a place on.
    pub(crate) fn first_from(&self, key: u128) -> Option<Arc<Address>> {
        self.by_order.first_from(key).map(|(_, address)| address)
    }
    /// Offers them in order, without a count, until `accept` takes one. Any context.
    pub fn find<R>(&self, mut accept: impl FnMut(&Arc<Address>) -> Option<R>) -> Option<R> {
        self.by_order.find(0, |_, address| accept(address))
    }
    /// Offers those that are called `local`. Any context.
    pub fn find_local<R>(
        &self,
        local: IpAddr,
        mut accept: impl FnMut(&Arc<Address>) -> Option<R>,
    ) -> Option<R> {
        self.by_local.find(Prefix::exact(key_of(local)), |_, address| accept(address))
    }
    /// Offers those of a network, in order. Any context.
    pub fn find_network<R>(
        &self,
        network: Prefix,
        mut accept: impl FnMut(&Arc<Address>) -> Option<R>,
    ) -> Option<R> {
        self.by_network.find(network, |_, address| accept(address))
    }
    /// Those of a network in order, as they are now, for who goes through them with preemption on.
    pub(crate) fn of_network(&self, network: Prefix) -> super::map::Iter<Arc<Address>> {
        self.by_network.values(network)
    }
    /// Offers those whose network an address is in, the narrowest network's first. Any context.
    pub(crate) fn near<R>(
        &self,
        other: IpAddr,
        mut accept: impl FnMut(&Arc<Address>) -> Option<R>,
    ) -> Option<R> {
        self.by_network.find_longest(key_of(other), |_, address| accept(address))
    }
    /// The one that is called so.
    pub fn get(&self, local: IpAddr) -> Option<Arc<Address>> {
        self.find_local(local, |address| Some(address.clone()))
    }

    fn fresh(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds one at the place that its family, scope and rank give it. `ENOMEM`.
    pub(crate) fn add(&self, mut address: Address) -> Result<Arc<Address>> {
        let serial = self.fresh();
        address.key = match address.local {
            IpAddr::V4(_) => {
                let rank = if address.is_secondary() { 1 << 9 } else { u128::from(u8::MAX - address.scope) };
                rank << 64 | u128::from(serial)
            }
            // The newest first, those that reach farthest before the others.
            IpAddr::V6(_) => u128::from(address.scope) << 64 | u128::from(u64::MAX - serial),
        };
        let address = try_arc(address)?;
        if let Err(error) = self.place(&address) {
            self.take(&address);
            return Err(error);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(address)
    }

    fn place(&self, address: &Arc<Address>) -> Result<()> {
        self.by_local.set(Prefix::exact(key_of(address.local)), address.key, address.clone())?;
        self.by_network.set(address.network(), address.key, address.clone())?;
        self.by_order.set(address.key, address.clone())
    }

    fn take(&self, address: &Address) {
        let _ = self.by_local.remove(Prefix::exact(key_of(address.local)), address.key);
        let _ = self.by_network.remove(address.network(), address.key);
        let _ = self.by_order.remove(address.key);
    }

    /// Puts another in the place of one of the same name and network. `ENOMEM`.
    pub(crate) fn replace(&self, address: Address) -> Result<Arc<Address>> {
        let address = try_arc(address)?;
        self.place(&address)?;
        Ok(address)
    }

    /// Takes one out; whether it was there.
    pub(crate) fn remove(&self, address: &Address) -> bool {
        if !self.by_order.has(address.key) {
            return false;
        }
        self.take(address);
        self.count.fetch_sub(1, Ordering::Relaxed);
        true
    }

    /// Takes all out at once, needing no memory.
    pub(crate) fn clear(&self) {
        self.by_order.clear();
        self.by_local.clear();
        self.by_network.clear();
        self.count.store(0, Ordering::Relaxed);
    }
}

/// What an address is to a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// One of its own.
    Local,
    /// A broadcast address of one of its networks, or of all.
    Broadcast,
    /// A multicast group.
    Multicast,
    /// No address at all (`0.0.0.0`, `::`).
    Unspecified,
    /// One of its own that anyone may have (IPv6).
    Anycast,
    /// Someone else's.
    Other,
}

/// What an address is here, to the interface with index `output` (0: to any). Any context.
pub fn kind_of(net: &NetState, address: IpAddr, output: i32) -> AddressKind {
    if address.is_unspecified() {
        return AddressKind::Unspecified;
    }
    if address.is_multicast() {
        return AddressKind::Multicast;
    }
    if address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return AddressKind::Broadcast;
    }
    match address {
        IpAddr::V4(_) => route::lookup::local_kind(net, address, output),
        IpAddr::V6(address) => match inet6::owner(net, address, output) {
            Some(found) if found.is_usable() => AddressKind::Local,
            _ => AddressKind::Other,
        },
    }
}

/// The address to send to `destination` from, through a device. Any context.
pub fn select_source(net: &NetState, device: &NetDevice, destination: IpAddr) -> Option<IpAddr> {
    match destination {
        IpAddr::V4(destination) => {
            inet::select_source(net, device, Some(destination), linux::RT_SCOPE_UNIVERSE)
        }
        IpAddr::V6(destination) => inet6::select_source(net, Some(device), destination).map(IpAddr::V6),
    }
}
