//! Overcommit: how much memory programs may be promised (`vm.overcommit_memory`).
//!
//! Mode 0 refuses only single requests bigger than all memory, mode 1 refuses nothing, mode 2 keeps the sum of all
//! promises below a limit. The sum is kept in every mode (`Committed_AS`). What counts: private writable memory and
//! shared anonymous memory, except `MAP_NORESERVE` in modes 0 and 1.
//! Key functions: [`charge`], [`uncharge`]. Locks: none, atomics.

use abi::errno::{Errno, Result};
use core::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};
use machine::memory;

/// `vm.overcommit_memory`.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Mode {
    /// 0: refuse obvious nonsense.
    Guess,
    /// 1: refuse nothing.
    Always,
    /// 2: never promise more than there is.
    Never,
}

/// Requests below this are fine without a look at how much memory there is (4 MiB).
const SURELY_LESS_THAN_ALL: usize = 1024;

static MODE: AtomicU8 = AtomicU8::new(0);
static RATIO_PERCENT: AtomicU32 = AtomicU32::new(50);
/// `vm.overcommit_kbytes`, in its stead if it is not 0.
static LIMIT_KIB: AtomicU64 = AtomicU64::new(0);
static COMMITTED_PAGES: AtomicI64 = AtomicI64::new(0);

/// The mode in force.
pub fn mode() -> Mode {
    match MODE.load(Ordering::Relaxed) {
        1 => Mode::Always,
        2 => Mode::Never,
        _ => Mode::Guess,
    }
}

/// Sets the mode from its number. Errors: `EINVAL` if there is no such mode.
pub fn set_mode(number: u8) -> Result<()> {
    if number > 2 {
        return Err(Errno::EINVAL);
    }
    MODE.store(number, Ordering::Relaxed);
    Ok(())
}

/// `vm.overcommit_ratio`: in mode 2, how many percent of memory may be promised.
pub fn ratio_percent() -> u32 {
    RATIO_PERCENT.load(Ordering::Relaxed)
}

/// Sets `vm.overcommit_ratio`, which counts from now on.
pub fn set_ratio_percent(percent: u32) {
    LIMIT_KIB.store(0, Ordering::Relaxed);
    RATIO_PERCENT.store(percent, Ordering::Relaxed);
}

/// `vm.overcommit_kbytes`: in mode 2, how much may be promised besides swap space; 0: the ratio counts.
pub fn limit_kib() -> u64 {
    LIMIT_KIB.load(Ordering::Relaxed)
}

/// Sets `vm.overcommit_kbytes`, which counts from now on.
pub fn set_limit_kib(kib: u64) {
    RATIO_PERCENT.store(0, Ordering::Relaxed);
    LIMIT_KIB.store(kib, Ordering::Relaxed);
}

/// Pages promised now (`Committed_AS`).
pub fn committed_pages() -> u64 {
    u64::try_from(COMMITTED_PAGES.load(Ordering::Relaxed)).unwrap_or(0)
}

/// Pages that mode 2 lets programs have in sum (`CommitLimit`): a part of memory, and all of swap space.
pub fn limit_pages() -> u64 {
    let of_memory = match limit_kib() {
        0 => memory::stats().total_pages as u64 * u64::from(ratio_percent()) / 100,
        kib => kib / (machine::PAGE_SIZE as u64 / 1024),
    };
    of_memory + crate::swap::total_pages()
}

/// Promises `pages` more. Errors: `ENOMEM` if the mode says so.
pub fn charge(pages: usize) -> Result<()> {
    let now = COMMITTED_PAGES.fetch_add(pages as i64, Ordering::Relaxed) + pages as i64;
    let fits = match mode() {
        Mode::Always => true,
        Mode::Guess => {
            pages < SURELY_LESS_THAN_ALL
                || pages as u64 <= memory::stats().total_pages as u64 + crate::swap::total_pages()
        }
        Mode::Never => now <= limit_pages() as i64,
    };
    if fits {
        return Ok(());
    }
    uncharge(pages);
    Err(Errno::ENOMEM)
}

/// Promises `pages` more, whatever the mode: for what has been promised before (an undo).
pub fn charge_always(pages: usize) {
    COMMITTED_PAGES.fetch_add(pages as i64, Ordering::Relaxed);
}

/// Takes a promise back.
pub fn uncharge(pages: usize) {
    COMMITTED_PAGES.fetch_sub(pages as i64, Ordering::Relaxed);
}
