//! Descriptor tables: small numbers for open files.
//!
//! Key types: [`DescriptorTable`], [`CloseOnExec`], [`Reservation`]. Neighbours: `task` shares tables by `CLONE_FILES`.
//!
//! Looking a number up takes no lock: a root points to chunks of 64 slots, all read under RCU. Changes are ordered by one
//! spin lock over the bitmaps: which numbers are taken, which are closed at exec, and which chunks are full, a level above,
//! so that the lowest free number among n is found in O(n / 4096) words at worst and O(1) in practice. Files are closed
//! outside the lock.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use abi::errno::{Errno, Result};
use machine::sync::atomic::{AtomicU64, Ordering};
use machine::sync::rcu_slot::RcuSlot;
use machine::sync::{RcuArc, SpinLock, rcu};

use crate::file::File;

/// Slots in a chunk: bits in a word.
const CHUNK: usize = 64;
/// No descriptor is ever this large (`/proc/sys/fs/nr_open`), whatever the limit.
pub const NR_OPEN: u32 = 1_048_576;

/// Whether exec closes a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseOnExec {
    /// `FD_CLOEXEC` is set.
    Yes,
    /// It is not.
    No,
}

/// What close_range(2) does to the numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseRange {
    /// Closes them.
    Close,
    /// `CLOSE_RANGE_CLOEXEC`: has exec close them.
    SetCloseOnExec,
}

struct Chunk {
    slots: [RcuSlot<File>; CHUNK],
}

impl Chunk {
    fn new() -> Chunk {
        Chunk { slots: [const { RcuSlot::empty() }; CHUNK] }
    }
}

/// The chunks; replaced when it grows.
struct Root {
    chunks: Box<[Arc<Chunk>]>,
}

#[derive(Default)]
struct Bitmaps {
    /// One word for each chunk: numbers that are taken (open or reserved).
    taken: Vec<u64>,
    /// One word for each chunk: numbers that exec closes.
    close_on_exec: Vec<u64>,
    /// One bit for each chunk: full.
    full: Vec<u64>,
    count: usize,
}

impl Bitmaps {
    /// The lowest free number that is at least `minimum`; it may be beyond the last chunk.
    fn find_free(&self, minimum: usize) -> usize {
        let chunk = minimum / CHUNK;
        if let Some(word) = self.taken.get(chunk) {
            let free = !word & (u64::MAX << (minimum % CHUNK));
            if free != 0 {
                return chunk * CHUNK + free.trailing_zeros() as usize;
            }
        }
        match self.first_open_chunk(chunk + 1) {
            Some(chunk) => {
                let word = self.taken.get(chunk).copied().unwrap_or_default();
                chunk * CHUNK + word.trailing_ones() as usize
            }
            None => minimum.max(self.taken.len() * CHUNK),
        }
    }

    /// The first chunk from `from` on that is not full.
    fn first_open_chunk(&self, from: usize) -> Option<usize> {
        let mut mask = u64::MAX << (from % 64);
        for (index, word) in self.full.iter().enumerate().skip(from / 64) {
            let open = !word & mask;
            if open != 0 {
                let chunk = index * 64 + open.trailing_zeros() as usize;
                return (chunk < self.taken.len()).then_some(chunk);
            }
            mask = u64::MAX;
        }
        None
    }

    fn is_taken(&self, number: usize) -> bool {
        self.taken.get(number / CHUNK).is_some_and(|word| word >> (number % CHUNK) & 1 != 0)
    }

    fn take(&mut self, number: usize, close_on_exec: CloseOnExec) {
        let (chunk, bit) = (number / CHUNK, 1u64 << (number % CHUNK));
        if let Some(word) = self.taken.get_mut(chunk) {
            self.count += usize::from(*word & bit == 0);
            *word |= bit;
            if *word == u64::MAX
                && let Some(full) = self.full.get_mut(chunk / 64)
            {
                *full |= 1 << (chunk % 64);
            }
        }
        self.set_close_on_exec(number, close_on_exec);
    }

    fn give_back(&mut self, number: usize) {
        let (chunk, bit) = (number / CHUNK, 1u64 << (number % CHUNK));
        if let Some(word) = self.taken.get_mut(chunk) {
            self.count -= usize::from(*word & bit != 0);
            *word &= !bit;
        }
        if let Some(full) = self.full.get_mut(chunk / 64) {
            *full &= !(1 << (chunk % 64));
        }
        self.set_close_on_exec(number, CloseOnExec::No);
    }

