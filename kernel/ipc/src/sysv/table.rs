//! Ids and keys of one kind of System V object in one namespace.
//!
//! Key type: [`Table`]. An id is a place in the table and, above it, a sequence number, so that an old id does not name a new object.
//! Places are given out in turn, as Linux does (ids are seen by programs). Locks: one leaf spinlock.

use super::{Access, Caller, Object};
use abi::errno::{Errno, Result};
use abi::ipc::{IPC_CREAT, IPC_EXCL, IPC_PRIVATE};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::SpinLock;

/// Bits of an id that are the place.
pub const INDEX_BITS: u32 = 15;
/// Most places, and so the largest limit that can be set.
pub const MOST: u32 = 1 << INDEX_BITS;
/// Sequence numbers go round here: an id is never negative.
const SEQUENCES: u32 = 1 << (31 - INDEX_BITS);
/// So many places are used in turn even if there are few objects.
const SHORTEST_ROUND: u32 = 64;

struct Ids<T> {
    objects: BTreeMap<u32, Arc<T>>,
    keys: BTreeMap<i32, u32>,
    /// The place to try next, and the one given last.
    next: u32,
    last: Option<u32>,
    sequence: u32,
}

/// The objects of one kind.
pub struct Table<T> {
    ids: SpinLock<Ids<T>>,
}

impl<T> Ids<T> {
    /// The next free place. Each round has half as many free places as used ones, so that a free one is near, unless there are
    /// nearly as many objects as there can be.
    fn place(&mut self) -> Option<u32> {
        let used = self.objects.len() as u32;
        let round = used.saturating_mul(3).div_euclid(2).clamp(SHORTEST_ROUND, MOST);
        let mut at = if self.next < round { self.next } else { 0 };
        for _ in 0..=used {
            if !self.objects.contains_key(&at) {
                self.next = at + 1;
                if self.last.is_some_and(|last| at <= last) {
                    self.sequence = (self.sequence + 1) % SEQUENCES;
                }
                self.last = Some(at);
                return Some(at);
            }
            at = (at + 1) % round;
        }
        None
    }
}

impl<T: Object> Table<T> {
    /// An empty one.
    pub(super) const fn new() -> Table<T> {
        let ids = Ids { objects: BTreeMap::new(), keys: BTreeMap::new(), next: 0, last: None, sequence: 0 };
        Table { ids: SpinLock::new(ids) }
    }

    /// The object with this key, or a new one that `make` makes: msgget(2) and its like.
    ///
    /// # Errors
    /// `ENOENT`: there is none and `flags` do not ask for one; `EEXIST`; `EACCES`; `ENOSPC`: there are `limit`.
    pub fn get(
        &self,
        key: i32,
        flags: u32,
        limit: u32,
        caller: &Caller<'_>,
        make: impl FnOnce(u32, Access) -> Result<Arc<T>>,
    ) -> Result<Arc<T>> {
        let mut ids = self.ids.lock();
        let known = if key == IPC_PRIVATE { None } else { ids.keys.get(&key).copied() };
        if let Some(object) = known.and_then(|place| ids.objects.get(&place)).cloned() {
            drop(ids);
            if flags & IPC_CREAT != 0 && flags & IPC_EXCL != 0 {
                return Err(Errno::EEXIST);
            }
            object.access().check(caller, flags)?;
            return Ok(object);
        }
        if key != IPC_PRIVATE && flags & IPC_CREAT == 0 {
            return Err(Errno::ENOENT);
        }
        if ids.objects.len() >= limit as usize {
            return Err(Errno::ENOSPC);
        }
        let place = ids.place().ok_or(Errno::ENOSPC)?;
        let object = make(ids.sequence << INDEX_BITS | place, Access::new(key, flags, caller))?;
        ids.objects.insert(place, object.clone());
        if key != IPC_PRIVATE {
            ids.keys.insert(key, place);
        }
        Ok(object)
    }

    /// The object with this id. Errors: `EINVAL`.
    pub fn find(&self, id: i32) -> Result<Arc<T>> {
        self.at(id).filter(|object| object.id() as i32 == id).ok_or(Errno::EINVAL)
    }

    /// The object at the place that is in this id, whatever its sequence number.
    pub fn at(&self, id: i32) -> Option<Arc<T>> {
        let id = u32::try_from(id).ok()?;
        self.ids.lock().objects.get(&(id % MOST)).cloned()
    }

    /// Takes an object out; whether it was there.
    pub(super) fn take(&self, object: &Arc<T>) -> bool {
        let key = object.access().key;
        let mut ids = self.ids.lock();
        let place = object.id() % MOST;
        if !ids.objects.get(&place).is_some_and(|there| Arc::ptr_eq(there, object)) {
            return false;
        }
        let taken = ids.objects.remove(&place);
        if key != IPC_PRIVATE {
            ids.keys.remove(&key);
        }
        drop(ids);
        drop(taken);
        true
    }

    /// Makes an object's key that of none; its id still names it.
    pub(super) fn hide(&self, object: &Arc<T>) {
        let key = object.access().key;
        let mut ids = self.ids.lock();
        if key != IPC_PRIVATE && ids.keys.get(&key) == Some(&(object.id() % MOST)) {
            ids.keys.remove(&key);
        }
    }

    /// All of them, in the order of their places. Errors: `ENOMEM`.
    pub fn all(&self) -> Result<Vec<Arc<T>>> {
        let mut all = Vec::new();
        let count = self.ids.lock().objects.len();
        all.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        all.extend(self.ids.lock().objects.values().take(count).cloned());
        Ok(all)
    }

    /// The highest place in use, or 0.
    pub fn highest_place(&self) -> u32 {
        self.ids.lock().objects.keys().next_back().copied().unwrap_or(0)
    }
}
