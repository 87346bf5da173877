//! The scheduler `mq-deadline`: requests in the order of their place on the disk, none left waiting for long.
//!
//! Reads go before writes, because somebody waits for them, but writes are passed over at most [`WRITES_STARVED`] times. Within a
//! direction a batch follows the order of sectors from where the last one ended; a new batch begins with the oldest request if
//! its time is up. Key type: [`Deadline`]. Locks: none; its disk has one around it.

use crate::bio::Operation;
use crate::driver::Request;
use crate::merge;
use alloc::collections::{BTreeMap, VecDeque};

/// How many requests of one direction go in a row.
const BATCH: u32 = 16;
/// How often reads may go before writes that wait.
const WRITES_STARVED: u32 = 2;
/// After this time a read is next, nanoseconds.
const READ_EXPIRE_NS: u64 = 500_000_000;
/// After this time a write is next, nanoseconds.
const WRITE_EXPIRE_NS: u64 = 5_000_000_000;

/// A request's place: its sector, and a number because several may be for the same.
type Key = (u64, u64);

#[derive(Default)]
struct Direction {
    sorted: BTreeMap<Key, Request>,
    /// In the order of coming; some are not in `sorted` any more.
    by_age: VecDeque<(u64, Key)>,
}

impl Direction {
    /// The oldest request's deadline and key.
    fn oldest(&mut self) -> Option<(u64, Key)> {
        while let Some((deadline, key)) = self.by_age.front().copied() {
            if self.sorted.contains_key(&key) {
                return Some((deadline, key));
            }
            self.by_age.pop_front();
        }
        None
    }

    /// Adds a request to one of its neighbours, if there is one.
    fn merge(&mut self, mut request: Request) -> Result<(), Request> {
        let before = self.sorted.range_mut(..=(request.sector, u64::MAX)).next_back();
        if let Some((_, known)) = before
            && merge::are_neighbours(known, &request)
        {
            match merge::merge(known, request) {
                Ok(()) => return Ok(()),
                Err(back) => request = back,
            }
        }
        let after = self.sorted.range((request.end(), 0)..).next();
        let Some((key, _)) = after.filter(|(_, known)| merge::are_neighbours(known, &request)) else {
            return Err(request);
        };
        let key = *key;
        let Some(mut known) = self.sorted.remove(&key) else { return Err(request) };
        let merged = merge::merge(&mut known, request);
        // Under its new place, and by age where it was.
        let place = (known.sector, key.1);
        if let Some(entry) = self.by_age.iter_mut().find(|(_, old)| *old == key) {
            entry.1 = place;
        }
        self.sorted.insert(place, known);
        merged
    }
}

/// The requests of a disk that wait.
#[derive(Default)]
pub(crate) struct Deadline {
    reads: Direction,
    writes: Direction,
    last_number: u64,
    /// Whether the batch is of writes, where it goes on, and how many are left of it.
    writing: bool,
    next_sector: u64,
    left: u32,
    starved: u32,
}

impl Deadline {
    /// How many requests wait.
    pub(crate) fn len(&self) -> usize {
        self.reads.sorted.len() + self.writes.sorted.len()
    }

    fn direction(&mut self, writing: bool) -> &mut Direction {
        if writing { &mut self.writes } else { &mut self.reads }
    }

    /// Takes a request. Gives it back if there is no memory to keep it.
    pub(crate) fn insert(&mut self, request: Request) -> Result<(), Request> {
        let writing = request.operation != Operation::Read;
        let expire_ns = if writing { WRITE_EXPIRE_NS } else { READ_EXPIRE_NS };
        let began_ns = request.owner.as_ref().map_or(0, |owner| owner.began_ns);
        self.last_number += 1;
        let number = self.last_number;
        let direction = self.direction(writing);
        let request = match direction.merge(request) {
            Ok(()) => return Ok(()),
            Err(request) => request,
        };
        if direction.by_age.try_reserve(1).is_err() {
            return Err(request);
        }
        let key = (request.sector, number);
        direction.by_age.push_back((began_ns + expire_ns, key));
        direction.sorted.insert(key, request);
        Ok(())
    }

    /// The request that is next.
    pub(crate) fn next(&mut self, now_ns: u64) -> Option<Request> {
        if self.left > 0 {
            let (from, writing) = ((self.next_sector, 0), self.writing);
            let direction = self.direction(writing);
            if let Some(key) = direction.sorted.range(from..).next().map(|(key, _)| *key) {
                return self.take(key);
            }
        }
        let reads = !self.reads.sorted.is_empty();
        let writes = !self.writes.sorted.is_empty();
        if !reads && !writes {
            self.reads.by_age.clear();
            self.writes.by_age.clear();
            return None;
        }
        let writing = writes && (!reads || self.starved >= WRITES_STARVED);
        self.starved = if writing || !writes { 0 } else { self.starved + 1 };
        let turned = writing != self.writing;
        (self.writing, self.left) = (writing, BATCH);
        let from = (self.next_sector, 0);
        let direction = self.direction(writing);
        let (deadline_ns, oldest) = direction.oldest()?;
        let ahead = direction.sorted.range(from..).next().map(|(key, _)| *key);
        let key = ahead.filter(|_| !turned && deadline_ns > now_ns).unwrap_or(oldest);
        self.take(key)
    }

    fn take(&mut self, key: Key) -> Option<Request> {
        let writing = self.writing;
        let request = self.direction(writing).sorted.remove(&key)?;
        self.left = self.left.saturating_sub(1);
        self.next_sector = request.end();
        Some(request)
    }
}
