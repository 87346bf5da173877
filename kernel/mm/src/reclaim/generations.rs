//! Pages by age: which of them go first when memory is short.
//!
//! What is listed are blocks of 64 neighbouring pages of a file, in [`GENERATIONS`] queues, and such blocks of address spaces' private pages and of files in memory in queues of their own
//! (what is done with those is in `crate::swap::out`). Pages that come in make their block join a middle one;
//! when the oldest queue has been worked off, all others move down by one. A block that is looked at loses its pages that nobody used since
//! the last time, in program or through a mapping (the accessed bits, by the reverse map); if some are left, it joins the youngest queue where one was
//! used, else the one after the oldest. So pages that were read once go before those that were used twice, and looking costs in proportion to what is found.
//!
//! A block is in one queue at most: its cache remembers which of its blocks are listed ([`crate::PageCache`], `listed_blocks`). A CPU collects new
//! blocks and hands them over [`BATCH`] at a time.
//!
//! Key types: [`Block`], [`MemoryBlock`]. Key functions: [`add`], [`shrink`], [`add_anonymous`], [`take_anonymous`]. Locks: a CPU's collection, then the queues (spin locks, leaves).

use crate::page_cache::{PageCache, Retention};
use crate::space::AddressSpace;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use arrayvec::ArrayVec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use machine::PAGE_SIZE;
use machine::cpu::PerCpu;
use machine::memory::{Frame, FrameFlags};
use machine::preempt;
use machine::sync::{Lazy, SpinLock};

/// Pages of one block.
pub(crate) const BLOCK_PAGES: u64 = 64;
/// Queues.
const GENERATIONS: usize = 4;
/// Where blocks of pages come to that were just read or written.
const NEWCOMERS: usize = 2;
/// Blocks that a CPU collects.
const BATCH: usize = 16;
/// Blocks that stand for nothing any more are looked for when there are twice as many as could be, and this many.
const SPARE: usize = 4096;

/// Some of 64 neighbouring pages.
pub(crate) struct Block {
    cache: Weak<PageCache>,
    number: u64,
}

/// Some of 64 neighbouring pages that can go to swap space.
#[derive(Clone)]
pub(crate) enum MemoryBlock {
    /// Private pages of an address space.
    Private(Weak<AddressSpace>, u64),
    /// Pages of a file in memory.
    File(Weak<PageCache>, u64),
}

/// The addresses of a block of private pages.
pub(crate) fn addresses_of(number: u64) -> Range<usize> {
    let bytes = BLOCK_PAGES as usize * PAGE_SIZE;
    let start = number as usize * bytes;
    start..start + bytes
}

/// Queues of blocks by age; 0 is the oldest.
struct Queues<B> {
    by_age: [VecDeque<B>; GENERATIONS],
}

impl<B> Queues<B> {
    const fn new() -> Queues<B> {
        Queues { by_age: [const { VecDeque::new() }; GENERATIONS] }
    }

    /// Puts a block into a queue; `None` if there is no memory for it.
    fn put(&mut self, block: B, generation: usize) -> Option<()> {
        let queue = self.by_age.get_mut(generation)?;
        queue.try_reserve(1).ok()?;
        queue.push_back(block);
        Some(())
    }

    /// The block to look at next; `None` if none is listed.
    fn take(&mut self) -> Option<B> {
        for _ in 0..GENERATIONS {
            if let Some(block) = self.by_age.first_mut().and_then(VecDeque::pop_front) {
                return Some(block);
            }
            // Everybody grows older.
            self.by_age.rotate_left(1);
        }
        None
    }
}

static QUEUES: SpinLock<Queues<Block>> = SpinLock::new(Queues::new());
static LISTED: AtomicUsize = AtomicUsize::new(0);
static ANONYMOUS: SpinLock<Queues<MemoryBlock>> = SpinLock::new(Queues::new());
static ANONYMOUS_LISTED: AtomicUsize = AtomicUsize::new(0);
static COLLECTED: Lazy<PerCpu<SpinLock<ArrayVec<Block, BATCH>>>> =
    Lazy::new(|| PerCpu::new_with(|_| SpinLock::new(ArrayVec::new())));

/// A block of `cache` has its first page: lists it. Returns false if there is no memory to do so. No spin lock of a cache is held.
pub(crate) fn add(cache: &Weak<PageCache>, number: u64, retention: Retention) -> bool {
    if retention == Retention::OnlyCopy {
        return put_anonymous(MemoryBlock::File(cache.clone(), number), NEWCOMERS);
    }
    let block = Block { cache: cache.clone(), number };
    let guard = preempt::disable();
    let mut collected = COLLECTED.get(&guard).lock();
    if collected.is_full() && !hand_over(&mut collected) {
        return false;
    }
    collected.push(block);
    LISTED.fetch_add(1, Ordering::Relaxed);
    true
}

fn hand_over(collected: &mut ArrayVec<Block, BATCH>) -> bool {
    let mut queues = QUEUES.lock();
    let Some(queue) = queues.by_age.get_mut(NEWCOMERS) else { return false };
    if queue.try_reserve(collected.len()).is_err() {
        return false;
    }
    queue.extend(collected.drain(..));
    true
}

/// Puts a block that was looked at into a younger queue; `None` if it does not fit anywhere.
fn put_back(block: Block, generation: usize) -> Option<()> {
    QUEUES.lock().put(block, generation)?;
    LISTED.fetch_add(1, Ordering::Relaxed);
    Some(())
}

/// The block to look at next; `None` if none is listed.
fn take() -> Option<Block> {
    let block = QUEUES.lock().take()?;
    LISTED.fetch_sub(1, Ordering::Relaxed);
    Some(block)
}

