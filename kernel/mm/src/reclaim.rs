//! Getting memory back: what an allocation does that finds none.
//!
//! First unused pages of files that can be read again, by a clock: a hand goes round the caches and their pages, gives
//! each page that was used since the last round a second chance, writes dirty ones back, and drops the others, unmapping
//! them first where need be. If that frees nothing, cached names go ([`register_shrinker`]); if there are none, the OOM killer ([`crate::oom`]) ends a program.
//!
//! Runs in the context of whoever allocates, with whatever sleeping locks it holds: takes spinlocks and, of mutexes,
//! only those it gets without waiting. Key functions: [`register`], [`reclaim`].

use crate::page_cache::PageCache;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use machine::memory::{Frame, FrameFlags, heap};
use machine::sync::{Mutex, Once, SpinLock};
use machine::thread::AllocationScope;

/// Where the hand is.
struct Clock {
    caches: Vec<Weak<PageCache>>,
    cache: usize,
    page: u64,
}

static CLOCK: SpinLock<Clock> = SpinLock::new(Clock { caches: Vec::new(), cache: 0, page: 0 });
/// One thread reclaims; others that find no memory wait for what it finds, instead of all going round the same caches.
static RECLAIMING: Mutex<()> = Mutex::new(());
static RECLAIMED_PAGES: AtomicU64 = AtomicU64::new(0);

/// What lets go of cached objects that are not pages (names, mostly), and says of how many; see [`register_shrinker`].
static SHRINKER: Once<fn() -> usize> = Once::new();

/// Registers what lets go of cached objects when there are no pages to drop. The memory may come back later (after an RCU grace
/// period). Called in thread context, with whatever sleeping locks an allocating thread holds. A second call is ignored.
pub fn register_shrinker(shrinker: fn() -> usize) {
    let _ = SHRINKER.set(shrinker);
}

/// While it lives, the calling thread is inside a file system: it holds what a file system needs to go on (a journal's handle, a lock that
/// writing back takes), so no file system is entered to free memory for it, and when none is left it gets the last reserve.
/// Scopes nest. See ADR 113.
pub fn no_file_system() -> AllocationScope {
    AllocationScope::no_file_system()
}

/// Drops every page that can be read again and is not in use, as `vm.drop_caches` asks. May sleep.
pub fn drop_pages() {
    let _only = RECLAIMING.lock();
    // The first time takes the second chances away.
    for _ in 0..2 {
        shrink_caches(usize::MAX);
    }
}

/// Pages dropped so far (`pgsteal` in `/proc/vmstat`).
pub fn reclaimed_pages() -> u64 {
    RECLAIMED_PAGES.load(Ordering::Relaxed)
}

/// Makes the pages of a cache reclaimable.
pub(crate) fn register(cache: &Arc<PageCache>) {
    let mut clock = CLOCK.lock();
    // Forget dead ones now and then, in proportion to the new ones.
    if clock.caches.len() == clock.caches.capacity() {
        clock.caches.retain(|cache| cache.strong_count() > 0);
    }
    clock.caches.push(Arc::downgrade(cache));
}

/// The hook of the frame allocator: tries to free `wanted` pages and returns how many it freed; 0 makes the allocation
/// fail. Thread context, may sleep.
pub fn reclaim(wanted: usize) -> usize {
    let Some(_only) = RECLAIMING.try_lock() else { return crate::oom::wait_for_memory(wanted) };
    let mut freed = shrink_caches(wanted);
    if freed < wanted {
        freed += heap::shrink();
    }
    if freed > 0 {
        RECLAIMED_PAGES.fetch_add(freed as u64, Ordering::Relaxed);
        return freed;
    }
    if SHRINKER.get().is_some_and(|shrink| shrink() > 0) {
        return crate::oom::wait_a_moment(wanted);
    }
    crate::oom::kill_and_wait(wanted)
}

/// Goes round at most twice (the first time gives second chances).
fn shrink_caches(wanted: usize) -> usize {
    let rounds = CLOCK.lock().caches.len().saturating_mul(2) + 1;
    let mut freed = 0;
    for _ in 0..rounds {
        if freed >= wanted {
            break;
        }
        let Some((cache, from)) = current() else { break };
        let (count, next) = shrink_cache(&cache, from, wanted - freed);
        freed += count;
        advance(next);
    }
    freed
}

/// The cache under the hand, and the page.
fn current() -> Option<(Arc<PageCache>, u64)> {
    let mut clock = CLOCK.lock();
    for _ in 0..=clock.caches.len() {
        let (index, page) = (clock.cache, clock.page);
        match clock.caches.get(index)?.upgrade() {
            Some(cache) => return Some((cache, page)),
            None => {
                clock.caches.swap_remove(index);
                clock.cache = if index < clock.caches.len() { index } else { 0 };
                clock.page = 0;
            }
        }
    }
    None
}

/// Moves the hand: to `page` of the same cache, or to the next cache.
fn advance(page: Option<u64>) {
    let mut clock = CLOCK.lock();
    match page {
        Some(page) => clock.page = page,
        None => {
            clock.page = 0;
            clock.cache = if clock.cache + 1 < clock.caches.len() { clock.cache + 1 } else { 0 };
        }
    }
}

/// Drops up to `wanted` pages of one cache; returns how many, and where to go on in it.
fn shrink_cache(cache: &PageCache, from: u64, wanted: usize) -> (usize, Option<u64>) {
    let mut freed = 0;
    let mut at = from;
    while let Some((index, frame)) = cache.next_page(at) {
        freed += usize::from(try_drop(cache, index, frame));
        let Some(next) = index.checked_add(1) else { return (freed, None) };
        at = next;
        if freed >= wanted {
            return (freed, Some(at));
        }
    }
    (freed, None)
}

/// Drops one page if it has not been used lately.
fn try_drop(cache: &PageCache, index: u64, frame: Frame) -> bool {
    let state = frame.state();
    if state.clear_flags(FrameFlags::REFERENCED).contains(FrameFlags::REFERENCED) {
        return false;
    }
    // More than the cache's reference and this one: mapped, most likely.
    if frame.ref_count() > 2 && !cache.try_unmap_page(index, &frame) {
        return false;
    }
    if cache.is_dirty(index) {
        cache.hurry();
        return false;
    }
    cache.drop_if_unused(index, frame)
}
