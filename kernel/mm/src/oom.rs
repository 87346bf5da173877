//! The out-of-memory killer: ends the program whose end helps most.
//!
//! Badness is what a program's end would free (resident pages and page tables), shifted by its `oom_score_adj` in
//! thousandths of all memory. Programs already dying are waited for rather than killing another. The process table is
//! above this crate: it registers itself as [`OomVictims`].
//!
//! Key types: [`OomVictims`], [`OomCandidate`]. Called from the frame allocator's slow path ([`crate::reclaim`]).

use crate::space::{AddressSpace, Usage};
use alloc::sync::Arc;
use machine::memory;
use machine::sync::{Mutex, Once, WaitKind, WaitQueue};
use machine::time::now_ns;
use machine::{PAGE_SIZE, preempt};

/// How long to wait for a victim's memory before another try.
const PATIENCE_NS: u64 = 50_000_000;
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
    /// Whether the caller itself is dying: then it should fail its allocation and get on with it.
    fn current_is_dying(&self) -> bool;
}

static VICTIMS: Once<&'static dyn OomVictims> = Once::new();
/// One killing at a time.
static KILLING: Mutex<()> = Mutex::new(());
/// Woken when an address space has been taken down.
static MEMORY_FREED: WaitQueue = WaitQueue::new();

/// Registers the process table. A second call is ignored and gives `false`.
pub fn register(victims: &'static dyn OomVictims) -> bool {
    VICTIMS.set(victims).is_ok()
}

/// The badness of a program: what it takes, in pages, shifted by its adjustment; `None` if it is exempt.
pub fn badness(usage: &Usage, score_adjust: i32, total_pages: usize) -> Option<i64> {
    if score_adjust <= SCORE_ADJUST_MINIMUM {
        return None;
    }
    let taken = (usage.rss() + usage.table_bytes / PAGE_SIZE) as i64;
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
    MEMORY_FREED.wake_all();
}

/// Kills a program if none is dying yet, waits a little for memory, and returns how many pages more are free than
/// needed before it is worth trying again; 0 if the allocation should fail.
pub(crate) fn kill_and_wait(wanted: usize) -> usize {
    let Some(victims) = VICTIMS.get() else { return 0 };
    if !preempt::may_sleep() || victims.current_is_dying() {
        return 0;
    }
    // Whoever finds it taken need only wait.
    if let Some(_one) = KILLING.try_lock()
        && !choose_and_kill(*victims)
    {
        return 0;
    }
    if victims.current_is_dying() {
        return 0;
    }
    let enough = || (memory::stats().free_pages > wanted).then_some(wanted.max(1));
    let deadline = now_ns().saturating_add(PATIENCE_NS);
    match MEMORY_FREED.wait_until(WaitKind::Killable, Some(deadline), enough) {
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
    if someone_is_dying {
        return true;
    }
    let Some((badness, victim)) = worst else { return false };
    let usage = victim.address_space.usage();
    let report = OomReport { badness, usage, free_pages: stats.free_pages, total_pages: stats.total_pages };
    victims.kill(victim.id, &report);
    true
}
