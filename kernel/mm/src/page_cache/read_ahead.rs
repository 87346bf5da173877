//! Reading ahead of a program that reads in order.
//!
//! Each open file has a window: the pages asked for last. A miss begins one, of 4 pages at least; who reads on in order has the next one
//! doubled, up to the device's `read_ahead_kb`. One page of each window is marked, where all that was asked for by name ends: whoever comes to it starts the next window,
//! so that the device works while the program reads what is there. A read at random brings in what it wants, and the window stays.
//! Programs say more with posix_fadvise(2).
//!
//! A mapping has no window: a miss brings in what lies around it, and its mark what lies behind that.
//!
//! Key types: [`ReadAhead`], [`Pattern`]. Locks: a window's spin lock is a leaf, held for arithmetic.

use super::fill::Haste;
use super::{CacheState, FRAME_READ_AHEAD, PageCache, pages_for};
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::{AtomicU8, Ordering};
use machine::PAGE_SIZE;
use machine::memory::Frame;
use machine::sync::SpinLock;

/// `POSIX_FADV_WILLNEED` and readahead(2) ask for at most so many pages in one run: 2 MiB.
const FORCED_RUN: u64 = 512;

/// How a program said it reads (`POSIX_FADV_*`).
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Pattern {
    /// It has not said anything.
    Normal = 0,
    /// In order: twice as far ahead.
    Sequential = 1,
    /// At random: not ahead at all.
    Random = 2,
}

/// What is read ahead of one open file; see the head of this file.
pub struct ReadAhead {
    window: SpinLock<Window>,
    pattern: AtomicU8,
}

/// The pages asked for last, and where the program was.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
struct Window {
    start: u64,
    size: u64,
    /// How many at its end nobody had asked for by name.
    ahead: u64,
    /// The page behind the last one read.
    next: u64,
}

/// What is to be read, and which page is to be marked.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
struct Plan {
    start: u64,
    size: u64,
    mark: Option<u64>,
}

impl Default for ReadAhead {
    fn default() -> Self {
        ReadAhead::new()
    }
}

impl ReadAhead {
    /// Of a file just opened.
    pub const fn new() -> ReadAhead {
        let window = Window { start: 0, size: 0, ahead: 0, next: 0 };
        ReadAhead { window: SpinLock::new(window), pattern: AtomicU8::new(Pattern::Normal as u8) }
    }

    /// How the program said it reads.
    pub fn pattern(&self) -> Pattern {
        match self.pattern.load(Ordering::Relaxed) {
            1 => Pattern::Sequential,
            2 => Pattern::Random,
            _ => Pattern::Normal,
        }
    }

    /// Notes how the program says it reads.
    pub fn set_pattern(&self, pattern: Pattern) {
        self.pattern.store(pattern as u8, Ordering::Relaxed);
    }

    /// The longest window, in pages.
    fn longest(&self, state: &CacheState) -> u64 {
        let most = state.device.read_ahead_pages() as u64;
        if self.pattern() == Pattern::Sequential { most * 2 } else { most }
    }

    /// Notes that a program has read up to `next`, exclusively.
    fn note_read(&self, next: u64) {
        self.window.lock().next = next;
    }
}

impl Window {
    /// A new window of a program that wants `wanted` pages at `start`.
    fn begin(start: u64, wanted: u64, longest: u64) -> Window {
        let size = first_size(wanted, longest);
        let ahead = if size > wanted { size - wanted } else { size };
        Window { start, size, ahead, next: start }
    }

    /// Whether a program that reads on in order comes to `page` next: where the marked page or the end is.
    fn expects(&self, page: u64) -> bool {
        self.size > 0 && (page == self.start + self.size - self.ahead || page == self.start + self.size)
    }

    /// The window behind this one.
    fn advanced(&self, longest: u64) -> Window {
        let size = next_size(self.size, longest);
        Window { start: self.start + self.size, size, ahead: size, next: self.next }
    }

    fn plan(&self) -> Plan {
        Plan { start: self.start, size: self.size, mark: Some(self.start + self.size - self.ahead) }
    }
}

/// The first window for a read of `wanted` pages.
fn first_size(wanted: u64, longest: u64) -> u64 {
    let size = wanted.min(longest).next_power_of_two();
    let size = if size <= longest / 32 {
        size * 4
    } else if size <= longest / 4 {
        size * 2
    } else {
        longest
    };
    size.max(4).min(longest)
}

/// The window after one of `size` pages.
fn next_size(size: u64, longest: u64) -> u64 {
    if size < longest / 16 { (size * 4).min(longest) } else { (size * 2).min(longest) }
}

