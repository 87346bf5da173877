//! The out-of-memory killer: ends the program whose end helps most.
//!
//! Badness is what a program's end would free (resident pages and page tables), shifted by its `oom_score_adj` in
//! thousandths of all memory. Programs already dying are waited for rather than killing another. The process table is
//! above this crate: it registers itself as [`OomVictims`].
//!
//! Key types: [`OomVictims`], [`OomCandidate`]. Called from the frame allocator's slow path ([`crate::reclaim`]).

use crate::space::{AddressSpace, Usage};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use machine::memory;
use machine::sync::{Once, WaitKind, WaitQueue};
use machine::time::now_ns;
use machine::{PAGE_SIZE, preempt};

/// How long to wait for a victim's memory before another try.
const PATIENCE_NS: u64 = 50_000_000;
/// How long others wait for memory at most before they look themselves.
const LONGEST_WAIT_NS: u64 = 1_000_000_000;
/// How many of them go on when an address space has been freed: it is small, usually.
const WOKEN_AT_ONCE: usize = 4;
/// How long a victim may take to die before another one is chosen: it may be waiting for a lock of whoever waits here for memory.
const VICTIM_TIME_NS: u64 = 2_000_000_000;
/// The value of `oom_score_adj` that exempts a program.
pub const SCORE_ADJUST_MINIMUM: i32 = -1000;

/// What a candidate is doing.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum OomState {
    /// It can be killed.
    Killable,
    /// It is dying already.
    Dying,
    /// It must not be (init, kernel threads).
    Unkillable,
}

/// A program that could be ended.
pub struct OomCandidate {
    /// The process, in the process table's own terms.
    pub id: u64,
    /// What it would free.
    pub address_space: Arc<AddressSpace>,
    /// `oom_score_adj`, -1000 to 1000.
    pub score_adjust: i32,
    /// What it is doing.
    pub state: OomState,
}

/// Why a program is being ended, for the kernel log.
#[derive(Copy, Clone, Debug)]
pub struct OomReport {
    /// The badness that got it chosen.
    pub badness: i64,
    /// What it had.
    pub usage: Usage,
    /// Pages free and in all.
    pub free_pages: usize,
    /// Pages that the kernel manages.
    pub total_pages: usize,
}

/// The process table, as the killer sees it.
pub trait OomVictims: Send + Sync {
    /// Calls `f` for every process that has an address space.
    fn for_each(&self, f: &mut dyn FnMut(OomCandidate));
    /// Kills process `id` (`SIGKILL`, and the right to use the last reserves), and logs why.
    fn kill(&self, id: u64, report: &OomReport);
    /// The caller's own process, if it has an address space.
    fn current(&self) -> Option<OomCandidate> {
        None
    }
    /// Whether the caller itself is dying: then it should fail its allocation and get on with it.
    fn current_is_dying(&self) -> bool;
}

/// `vm.oom_kill_allocating_task`: who finds no memory is ended rather than the worst, if it can be.
pub static KILLS_ALLOCATING_TASK: AtomicBool = AtomicBool::new(false);
/// `vm.panic_on_oom`: the machine panics instead; 0 to 2, where 2 is as 1 without limits on parts of memory.
static PANIC_ON_OOM: AtomicU8 = AtomicU8::new(0);

/// `vm.panic_on_oom`.
pub fn panic_on_oom() -> u8 {
    PANIC_ON_OOM.load(Ordering::Relaxed)
}

/// Sets it. Errors: `EINVAL` above 2.
pub fn set_panic_on_oom(value: u8) -> abi::errno::Result<()> {
    if value > 2 {
        return Err(abi::errno::Errno::EINVAL);
    }
    PANIC_ON_OOM.store(value, Ordering::Relaxed);
    Ok(())
}

static VICTIMS: Once<&'static dyn OomVictims> = Once::new();
/// When the last victim was chosen.
static LAST_KILL_NS: AtomicU64 = AtomicU64::new(0);
/// Woken when an address space has been taken down.
static MEMORY_FREED: WaitQueue = WaitQueue::new();

/// Registers the process table. A second call is ignored and gives `false`.
pub fn register(victims: &'static dyn OomVictims) -> bool {
    VICTIMS.set(victims).is_ok()
}

/// Calls `f` for the address space of every process.
pub(crate) fn for_each_space(f: &mut dyn FnMut(Arc<AddressSpace>)) {
    if let Some(victims) = VICTIMS.get() {
        victims.for_each(&mut |candidate| f(candidate.address_space));
    }
}

/// The badness of a program: what it takes, in pages, shifted by its adjustment; `None` if it is exempt.
pub fn badness(usage: &Usage, score_adjust: i32, total_pages: usize) -> Option<i64> {
    if score_adjust <= SCORE_ADJUST_MINIMUM {
        return None;
    }
    let taken = (usage.rss() + usage.swapped + usage.table_bytes / PAGE_SIZE) as i64;
    let shift = i64::from(score_adjust) * (total_pages as i64 / 1000);
    Some(taken + shift)
}

