//! `kswapd`: the thread that frees memory before anybody has to wait for it.
//!
//! It is woken when fewer pages are free than the low mark, a little above the reserve, and works until the high mark is reached. It alone calls the
//! [shrinkers](super::Shrinker), because they may enter file systems; an allocation that finds nothing else waits for a round of it. Locks: see [`super`].

use super::{generations, shrink_objects};
use crate::swap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use machine::memory;
use machine::sync::{Once, WaitKind, WaitQueue};
use machine::thread::AllocationScope;
use machine::time::now_ns;
use sched::{SpawnOptions, Thread};

/// Pages freed at a time.
const BATCH: usize = 128;
/// Objects that each shrinker is asked for at a time, at a `vm.vfs_cache_pressure` of 100.
const OBJECTS: usize = 4096;
/// How long it rests when nothing could be freed, whoever wakes it, ns.
const PAUSE_NS: u64 = 100_000_000;
/// How long an allocation waits for a round, ns.
const ROUND_TIME_NS: u64 = 1_000_000_000;

static THREAD: Once<Arc<Thread>> = Once::new();
/// Somebody waits for a round with shrinkers.
static ASKED: AtomicBool = AtomicBool::new(false);
/// Rounds with shrinkers so far, and how many objects the last one let go.
static ROUNDS: AtomicUsize = AtomicUsize::new(0);
static LET_GO: AtomicUsize = AtomicUsize::new(0);
/// Somebody waits for pages.
static PAGES_ASKED: AtomicBool = AtomicBool::new(false);
/// Tries at freeing pages so far, and how many pages the last one freed.
static TRIES: AtomicUsize = AtomicUsize::new(0);
static FREED: AtomicUsize = AtomicUsize::new(0);
static RESTS_UNTIL_NS: AtomicU64 = AtomicU64::new(0);
static ROUND_ENDED: WaitQueue = WaitQueue::new();

/// Starts the thread, once.
pub(crate) fn start() {
    // Without it allocations do all the work themselves.
    if let Ok(thread) = sched::spawn("kswapd0", SpawnOptions::default(), run) {
        let _ = THREAD.set(thread);
        memory::set_low_memory_hook(wake);
    }
}

/// Makes it look. Any context but with a run queue locked.
pub(super) fn wake() {
    if let Some(thread) = THREAD.get()
        && now_ns() >= RESTS_UNTIL_NS.load(Ordering::Relaxed)
    {
        thread.wake();
    }
}

/// Has the shrinkers called and waits for it. Returns how many objects they let go; the memory may come later.
pub(super) fn ask_for_objects() -> usize {
    let Some(thread) = THREAD.get() else { return shrink_objects(OBJECTS) };
    let round = ROUNDS.load(Ordering::Acquire);
    ASKED.store(true, Ordering::Release);
    thread.wake();
    let deadline = now_ns().saturating_add(ROUND_TIME_NS);
    let ended = || (ROUNDS.load(Ordering::Acquire) != round).then(|| LET_GO.load(Ordering::Relaxed));
    // No answer: it is at work, so it is worth trying again.
    ROUND_ENDED.wait_until(WaitKind::Killable, Some(deadline), ended).unwrap_or(1)
}

/// Has it free pages, those of programs too, and waits for that. Returns whether it gets on.
pub(super) fn ask_for_pages() -> bool {
    let Some(thread) = THREAD.get() else { return free_pages() > 0 };
    let begun = TRIES.load(Ordering::Acquire);
    PAGES_ASKED.store(true, Ordering::Release);
    thread.wake();
    let deadline = now_ns().saturating_add(ROUND_TIME_NS);
    let ended = || {
        let tries = TRIES.load(Ordering::Acquire).wrapping_sub(begun);
        let freed = FREED.load(Ordering::Relaxed) > 0;
        // The first that ends may have begun before.
        (tries >= 1 && freed || tries >= 2).then_some(freed)
    };
    // No answer: it is at work, so it is worth trying again.
    ROUND_ENDED.wait_until(WaitKind::Killable, Some(deadline), ended).unwrap_or(true)
}

/// Frees a batch of pages: of files and of programs, in the proportion that `vm.swappiness` says; if one sort has none, of the other.
pub(crate) fn free_pages() -> usize {
    let _stall = sched::pressure::memory_stall();
    let of_programs = super::share_of_programs(BATCH);
    let looks = generations::listed().min(1024) + 1;
    let looks_at_programs = generations::listed_anonymous().min(1024) * 4 + 8;
    let mut freed = 0;
    if of_programs < BATCH {
        freed += generations::shrink(BATCH - of_programs, looks);
    }
    if of_programs > 0 || freed == 0 {
        freed += swap::out::shrink(BATCH - freed, looks_at_programs);
    }
    if freed == 0 && of_programs == BATCH {
        freed += generations::shrink(BATCH, looks);
    }
    super::count_reclaimed(freed);
    FREED.store(freed, Ordering::Relaxed);
    TRIES.fetch_add(1, Ordering::Release);
    ROUND_ENDED.wake_all();
    freed
}

fn is_below_high_mark() -> bool {
    let stats = memory::stats();
    stats.free_pages < memory::high_mark()
}

fn run() {
    let _scope = AllocationScope::freeing();
    loop {
        if round() > 0 {
            continue;
        }
        RESTS_UNTIL_NS.store(now_ns().saturating_add(PAUSE_NS), Ordering::Relaxed);
        sched::park(None, WaitKind::Uninterruptible);
    }
}

/// One round; returns what was freed, 0 if there is nothing to do.
fn round() -> usize {
    if generations::wants_pruning() {
        generations::prune();
    }
    let mut progress = 0;
    if PAGES_ASKED.swap(false, Ordering::AcqRel) || is_below_high_mark() {
        progress = free_pages();
        if progress > 0 {
            crate::oom::note_memory_freed();
        } else {
            super::hurry_flushers();
        }
    }
    let asked = ASKED.swap(false, Ordering::AcqRel);
    if asked || progress == 0 && is_below_high_mark() {
        let let_go = shrink_objects(OBJECTS);
        LET_GO.store(let_go, Ordering::Relaxed);
        ROUNDS.fetch_add(1, Ordering::Release);
        ROUND_ENDED.wake_all();
        memory::heap::shrink();
    }
    progress
}