    fn set_close_on_exec(&mut self, number: usize, close_on_exec: CloseOnExec) {
        if let Some(word) = self.close_on_exec.get_mut(number / CHUNK) {
            let bit = 1u64 << (number % CHUNK);
            *word = if close_on_exec == CloseOnExec::Yes { *word | bit } else { *word & !bit };
        }
    }

    fn close_on_exec(&self, number: usize) -> CloseOnExec {
        let word = self.close_on_exec.get(number / CHUNK).copied().unwrap_or_default();
        if word >> (number % CHUNK) & 1 != 0 { CloseOnExec::Yes } else { CloseOnExec::No }
    }

    /// The first taken number in the range.
    fn next_taken(&self, from: usize, last: usize) -> Option<usize> {
        let mut mask = u64::MAX << (from % CHUNK);
        for (chunk, word) in self.taken.iter().enumerate().skip(from / CHUNK) {
            let taken = word & mask;
            if taken != 0 {
                let number = chunk * CHUNK + taken.trailing_zeros() as usize;
                return (number <= last).then_some(number);
            }
            mask = u64::MAX;
        }
        None
    }
}

/// The descriptors of a process.
pub struct DescriptorTable {
    id: u64,
    root: RcuArc<Root>,
    bitmaps: SpinLock<Bitmaps>,
}

static NEXT_TABLE_ID: AtomicU64 = AtomicU64::new(1);

/// A number that is taken but not yet open; given back on drop.
pub struct Reservation<'a> {
    table: &'a DescriptorTable,
    number: usize,
}

impl Reservation<'_> {
    /// The number.
    pub fn descriptor(&self) -> i32 {
        self.number as i32
    }

    /// Opens it with this file.
    pub fn install(self, file: Arc<File>) -> i32 {
        let number = self.number;
        drop(self.table.swap(number, Some(file)));
        core::mem::forget(self);
        number as i32
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.table.bitmaps.lock().give_back(self.number);
    }
}

impl DescriptorTable {
    /// An empty table.
    pub fn new() -> Arc<DescriptorTable> {
        Arc::new(DescriptorTable {
            id: NEXT_TABLE_ID.fetch_add(1, Ordering::Relaxed),
            root: RcuArc::empty(),
            bitmaps: SpinLock::new(Bitmaps::default()),
        })
    }

    /// A number of its own, never used again: the owner of POSIX locks.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The file of a descriptor. Takes no lock. `EBADF`.
    #[inline]
    pub fn get(&self, descriptor: i32) -> Result<Arc<File>> {
        let number = usize::try_from(descriptor).map_err(|_| Errno::EBADF)?;
        let guard = rcu::read_lock();
        let root = self.root.load(&guard).ok_or(Errno::EBADF)?;
        let chunk = root.chunks.get(number / CHUNK).ok_or(Errno::EBADF)?;
        let slot = chunk.slots.get(number % CHUNK).ok_or(Errno::EBADF)?;
        slot.load_with(&guard).ok_or(Errno::EBADF)
    }

    /// The file of a descriptor that is more than a handle on a place. `EBADF`: not open, or `O_PATH`.
    #[inline]
    pub fn get_open(&self, descriptor: i32) -> Result<Arc<File>> {
        let file = self.get(descriptor)?;
        if file.is_place() { Err(Errno::EBADF) } else { Ok(file) }
    }

    /// Whether exec closes the descriptor. `EBADF`.
    pub fn close_on_exec(&self, descriptor: i32) -> Result<CloseOnExec> {
        self.get(descriptor)?;
        Ok(self.bitmaps.lock().close_on_exec(descriptor as usize))
    }

    /// Sets whether exec closes the descriptor. `EBADF`.
    pub fn set_close_on_exec(&self, descriptor: i32, close_on_exec: CloseOnExec) -> Result<()> {
        let mut bitmaps = self.bitmaps.lock();
        self.get(descriptor)?;
        bitmaps.set_close_on_exec(descriptor as usize, close_on_exec);
        Ok(())
    }

    /// Puts a file into a slot that exists; gives what was there.
    fn swap(&self, number: usize, file: Option<Arc<File>>) -> Option<Arc<File>> {
        let guard = rcu::read_lock();
        let root = self.root.load(&guard)?;
        root.chunks.get(number / CHUNK)?.slots.get(number % CHUNK)?.swap(file)
    }