/// `/proc/PID/oom_score` as Linux scales it: two thirds of 0 (least bad) to 2000, so that 666 is a program that takes nothing and
/// asks for nothing.
pub fn score(usage: &Usage, score_adjust: i32) -> u64 {
    let total = memory::stats().total_pages;
    let scaled = |points: i64| (1000 + points * 1000 / total.max(1) as i64) * 2 / 3;
    badness(usage, score_adjust, total).map_or(0, |points| u64::try_from(scaled(points)).unwrap_or(0))
}

/// Tells waiting allocations that memory came back.
pub(crate) fn note_memory_freed() {
    MEMORY_FREED.wake_n(WOKEN_AT_ONCE);
}

/// Whether an allocation may wait for memory: not where sleeping is not allowed, and not in a program that is itself dying.
pub(crate) fn may_wait() -> bool {
    preempt::may_sleep() && VICTIMS.get().is_some_and(|victims| !victims.current_is_dying())
}

/// Kills a program if none is dying yet, and waits a little for its memory. Returns what [`wait_for_memory`] does. The
/// caller ([`crate::reclaim`]) sees to it that only one does so at a time.
pub(crate) fn kill_and_wait(wanted: usize) -> usize {
    let Some(victims) = VICTIMS.get() else { return 0 };
    if !may_wait() || !choose_and_kill(*victims) || !may_wait() {
        return 0;
    }
    let deadline = now_ns().saturating_add(PATIENCE_NS);
    outcome(MEMORY_FREED.wait_until(WaitKind::Killable, Some(deadline), || enough(wanted)))
}

/// Waits while another one frees memory. Returns 0 if the allocation should fail, else it is worth trying again.
pub(crate) fn wait_for_memory(wanted: usize) -> usize {
    if !may_wait() {
        return 0;
    }
    let deadline = now_ns().saturating_add(LONGEST_WAIT_NS);
    outcome(MEMORY_FREED.wait_until_exclusive(WaitKind::Killable, Some(deadline), || enough(wanted)))
}

/// Waits for what has been let go of and comes back after a grace period. Returns what [`wait_for_memory`] does.
pub(crate) fn wait_a_moment(wanted: usize) -> usize {
    if !may_wait() {
        return 0;
    }
    let deadline = now_ns().saturating_add(PATIENCE_NS);
    outcome(MEMORY_FREED.wait_until(WaitKind::Killable, Some(deadline), || enough(wanted)))
}

/// How many pages programs may have, if it is more than `wanted`.
fn enough(wanted: usize) -> Option<usize> {
    let stats = memory::stats();
    stats.free_pages.checked_sub(stats.reserve_pages).filter(|pages| *pages > wanted)
}

fn outcome(waited: core::result::Result<usize, machine::sync::WaitError>) -> usize {
    match waited {
        Ok(pages) => pages,
        // Not enough yet: let the allocation try, and come back here.
        Err(machine::sync::WaitError::TimedOut) => 1,
        Err(machine::sync::WaitError::Interrupted) => 0,
    }
}

/// Kills the worst candidate; returns whether one is dying now.
fn choose_and_kill(victims: &dyn OomVictims) -> bool {
    let stats = memory::stats();
    let mut worst: Option<(i64, OomCandidate)> = None;
    let mut someone_is_dying = false;
    victims.for_each(&mut |candidate| match candidate.state {
        OomState::Dying => someone_is_dying = true,
        OomState::Unkillable => {}
        OomState::Killable => {
            let usage = candidate.address_space.usage();
            let Some(points) = badness(&usage, candidate.score_adjust, stats.total_pages) else { return };
            if worst.as_ref().is_none_or(|(most, _)| points > *most) {
                worst = Some((points, candidate));
            }
        }
    });
    if someone_is_dying && now_ns().saturating_sub(LAST_KILL_NS.load(Ordering::Relaxed)) < VICTIM_TIME_NS {
        return true;
    }
    if panic_on_oom() != 0 {
        panic!("Out of memory: vm.panic_on_oom is set");
    }
    if KILLS_ALLOCATING_TASK.load(Ordering::Relaxed)
        && let Some(own) = victims.current().filter(|own| own.state == OomState::Killable)
    {
        worst = Some((0, own));
    }
    let Some((badness, victim)) = worst else { return someone_is_dying };
    LAST_KILL_NS.store(now_ns(), Ordering::Relaxed);
    let usage = victim.address_space.usage();
    let report = OomReport { badness, usage, free_pages: stats.free_pages, total_pages: stats.total_pages };
    victims.kill(victim.id, &report);
    true
}
