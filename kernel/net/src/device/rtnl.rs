//! The lock under which the configuration of a namespace's devices changes (Linux's RTNL, here one for each namespace).
//!
//! Key type: [`Rtnl`]: up to four namespaces locked, always in the order of their cookies, so that work on pairs of devices in
//! two namespaces cannot deadlock and work in independent namespaces runs in parallel. Sleeping; outermost of the network's
//! locks. Nothing is taken before it but a netlink socket's request lock.

use alloc::sync::Arc;
use arrayvec::ArrayVec;
use machine::sync::MutexGuard;

use super::NetDevice;
use crate::namespace::NetState;

const MOST: usize = 4;

/// Some namespaces, locked.
pub struct Rtnl<'a> {
    covered: ArrayVec<(u64, MutexGuard<'a, ()>), MOST>,
}

impl<'a> Rtnl<'a> {
    /// Locks one.
    pub fn lock(namespace: &'a NetState) -> Rtnl<'a> {
        Rtnl::lock_all(&[namespace])
    }

    /// Locks some, up to four different ones; the same one may be named twice. Sleeps.
    pub fn lock_all(namespaces: &[&'a NetState]) -> Rtnl<'a> {
        let mut order: ArrayVec<&'a NetState, { 2 * MOST }> =
            namespaces.iter().copied().take(2 * MOST).collect();
        order.sort_unstable_by_key(|namespace| namespace.cookie());
        let mut covered = ArrayVec::new();
        let mut last = 0;
        for namespace in order {
            if namespace.cookie() != last {
                covered.push((namespace.cookie(), namespace.rtnl.lock()));
            }
            last = namespace.cookie();
        }
        Rtnl { covered }
    }

    /// Whether a namespace is locked.
    pub fn covers(&self, namespace: &NetState) -> bool {
        self.covered.iter().any(|(cookie, _)| *cookie == namespace.cookie())
    }

    /// Stops (in debug builds) a caller who changes a device in a namespace that is not locked.
    pub fn assert_covers(&self, device: &NetDevice) {
        debug_assert!(self.covers(&device.namespace()), "{} changed without its lock", device.name());
    }
}

/// Locks the namespaces of a device and of its peer, and `also`, and runs `f` under that; again if one has moved meanwhile.
/// `None` if the device is gone.
pub fn with_pair<R>(
    device: &Arc<NetDevice>,
    also: &[&NetState],
    f: impl FnOnce(&Rtnl<'_>) -> R,
) -> Option<R> {
    let mut f = Some(f);
    loop {
        let own = device.namespace();
        let peer = device.peer().map(|peer| peer.namespace());
        let mut all: ArrayVec<&NetState, MOST> = ArrayVec::new();
        all.push(&own);
        all.extend(peer.as_deref());
        all.extend(also.iter().copied().take(MOST - all.len()));
        let rtnl = Rtnl::lock_all(&all);
        if !device.is_registered() {
            return None;
        }
        let covers_peer = device.peer().is_none_or(|peer| rtnl.covers(&peer.namespace()));
        if rtnl.covers(&device.namespace())
            && covers_peer
            && let Some(f) = f.take()
        {
            return Some(f(&rtnl));
        }
    }
}