    /// Makes room for `number`. The allocation happens outside the lock. `ENOMEM`.
    fn grow(&self, number: usize) -> Result<()> {
        let wanted = number / CHUNK + 1;
        let have = self.bitmaps.lock().taken.len();
        if wanted <= have {
            return Ok(());
        }
        // By half at least, so that growing n times costs O(n).
        let target = wanted.max(have + have / 2);
        let mut fresh: Vec<Arc<Chunk>> = Vec::new();
        let mut chunks: Vec<Arc<Chunk>> = Vec::new();
        let mut words: [Vec<u64>; 3] = Default::default();
        fresh.try_reserve_exact(target).map_err(|_| Errno::ENOMEM)?;
        chunks.try_reserve_exact(target).map_err(|_| Errno::ENOMEM)?;
        for words in &mut words {
            words.try_reserve_exact(target).map_err(|_| Errno::ENOMEM)?;
        }
        fresh.extend((have..target).map(|_| Arc::new(Chunk::new())));
        let mut bitmaps = self.bitmaps.lock();
        let known = bitmaps.taken.len();
        if known >= wanted {
            return Ok(());
        }
        if let Some(root) = self.root.load_arc() {
            chunks.extend(root.chunks.iter().cloned());
        }
        chunks.extend(fresh.drain(..).take(target - known));
        let [taken, close_on_exec, full] = &mut words;
        let bitmaps = &mut *bitmaps;
        for (new, old) in [(taken, &mut bitmaps.taken), (close_on_exec, &mut bitmaps.close_on_exec)] {
            new.extend_from_slice(old);
            new.resize(target, 0);
            core::mem::swap(new, old);
        }
        full.extend_from_slice(&bitmaps.full);
        full.resize(target.div_ceil(64), 0);
        core::mem::swap(full, &mut bitmaps.full);
        self.root.replace(Some(Arc::new(Root { chunks: chunks.into_boxed_slice() })));
        Ok(())
    }

    fn take_free(&self, minimum: u32, limit: u64, close_on_exec: CloseOnExec) -> Result<usize> {
        let limit = limit.min(u64::from(NR_OPEN)) as usize;
        loop {
            let number = {
                let mut bitmaps = self.bitmaps.lock();
                let number = bitmaps.find_free(minimum as usize);
                if number >= limit {
                    return Err(Errno::EMFILE);
                }
                if number / CHUNK < bitmaps.taken.len() {
                    bitmaps.take(number, close_on_exec);
                    return Ok(number);
                }
                number
            };
            self.grow(number)?;
        }
    }

