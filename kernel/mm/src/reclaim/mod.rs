//! Getting memory back: what an allocation does that finds none, and what is done before it comes to that.
//!
//! | file | what |
//! |---|---|
//! | here | the way of an allocation that finds no memory; [`Shrinker`]s |
//! | `generations` | pages of files by age |
//! | `background` | `kswapd` |
//!
//! An allocation drops clean pages of files itself, and never enters a file system: it may come from inside one, with whatever sleeping locks. What is dirty
//! is the flushers' work, names and inodes are `kswapd`'s. It waits for them, as long as they get on; if nobody does, the OOM killer ([`crate::oom`])
//! ends a program. Who is inside a file system says so ([`no_file_system`]): it does not wait for what may wait for it, and gets the last reserve in the end. See ADR 113.
//!
//! Locks: `RECLAIMING` (mutex): one allocation reclaims at a time. Only spin locks are taken inside, and mutexes that can be had without waiting.

mod background;
pub(crate) mod generations;

use crate::stats;
use crate::write_back;
use alloc::sync::Weak;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use machine::memory::heap;
use machine::sync::{Mutex, SpinLock};
use machine::thread::AllocationScope;

#[cfg(test)]
pub(crate) use background::free_pages;
pub(crate) use background::start;

/// One thread reclaims; others that find no memory wait for what it finds, instead of all looking at the same pages.
static RECLAIMING: Mutex<()> = Mutex::new(());
static RECLAIMED_PAGES: AtomicU64 = AtomicU64::new(0);
static SHRINKERS: SpinLock<Vec<Weak<dyn Shrinker>>> = SpinLock::new(Vec::new());
/// `vm.swappiness`.
static SWAPPINESS: AtomicU32 = AtomicU32::new(60);
/// At which only pages of programs go, as long as there are any.
const MOST_SWAPPY: u32 = 200;
/// How eagerly names and inodes go (`vm.vfs_cache_pressure`), percent; 0: not at all.
static CACHE_PRESSURE: AtomicU64 = AtomicU64::new(100);

/// Who lets go of cached objects that are not pages: names, inodes, blocks of metadata.
pub trait Shrinker: Send + Sync {
    /// Lets go of up to about `wanted` objects that nobody uses, the longest unused first, and says of how many. Their memory may come back later (after
    /// an RCU grace period). In `kswapd`'s context: may sleep and enter file systems.
    fn shrink(&self, wanted: usize) -> usize;
}

/// Registers a shrinker for as long as it lives.
pub fn add_shrinker(shrinker: Weak<dyn Shrinker>) {
    let mut all = SHRINKERS.lock();
    all.retain(|known| known.strong_count() > 0);
    all.push(shrinker);
}

/// Has each shrinker let go of about `wanted` objects, more or fewer as `vm.vfs_cache_pressure` says; returns how many went.
pub(crate) fn shrink_objects(wanted: usize) -> usize {
    let wanted = (wanted as u64).saturating_mul(cache_pressure()) / 100;
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    if wanted == 0 {
        return 0;
    }
    ask_shrinkers(wanted)
}

/// Has everyone let go of all objects that nobody uses, as `vm.drop_caches` asks; returns how many went. The first time takes second chances away. May
/// sleep.
pub fn drop_objects() -> usize {
    ask_shrinkers(usize::MAX)
}

fn ask_shrinkers(wanted: usize) -> usize {
    let all = SHRINKERS.lock().clone();
    all.iter().filter_map(Weak::upgrade).map(|shrinker| shrinker.shrink(wanted)).sum()
}

/// `vm.vfs_cache_pressure`.
pub fn cache_pressure() -> u64 {
    CACHE_PRESSURE.load(Ordering::Relaxed)
}

/// Sets it. Errors: none.
pub fn set_cache_pressure(percent: u64) -> abi::errno::Result<()> {
    CACHE_PRESSURE.store(percent, Ordering::Relaxed);
    Ok(())
}

/// `vm.swappiness`: how eagerly pages of programs leave memory, beside those of files; 0 to 200.
pub fn swappiness() -> u32 {
    SWAPPINESS.load(Ordering::Relaxed)
}

/// Sets it. Errors: `EINVAL` above 200.
pub fn set_swappiness(value: u32) -> abi::errno::Result<()> {
    if value > MOST_SWAPPY {
        return Err(abi::errno::Errno::EINVAL);
    }
    SWAPPINESS.store(value, Ordering::Relaxed);
    Ok(())
}

/// How many of `pages` that are to be freed should be programs'.
fn share_of_programs(pages: usize) -> usize {
    if !crate::swap::is_in_use() {
        return 0;
    }
    pages * swappiness() as usize / MOST_SWAPPY as usize
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
        let listed = generations::listed();
        generations::shrink(usize::MAX, listed);
    }
}

/// Pages dropped so far (`pgsteal` in `/proc/vmstat`).
pub fn reclaimed_pages() -> u64 {
    RECLAIMED_PAGES.load(Ordering::Relaxed)
}

pub(crate) fn count_reclaimed(pages: usize) {
    RECLAIMED_PAGES.fetch_add(pages as u64, Ordering::Relaxed);
}

/// The hook of the frame allocator: tries to free `wanted` pages and returns how many it freed; 0 makes the allocation
/// fail. Thread context, may sleep.
pub fn reclaim(wanted: usize) -> usize {
    let _stall = sched::pressure::memory_stall();
    background::wake();
    let Some(_only) = RECLAIMING.try_lock() else { return crate::oom::wait_for_memory(wanted) };
    // A block may be looked at once for each generation.
    let mut freed = generations::shrink(wanted, generations::listed().saturating_mul(3) + 1);
    if freed < wanted {
        freed += crate::swap::drop_clean(wanted - freed);
    }
    if freed < wanted {
        freed += heap::shrink();
    }
    if freed > 0 {
        count_reclaimed(freed);
        return freed;
    }
    if flushers_get_on() {
        return 1;
    }
    if machine::thread::is_in_file_system() {
        return 0;
    }
    if crate::swap::is_in_use() && crate::oom::may_wait() && background::ask_for_pages() {
        return 1;
    }
    if background::ask_for_objects() > 0 {
        return crate::oom::wait_a_moment(wanted);
    }
    crate::oom::kill_and_wait(wanted)
}

/// Makes the flushers write whatever is dirty.
pub(crate) fn hurry_flushers() {
    if stats::DIRTY_PAGES.get() > 0 {
        write_back::devices().iter().for_each(|device| device.hurry());
    }
}

/// Whether pages become clean if one waits: waits until some have, and says whether that is so.
fn flushers_get_on() -> bool {
    if write_back::limits::dirty_pages() == 0 || !crate::oom::may_wait() {
        return false;
    }
    hurry_flushers();
    write_back::devices().iter().any(|device| device.wait_for_progress())
}