/// Lists a block of private pages. Returns false if there is no memory to do so.
pub(crate) fn add_anonymous(space: &Arc<AddressSpace>, number: u64) -> bool {
    put_anonymous(MemoryBlock::Private(Arc::downgrade(space), number), NEWCOMERS)
}

/// Lists a block again that was looked at: one where a page was used is young again.
pub(crate) fn put_back_anonymous(block: MemoryBlock, used: bool) -> bool {
    put_anonymous(block, if used { GENERATIONS - 1 } else { 1 })
}

fn put_anonymous(block: MemoryBlock, generation: usize) -> bool {
    let listed = ANONYMOUS.lock().put(block, generation).is_some();
    if listed {
        ANONYMOUS_LISTED.fetch_add(1, Ordering::Relaxed);
    }
    listed
}

/// The block of memory to look at next.
pub(crate) fn take_anonymous() -> Option<MemoryBlock> {
    let block = ANONYMOUS.lock().take()?;
    ANONYMOUS_LISTED.fetch_sub(1, Ordering::Relaxed);
    Some(block)
}

/// How many blocks of private pages are listed.
pub(crate) fn listed_anonymous() -> usize {
    ANONYMOUS_LISTED.load(Ordering::Relaxed)
}

/// What CPUs have collected comes into the queues, because all of it is wanted.
fn gather() {
    for (_, collected) in COLLECTED.iter() {
        hand_over(&mut collected.lock());
    }
}

/// How many blocks are listed.
pub(crate) fn listed() -> usize {
    LISTED.load(Ordering::Relaxed)
}

/// Whether so many blocks stand for pages that are gone that looking through them is worth while.
pub(crate) fn wants_pruning() -> bool {
    let too_many = |listed: usize, pages: u64| listed as u64 > pages * 2 + SPARE as u64;
    // Without swap space only files in memory list such blocks; with it, all of them are looked at in turn.
    let idle = !crate::swap::is_in_use() && too_many(listed_anonymous(), crate::stats::SHMEM_PAGES.get());
    idle || too_many(listed(), crate::stats::FILE_PAGES.get())
}

/// Forgets blocks of files in memory that stand for nothing.
fn prune_anonymous() {
    for _ in 0..listed_anonymous() {
        let Some(block) = take_anonymous() else { return };
        let stays = match &block {
            MemoryBlock::Private(space, _) => space.strong_count() > 0,
            MemoryBlock::File(cache, number) => match cache.upgrade() {
                None => false,
                Some(cache) => {
                    let stays = !cache.forget_empty_block(*number);
                    let_go(cache);
                    stays
                }
            },
        };
        if stays && !put_anonymous(block, 1) {
            return;
        }
    }
}

/// Drops up to `wanted` pages; looks at up to `looks` blocks. Returns how many went. May sleep; takes no lock it would have to
/// wait for a long time for.
pub(crate) fn shrink(wanted: usize, looks: usize) -> usize {
    gather();
    let mut freed = 0;
    for _ in 0..looks {
        if freed >= wanted {
            break;
        }
        let Some(block) = take() else { break };
        freed += look_at(block);
    }
    freed
}

/// Forgets blocks that stand for nothing; the others keep their pages.
pub(crate) fn prune() {
    if !crate::swap::is_in_use() {
        prune_anonymous();
    }
    gather();
    for _ in 0..listed() {
        let Some(block) = take() else { return };
        let Some(cache) = block.cache.upgrade() else { continue };
        if !cache.forget_empty_block(block.number) && put_back(block, 1).is_none() {
            return;
        }
        let_go(cache);
    }
}

/// Drops what can go of a block, and lists it again if something is left. Returns how many pages went.
fn look_at(block: Block) -> usize {
    let Some(cache) = block.cache.upgrade() else { return 0 };
    let mut used = false;
    let mut freed = 0;
    let mut pages = ArrayVec::<(u64, Frame), { BLOCK_PAGES as usize }>::new();
    cache.pages_of_block(block.number, &mut pages);
    for (index, frame) in pages {
        match try_drop(&cache, index, frame) {
            Outcome::Dropped => freed += 1,
            Outcome::Used => used = true,
            Outcome::Kept => {}
        }
    }
    if !cache.forget_empty_block(block.number) {
        let generation = if used { GENERATIONS - 1 } else { 1 };
        let number = block.number;
        if put_back(block, generation).is_none() {
            cache.forget_block(number);
        }
    }
    let_go(cache);
    freed
}

enum Outcome {
    Dropped,
    /// Somebody has used it since the last look.
    Used,
    /// It cannot go now: dirty, locked, in use.
    Kept,
}

/// Drops one page if it has not been used lately.
fn try_drop(cache: &PageCache, index: u64, frame: Frame) -> Outcome {
    let state = frame.state();
    if state.clear_flags(FrameFlags::REFERENCED).contains(FrameFlags::REFERENCED) {
        return Outcome::Used;
    }
    if cache.is_dirty(index) {
        // The flusher's work: an allocation enters no file system.
        cache.hurry();
        return Outcome::Kept;
    }
    // More than the cache's reference and this one: mapped, most likely.
    if frame.ref_count() > 2 && !cache.try_unmap_page(index, &frame) {
        return Outcome::Used;
    }
    if cache.drop_if_unused(index, frame) { Outcome::Dropped } else { Outcome::Kept }
}

/// Gives a reference back. If it is the last one, a worker drops what it was of: what that drops in turn may be a file system's, which is not
/// entered from an allocation.
pub(crate) fn let_go<T: Send + Sync + 'static>(last: Arc<T>) {
    if let Some(owned) = Arc::into_inner(last) {
        let _ = sched::work::queue(move || drop(owned));
    }
}