    /// Takes the lowest number that is free, at least `minimum` and below `limit` (`RLIMIT_NOFILE`).
    /// `EMFILE`, `ENOMEM`.
    pub fn reserve(&self, minimum: u32, limit: u64, close_on_exec: CloseOnExec) -> Result<Reservation<'_>> {
        let number = self.take_free(minimum, limit, close_on_exec)?;
        Ok(Reservation { table: self, number })
    }

    /// Opens the lowest free number with this file. `EMFILE`, `ENOMEM`.
    pub fn install(&self, file: Arc<File>, close_on_exec: CloseOnExec, limit: u64) -> Result<i32> {
        Ok(self.reserve(0, limit, close_on_exec)?.install(file))
    }

    /// `F_DUPFD`, dup(2). `EBADF`, `EMFILE`; `EINVAL`: `minimum` is beyond the limit.
    pub fn duplicate(
        &self,
        descriptor: i32,
        minimum: u32,
        limit: u64,
        close_on_exec: CloseOnExec,
    ) -> Result<i32> {
        let file = self.get(descriptor)?;
        if u64::from(minimum) >= limit {
            return Err(Errno::EINVAL);
        }
        Ok(self.reserve(minimum, limit, close_on_exec)?.install(file))
    }

    /// dup2(2), dup3(2) with different numbers: what `new` was is closed. `EBADF`; `EBUSY`: `new` is just being opened.
    pub fn duplicate_to(&self, old: i32, new: i32, limit: u64, close_on_exec: CloseOnExec) -> Result<i32> {
        let number = usize::try_from(new).map_err(|_| Errno::EBADF)?;
        if number as u64 >= limit.min(u64::from(NR_OPEN)) {
            return Err(Errno::EBADF);
        }
        self.get(old)?;
        self.grow(number)?;
        let replaced = {
            let mut bitmaps = self.bitmaps.lock();
            let file = self.get(old)?;
            if bitmaps.is_taken(number) && self.get(new).is_err() {
                return Err(Errno::EBUSY);
            }
            bitmaps.take(number, close_on_exec);
            self.swap(number, Some(file))
        };
        if let Some(file) = replaced {
            let _ = self.finish_close(&file);
        }
        Ok(new)
    }

    /// close(2). `EBADF`; errors of the file's flush, but the descriptor is closed all the same.
    pub fn close(&self, descriptor: i32) -> Result<()> {
        let number = usize::try_from(descriptor).map_err(|_| Errno::EBADF)?;
        let file = self.take_out(number).ok_or(Errno::EBADF)?;
        self.finish_close(&file)
    }

    fn take_out(&self, number: usize) -> Option<Arc<File>> {
        let mut bitmaps = self.bitmaps.lock();
        let file = self.swap(number, None)?;
        bitmaps.give_back(number);
        Some(file)
    }

    /// What every closed descriptor does: flush, and the process's POSIX locks on the file go.
    fn finish_close(&self, file: &Arc<File>) -> Result<()> {
        if file.is_place() {
            return Ok(());
        }
        let result = file.operations().flush(file);
        crate::locks::release_owner(file, self.id);
        result
    }

    fn next_taken(&self, range: &RangeInclusive<usize>) -> Option<usize> {
        self.bitmaps.lock().next_taken(*range.start(), *range.end())
    }

    /// close_range(2). Both ends are included.
    pub fn close_range(&self, first: u32, last: u32, what: CloseRange) {
        let mut from = first as usize;
        while let Some(number) = self.next_taken(&(from..=last as usize)) {
            from = number + 1;
            match what {
                CloseRange::Close => {
                    let _ = self.close(number as i32);
                }
                CloseRange::SetCloseOnExec => {
                    self.bitmaps.lock().set_close_on_exec(number, CloseOnExec::Yes);
                }
            }
        }
    }

    /// exec: closes what is marked so.
    pub fn close_for_exec(&self) {
        let words = {
            let bitmaps = self.bitmaps.lock();
            bitmaps.close_on_exec.iter().rposition(|word| *word != 0).map_or(0, |at| at + 1)
        };
        for chunk in 0..words {
            let mut marked = self.bitmaps.lock().close_on_exec.get(chunk).copied().unwrap_or_default();
            while marked != 0 {
                let number = chunk * CHUNK + marked.trailing_zeros() as usize;
                marked &= marked - 1;
                let _ = self.close(number as i32);
            }
        }
    }

    /// The process ends: closes everything.
    pub fn close_all(&self) {
        self.close_range(0, u32::MAX, CloseRange::Close);
    }

    /// A copy with the same files (fork). `ENOMEM`.
    pub fn fork(&self) -> Result<Arc<DescriptorTable>> {
        self.fork_up_to(u32::MAX)
    }

    /// A copy of the descriptors below `limit` (`CLOSE_RANGE_UNSHARE`). `ENOMEM`.
    pub fn fork_up_to(&self, limit: u32) -> Result<Arc<DescriptorTable>> {
        let copy = DescriptorTable::new();
        let mut from = 0;
        while let Some((number, file)) = self.next_open(from).filter(|(number, _)| (*number as u32) < limit) {
            from = number + 1;
            let close_on_exec = self.bitmaps.lock().close_on_exec(number as usize);
            copy.grow(number as usize)?;
            let mut bitmaps = copy.bitmaps.lock();
            bitmaps.take(number as usize, close_on_exec);
            drop(copy.swap(number as usize, Some(file)));
        }
        Ok(copy)
    }

    /// The first open descriptor from `from` on (`/proc/PID/fd`).
    pub fn next_open(&self, from: i32) -> Option<(i32, Arc<File>)> {
        let mut from = usize::try_from(from).ok()?;
        loop {
            let number = self.next_taken(&(from..=usize::MAX))?;
            if let Ok(file) = self.get(number as i32) {
                return Some((number as i32, file));
            }
            from = number + 1;
        }
    }

    /// How many descriptors are open or reserved.
    pub fn count(&self) -> usize {
        self.bitmaps.lock().count
    }

    /// How many numbers there is room for (`FDSize` in `/proc/PID/status`).
    pub fn capacity(&self) -> usize {
        self.bitmaps.lock().taken.len() * CHUNK
    }
}

impl Drop for DescriptorTable {
    fn drop(&mut self) {
        self.close_all();
    }
}