/// What to read when page `at`, the first of `wanted`, is not there. `history` counts the cached pages just before it.
fn plan_miss(window: &mut Window, at: u64, wanted: u64, longest: u64, history: impl FnOnce() -> u64) -> Plan {
    let begins = at == 0 || wanted > longest || (window.next..=window.next + 1).contains(&at);
    if window.expects(at) {
        *window = window.advanced(longest);
        // A window that was there already has been thrown away: it is wanted from here.
        if window.start != at {
            *window = Window::begin(at, wanted, longest);
        }
        return window.plan();
    }
    if begins {
        *window = Window::begin(at, wanted, longest);
        return window.plan();
    }
    let history = history();
    if history > wanted {
        // Another one of several programs that read through the same file, each in order.
        let size = (history.min(longest) + wanted).min(longest);
        *window = Window { start: at, size, ahead: 1, next: at };
        return window.plan();
    }
    Plan { start: at, size: wanted, mark: None }
}

/// What to read when a program has come to the marked page `at`; `hole` is the first page behind it that is not there.
fn plan_mark(window: &mut Window, at: u64, longest: u64, hole: u64) -> Option<Plan> {
    if window.expects(at) {
        *window = window.advanced(longest);
        return Some(window.plan());
    }
    // The mark of another program's window: go on from where that ends.
    if hole.saturating_sub(at) > longest {
        return None;
    }
    let size = next_size(hole - at, longest);
    *window = Window { start: hole, size, ahead: size, next: at };
    Some(window.plan())
}

impl PageCache {
    /// A read of the pages `wanted` finds the first one missing: starts reading it, and what may follow.
    pub(super) fn read_ahead_of_miss(&self, ahead: Option<&ReadAhead>, wanted: Range<u64>) -> Result<()> {
        let Some(state) = &self.state else { return Ok(()) };
        let at = wanted.start;
        let longest = ahead.map_or(state.device.read_ahead_pages() as u64, |ahead| ahead.longest(state));
        let count = (wanted.end - at).max(1);
        let plan = match ahead {
            Some(ahead) if ahead.pattern() != Pattern::Random && longest > 0 => {
                let history = || self.pages_before(at, longest);
                plan_miss(&mut ahead.window.lock(), at, count, longest, history)
            }
            _ => Plan { start: at, size: count.min(longest.max(32)), mark: None },
        };
        self.carry_out(state, plan, Haste::Awaited)
    }

    /// A program has come to a marked page: starts the next window.
    pub(super) fn read_ahead_of_mark(&self, ahead: &ReadAhead, at: u64, frame: &Frame) {
        let Some(state) = &self.state else { return };
        frame.state().clear_flags(FRAME_READ_AHEAD);
        let longest = ahead.longest(state);
        if ahead.pattern() == Pattern::Random || longest == 0 {
            return;
        }
        let hole = self.pages.read().next_hole(at + 1).unwrap_or(u64::MAX);
        let plan = plan_mark(&mut ahead.window.lock(), at, longest, hole);
        if let Some(plan) = plan {
            let _ = self.carry_out(state, plan, Haste::Ahead);
        }
    }

    /// Notes how far a program has read.
    pub(super) fn note_read(&self, ahead: Option<&ReadAhead>, next: u64) {
        if let Some(ahead) = ahead.filter(|_| self.state.is_some()) {
            ahead.note_read(next);
        }
    }

    /// A mapping wants page `index`: starts reading it and what lies around it within `limits`.
    pub(crate) fn read_around(&self, index: u64, limits: Range<u64>) {
        let Some(state) = &self.state else { return };
        let size = state.device.read_ahead_pages() as u64;
        let start = index.saturating_sub(size / 2).max(limits.start);
        let end = (start + size).min(limits.end);
        if end > start {
            let plan = Plan { start, size: end - start, mark: Some(end - (end - start) / 4) };
            let _ = self.carry_out(state, plan, Haste::Ahead);
        }
    }

    /// A mapping has come to the marked page `index`: starts reading what lies behind what is there.
    pub(crate) fn read_behind(&self, index: u64, limits: Range<u64>) {
        let Some(state) = &self.state else { return };
        if let Some(frame) = self.lookup(index) {
            frame.state().clear_flags(FRAME_READ_AHEAD);
        }
        let longest = state.device.read_ahead_pages() as u64;
        let hole = self.pages.read().next_hole(index + 1).unwrap_or(u64::MAX);
        let end = hole.saturating_add(longest).min(limits.end);
        if hole.saturating_sub(index) <= longest && end > hole {
            let plan = Plan { start: hole, size: end - hole, mark: Some(hole) };
            let _ = self.carry_out(state, plan, Haste::Ahead);
        }
    }

