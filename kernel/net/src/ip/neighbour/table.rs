//! The neighbours of one interface, of one family.
//!
//! Key type: [`Neighbours`]. Found without a lock; changed under a leaf spinlock. A table has at most `gc_thresh3` neighbours: before it is
//! full, those that nobody uses are forgotten, a few at each addition, so that whoever floods a link with addresses only pushes out
//! their own.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use core::net::IpAddr;
use linnet_lib::neighbour::Nud;
use machine::sync::SpinLock;
use machine::sync::atomic::{AtomicUsize, Ordering};

use super::Neighbour;
use super::proxy::{Proxies, Waiting};
use super::settings::{Family, NeighbourSettings, family, statistic};
use crate::device::NetDevice;
use crate::ip::address::key_of;
use crate::ip::map::RcuMap;
use crate::netlink::route::neighbour as announcements;

/// Of many neighbours those that were not used for so long are forgotten.
const MOMENT_NS: u64 = 5_000_000_000;
/// How many are looked at for one that is added.
const LOOKS: usize = 16;

/// See the module.
pub struct Neighbours {
    map: RcuMap<Arc<Neighbour>>,
    /// Where looking for those to be forgotten goes on.
    change: SpinLock<u128>,
    count: AtomicUsize,
    settings: Arc<NeighbourSettings>,
    proxies: Proxies,
    waiting: Waiting,
    family: &'static Family,
}

impl Neighbours {
    /// None yet. `ENOMEM`.
    pub(crate) fn new(is_v6: bool) -> Result<Neighbours> {
        let family = family(is_v6);
        Ok(Neighbours {
            map: RcuMap::new(),
            change: SpinLock::new(0),
            count: AtomicUsize::new(0),
            settings: family.fresh()?,
            proxies: Proxies::new(),
            waiting: Waiting::new(),
            family,
        })
    }

    /// How they are asked.
    pub fn settings(&self) -> &Arc<NeighbourSettings> {
        &self.settings
    }

    /// What is answered for here.
    pub(crate) fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// Answers for others that wait.
    pub(super) fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one with this address. Any context.
    pub fn find(&self, address: IpAddr) -> Option<Arc<Neighbour>> {
        self.map.get(key_of(address))
    }

    /// The first one whose address is not less than `key`, with its key: for who goes through all.
    pub(crate) fn next_from(&self, key: u128) -> Option<(u128, Arc<Neighbour>)> {
        self.map.first_from(key)
    }

    /// The one with this address; a new one if there is none. `ENOBUFS`: too many; `ENOMEM`. Any context.
    pub(crate) fn find_or_add(&self, device: &Arc<NetDevice>, address: IpAddr) -> Result<Arc<Neighbour>> {
        self.family.note(statistic::LOOKUPS);
        if let Some(found) = self.find(address) {
            self.family.note(statistic::HITS);
            return Ok(found);
        }
        let fresh = Neighbour::new(device, address, &self.settings)?;
        let mut cursor = self.change.lock();
        if let Some(found) = self.find(address) {
            return Ok(found);
        }
        let forgotten = self.forget_some(&mut cursor);
        let result = if self.len() >= self.family.threshold(2) {
            self.family.note(statistic::TABLE_FULL);
            Err(Errno::ENOBUFS)
        } else {
            self.map.set(key_of(address), fresh.clone()).map(|()| {
                self.count.fetch_add(1, Ordering::Relaxed);
                fresh
            })
        };
        drop(cursor);
        for one in forgotten {
            one.end();
            announcements::announce_end_later(device, &one);
        }
        result
    }

    /// Takes a few out that nobody needs, if there are many. At most [`LOOKS`] are looked at.
    fn forget_some(&self, cursor: &mut u128) -> arrayvec::ArrayVec<Arc<Neighbour>, LOOKS> {
        let mut forgotten = arrayvec::ArrayVec::new();
        let count = self.len();
        if count < self.family.threshold(0) {
            return forgotten;
        }
        let is_crowded = count >= self.family.threshold(1);
        if is_crowded {
            self.family.note(statistic::FORCED_FORGETTING);
        }
        let now = machine::time::now_ns();
        let young_ns = if is_crowded { MOMENT_NS } else { self.settings.stale_ns() };
        let is_full = count >= self.family.threshold(2);
        for _ in 0..LOOKS {
            let Some((key, one)) = self.map.first_from(*cursor) else {
                *cursor = 0;
                continue;
            };
            *cursor = key.wrapping_add(1);
            let may_go = {
                let inner = one.inner.lock();
                let waits = inner.reachability.state() == Nud::Incomplete && !is_full;
                !waits && inner.flags == 0 && inner.reachability.may_be_forgotten(now, young_ns)
            };
            if may_go && self.map.remove(key).is_ok() {
                self.count.fetch_sub(1, Ordering::Relaxed);
                let _ = forgotten.try_push(one);
            }
        }
        forgotten
    }

    /// Takes one out; whether it was there. `ENOMEM`.
    pub(crate) fn remove(&self, address: IpAddr) -> Result<bool> {
        let change = self.change.lock();
        let Some(found) = self.find(address) else { return Ok(false) };
        self.map.remove(key_of(address))?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        drop(change);
        found.end();
        Ok(true)
    }

    /// Takes all out and tells of each: the interface goes down or away, or has no address of the family any more.
    pub(crate) fn clear(&self, device: &NetDevice) {
        let mut at = 0;
        while let Some((key, one)) = self.map.first_from(at) {
            if self.remove(one.address) == Ok(true) {
                announcements::announce_end(device, &one);
            }
            let Some(next) = key.checked_add(1) else { return };
            at = next;
        }
    }

    /// Takes all out at once, needing no memory: the interface is gone.
    pub(crate) fn clear_all(&self) {
        let change = self.change.lock();
        let all = self.map.iter();
        self.map.clear();
        self.count.store(0, Ordering::Relaxed);
        self.proxies.clear();
        self.waiting.clear();
        drop(change);
        all.for_each(|one| one.end());
    }
}
