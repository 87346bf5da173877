//! Who makes pages dirty faster than a device takes them waits for it.
//!
//! Above the middle of the two limits a writer is let go on only as fast as its own device finishes pages: each draws a ticket, as many pages
//! further than the last ticket as it made dirty itself, and waits until the device has written so many. So writers of one device share its speed by
//! what they write, a slow device holds up nobody who writes to a fast one, and a device's share of the limit is what it has of the dirty pages when they are too many.
//! See ADR 111. Locks: none; `promised` is an atomic.

use super::BackingDevice;
use super::limits::{Thresholds, dirty_pages};
use core::sync::atomic::Ordering;
use machine::sync::WaitKind;
use machine::time::now_ns;

/// The limits are looked at once for so many pages.
const LOOK_PAGES: usize = 32;
/// A writer that waits looks at the limits at least as often as this, ns.
const LONGEST_PAUSE_NS: u64 = 200_000_000;
/// And waits no longer than this below the upper limit: a device that does nothing must not stop it there.
const PATIENCE_NS: u64 = 1_000_000_000;

impl BackingDevice {
    /// The caller has made `pages` dirty on this device: waits if there are too many. Thread context, no lock that the pager's
    /// `write_pages` might want.
    pub(crate) fn balance(&self, pages: usize) {
        // Looking at the limits costs more than writing a page: one looks for many.
        if self.unbalanced.fetch_add(pages, Ordering::Relaxed) + pages < LOOK_PAGES {
            return;
        }
        let pages = self.unbalanced.swap(0, Ordering::Relaxed);
        let thresholds = Thresholds::now();
        let dirty = dirty_pages();
        if dirty > thresholds.background {
            self.wake_flusher();
        }
        if dirty <= thresholds.free_run() || machine::thread::is_freeing_memory() {
            return;
        }
        self.wait_for_turn(pages as u64);
    }

    /// Memory is wanted: waits a while for pages that are dirty or being written; returns whether some became clean.
    pub(crate) fn wait_for_progress(&self) -> bool {
        let before = self.cleaned.load(Ordering::Acquire);
        let pause = now_ns().saturating_add(PATIENCE_NS);
        self.dirty_pages() > 0
            && self
                .progress
                .wait_until(WaitKind::Killable, Some(pause), || {
                    (self.cleaned.load(Ordering::Acquire) != before).then_some(())
                })
                .is_ok()
    }

    fn wait_for_turn(&self, pages: u64) {
        let ticket = self.draw_ticket(pages);
        let begin = now_ns();
        loop {
            let thresholds = Thresholds::now();
            let dirty = dirty_pages();
            let served = self.cleaned.load(Ordering::Acquire) >= ticket;
            let mine = self.dirty_pages() as u64;
            // A device that has little of what is dirty is not the cause, and may go a little further.
            let little = mine <= thresholds.foreground / 16;
            let limit = if little { thresholds.foreground * 5 / 4 } else { thresholds.foreground };
            let impatient = now_ns().saturating_sub(begin) >= PATIENCE_NS;
            let may_go = dirty < limit && (served || little || impatient);
            if dirty <= thresholds.free_run() || mine == 0 || may_go {
                return;
            }
            self.wake_flusher();
            let pause = now_ns().saturating_add(LONGEST_PAUSE_NS);
            let seen = self.cleaned.load(Ordering::Acquire);
            let waited = self.progress.wait_until(WaitKind::Killable, Some(pause), || {
                let now = self.cleaned.load(Ordering::Acquire);
                (now >= ticket || now > seen + 64).then_some(())
            });
            if matches!(waited, Err(machine::sync::WaitError::Interrupted)) {
                return;
            }
        }
    }

    /// A place in the order of pages to come.
    fn draw_ticket(&self, pages: u64) -> u64 {
        let cleaned = self.cleaned.load(Ordering::Acquire);
        let next = |promised: u64| Some(promised.max(cleaned) + pages);
        let before = self.promised.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        before.unwrap_or(cleaned).max(cleaned) + pages
    }
}
