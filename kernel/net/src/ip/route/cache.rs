//! What paths taught: that packets to a destination must be smaller, or that another router is better (RFC 1191, RFC 8201, RFC 792).
//!
//! Key type: `PathMtus`: of one namespace, by destination, at most `MOST`: who comes when it is full takes the place of one chosen
//! at random, so that nobody who forges messages can keep others out for long. Locks: a leaf spinlock for changes; read
//! without a lock. Any context.

use alloc::sync::Arc;
use core::net::IpAddr;
use machine::memory::try_arc;
use machine::sync::SpinLock;

use super::changed;
use crate::device::NetDevice;
use crate::ip::address::key_of;
use crate::ip::device::MTU_LEAST_6;
use crate::ip::map::RcuMap;
use crate::namespace::NetState;

/// Destinations that are remembered.
const MOST: usize = 4096;
/// Seconds that a path's MTU is remembered (`mtu_expires`).
const EXPIRY_SECONDS: u64 = 600;
/// IPv4 paths are not believed to be narrower than this (`min_pmtu`).
const LEAST_4: u32 = 552;

/// What is known of the way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Bytes that get through; 0 if that is not known.
    pub(crate) mtu: u32,
    /// A better router.
    pub(crate) gateway: Option<IpAddr>,
    /// When this is forgotten.
    pub(crate) ends_ns: u64,
    /// On which interface it was learnt.
    pub(crate) index: i32,
}

/// See the module. IPv4 destinations are kept under their mapped addresses.
pub(crate) struct PathMtus {
    known: RcuMap<Arc<Known>>,
    count: SpinLock<usize>,
}

fn key(destination: IpAddr) -> u128 {
    match destination {
        IpAddr::V4(address) => key_of(address.to_ipv6_mapped().into()),
        IpAddr::V6(_) => key_of(destination),
    }
}

impl PathMtus {
    pub(crate) const fn new() -> PathMtus {
        PathMtus { known: RcuMap::new(), count: SpinLock::new(0) }
    }

    /// What is known of a destination now.
    pub(crate) fn get(&self, destination: IpAddr) -> Option<Known> {
        if self.known.is_empty() {
            return None;
        }
        let known = self.known.get(key(destination))?;
        (known.ends_ns > machine::time::now_ns()).then_some(*known)
    }

    /// Notes what changed; forgotten if there is no memory.
    fn note(&self, destination: IpAddr, change: impl FnOnce(&mut Known), index: i32) {
        let key = key(destination);
        let now = machine::time::now_ns();
        let mut count = self.count.lock();
        let old = self.known.get(key);
        let mut known = match &old {
            Some(old) if old.ends_ns > now => **old,
            _ => Known { mtu: 0, gateway: None, ends_ns: 0, index },
        };
        change(&mut known);
        known.ends_ns = now + EXPIRY_SECONDS * 1_000_000_000;
        if old.is_none() && *count >= MOST && !self.evict() {
            return;
        }
        let Ok(known) = try_arc(known) else { return };
        if self.known.set(key, known).is_ok() && old.is_none() && *count < MOST {
            *count += 1;
        }
    }

    /// Takes one out to make room; whether it could.
    fn evict(&self) -> bool {
        let mut bytes = [0; 16];
        machine::random::fill(&mut bytes);
        let from = u128::from_ne_bytes(bytes);
        let victim = self.known.first_from(from).or_else(|| self.known.first_from(0));
        victim.is_some_and(|(key, _)| self.known.remove(key).is_ok())
    }

    /// How many are known.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        *self.count.lock()
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let mut count = self.count.lock();
        self.known.clear();
        *count = 0;
    }
}

/// A packet to `destination` through `device` was too large for the path, which takes `mtu` bytes. Any context.
pub fn note_path_mtu(net: &NetState, destination: IpAddr, device: &NetDevice, mtu: u32) {
    let least = if destination.is_ipv4() { LEAST_4 } else { MTU_LEAST_6 };
    let mtu = mtu.max(least);
    if mtu >= device.mtu() {
        return;
    }
    net.ip.control.paths.note(destination, |known| known.mtu = mtu, device.index());
    changed(net);
}

/// A router says that `gateway`, on the same link, is better for `destination`; the caller has checked who says it and that
/// redirects are accepted. Any context.
pub fn note_redirect(net: &NetState, destination: IpAddr, gateway: IpAddr, device: &NetDevice) {
    net.ip.control.paths.note(destination, |known| known.gateway = Some(gateway), device.index());
    changed(net);
}