    /// Starts reading all that is missing of `range` of bytes, as far as there is memory: `POSIX_FADV_WILLNEED`, readahead(2), `MADV_WILLNEED`.
    pub fn will_need(&self, range: Range<u64>) {
        let Some(state) = &self.state else { return };
        let mut from = range.start / PAGE_SIZE as u64;
        let end = pages_for(range.end.min(self.size()));
        while from < end {
            let size = (end - from).min(FORCED_RUN);
            if self.carry_out(state, Plan { start: from, size, mark: None }, Haste::Ahead).is_err()
                || sched::signal_pending()
            {
                return;
            }
            from += size;
        }
    }

    /// `POSIX_FADV_DONTNEED`: starts writing what is dirty in `range` of bytes and drops what is clean; only whole pages, as on Linux.
    pub fn will_not_need(&self, range: Range<u64>) {
        if self.state.is_none() {
            return;
        }
        let _ = self.start_write_back(range.clone(), super::WriteBackMode::Background);
        // A page that is only touched stays, unless the file ends in it.
        let end = if range.end >= self.size() { pages_for(range.end) } else { range.end / PAGE_SIZE as u64 };
        self.invalidate(pages_for(range.start)..end);
    }

    /// How many pages just before `at` are there, up to `most`.
    fn pages_before(&self, at: u64, most: u64) -> u64 {
        let pages = self.pages.read();
        let first = at.saturating_sub(most);
        let mut count = 0;
        for index in (first..at).rev() {
            if pages.get(index).is_none() {
                break;
            }
            count += 1;
        }
        count
    }

    fn carry_out(&self, state: &Arc<CacheState>, plan: Plan, haste: Haste) -> Result<()> {
        let size = usize::try_from(plan.size).map_err(|_| Errno::ENOMEM)?;
        self.start_fill(state, plan.start, size, plan.mark, haste)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: u64 = 32;

    /// Reads pages one by one through a file, without a cache: what windows are asked for.
    fn windows_of(pages: Range<u64>) -> alloc::vec::Vec<(u64, u64)> {
        let mut window = Window::default();
        let (mut there, mut mark) = (0, None);
        let mut asked = alloc::vec::Vec::new();
        for page in pages {
            let plan = if page >= there {
                Some(plan_miss(&mut window, page, 1, LONGEST, || 0))
            } else if mark == Some(page) {
                plan_mark(&mut window, page, LONGEST, there)
            } else {
                None
            };
            if let Some(plan) = plan {
                asked.push((plan.start, plan.size));
                there = plan.start + plan.size;
                mark = plan.mark;
            }
            window.next = page + 1;
        }
        asked
    }

    #[test]
    fn windows_double_up_to_the_limit_without_a_second_miss() {
        assert_eq!(windows_of(0..120), [(0, 4), (4, 8), (12, 16), (28, 32), (60, 32), (92, 32), (124, 32)]);
    }

    #[test]
    fn reads_at_random_bring_in_what_they_want() {
        let mut window = Window::default();
        for page in [700, 20, 900, 100_000] {
            let plan = plan_miss(&mut window, page, 2, LONGEST, || 0);
            assert_eq!(plan, Plan { start: page, size: 2, mark: None });
            window.next = page + 2;
        }
    }

    #[test]
    fn a_reader_that_jumps_and_goes_on_in_order_gets_a_window() {
        let mut window = Window::default();
        assert_eq!(plan_miss(&mut window, 50, 1, LONGEST, || 0).size, 1);
        window.next = 51;
        assert_eq!(plan_miss(&mut window, 51, 1, LONGEST, || 1), Plan { start: 51, size: 4, mark: Some(52) });
    }

    #[test]
    fn two_readers_of_one_description_are_told_by_what_is_cached() {
        let mut window = Window::default();
        let plan = plan_miss(&mut window, 500, 1, LONGEST, || 9);
        assert_eq!(plan, Plan { start: 500, size: 10, mark: Some(509) });
    }

    #[test]
    fn large_reads_begin_with_the_longest_window() {
        let mut window = Window::default();
        assert_eq!(plan_miss(&mut window, 0, 32, LONGEST, || 0).size, 32);
        assert_eq!(plan_miss(&mut Window::default(), 0, 256, LONGEST, || 0).size, 32);
    }
}
