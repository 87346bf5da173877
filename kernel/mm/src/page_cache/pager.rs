//! What lies behind a page cache: the [`Pager`] that a file system implements, and the runs of pages that it is given.
//!
//! A transfer is begun by the cache and ended by whoever did it: [`Fill::complete`] and [`WriteBack::complete`] may be called from any
//! context, an interrupt handler included. So they touch nothing but atomics, wait queues and frames: a run holds no
//! reference to its cache, only to the cache's [`CacheState`]. (The list of dirty caches keeps a cache that is being written; one that is
//! only being read may go, and what arrives is thrown away.) A run may be [split](Fill::split_off) where the file lies in pieces, without allocating; a part that is dropped without a
//! word counts as failed with `EIO`, so that nobody waits for ever.
//!
//! Key types: [`Pager`], [`Fill`], [`WriteBack`], [`WriteBackMode`]. Locks: none.

use super::{CacheState, ErrorSequence, Retention};
use crate::stats;
use crate::write_back::BackingDevice;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use machine::memory::{Frame, FrameFlags};

/// Where the contents of a page cache come from and go to. The defaults suit a filesystem that lives in memory.
pub trait Pager: Send + Sync {
    /// Whether pages can be read again. Asked once.
    fn retention(&self) -> Retention {
        Retention::OnlyCopy
    }

    /// The device that pages come from and go to: whose flusher writes them, whose speed bounds those who make them dirty, whose
    /// `read_ahead_kb` counts. Asked once. `None`: they share one with all others that have none.
    fn device(&self) -> Option<Arc<BackingDevice>> {
        None
    }

    /// Where errors of write-back are kept for the file system as a whole (syncfs), besides the file's own. Asked once.
    fn file_system_errors(&self) -> Option<Arc<ErrorSequence>> {
        None
    }

    /// Starts filling a run of pages, each of which is [completed](Fill::complete) then, now or later, from any context. What lies behind
    /// the end of the file, or in a hole, is to be zeros. Thread context, may sleep (for metadata); must not touch other pages of the same cache.
    fn read_pages(&self, fill: Fill) {
        for frame in fill.frames() {
            frame.zero();
        }
        fill.complete(Ok(()));
    }

    /// Starts writing a run of neighbouring dirty pages, each of which is [completed](WriteBack::complete) then, or
    /// [postponed](WriteBack::postpone). Thread context, may sleep, but not for memory of its own cache
    /// ([`crate::reclaim::no_file_system`] holds). An error is remembered for `fsync`, and the pages count as clean.
    fn write_pages(&self, batch: WriteBack) {
        batch.complete(Ok(()));
    }

    /// Page `index`, clean or a hole till now, is about to become dirty by write(2) or a store through a mapping: the moment to reserve
    /// room. May sleep. Errors: `ENOSPC`, `EDQUOT`, `EIO`, `EROFS`: write(2) gives them, a store gets SIGBUS.
    fn reserve(&self, index: u64) -> Result<()> {
        let _ = index;
        Ok(())
    }

    /// Page `index` was dirty, and has gone (truncate, a hole) without having been written. Thread context, no spin locks held.
    fn unreserve(&self, index: u64) {
        let _ = index;
    }

    /// Whether a page's contents must not change while it is being written (checksums over data): who wants to write to it then waits.
    /// Asked once.
    fn needs_stable_pages(&self) -> bool {
        false
    }

    /// Asks for room for `pages` more pages (only for [`Retention::OnlyCopy`]). Errors: `ENOSPC`.
    fn charge(&self, pages: u64) -> Result<()> {
        let _ = pages;
        Ok(())
    }
    /// Gives room back.
    fn uncharge(&self, pages: u64) {
        let _ = pages;
    }
}

/// Neighbouring pages of one file that are transferred together.
struct Run {
    state: Arc<CacheState>,
    first: u64,
    frames: Vec<Frame>,
}

/// A part of a run, shared between those that were split off.
struct Part {
    run: Arc<Run>,
    range: Range<usize>,
}

impl Part {
    fn first(&self) -> u64 {
        self.run.first + self.range.start as u64
    }

    fn frames(&self) -> &[Frame] {
        self.run.frames.get(self.range.clone()).unwrap_or_default()
    }

    /// Everything from page `count` of the part on.
    fn split_off(&mut self, count: usize) -> Part {
        let middle = self.range.start.saturating_add(count).min(self.range.end);
        let rest = Part { run: self.run.clone(), range: middle..self.range.end };
        self.range.end = middle;
        rest
    }

    /// The part, and an empty one in its place.
    fn take(&mut self) -> Part {
        self.split_off(0)
    }
}

/// A run of pages to be filled; see the head of this file.
pub struct Fill {
    part: Part,
}

impl Fill {
    /// The frames are in the cache, `LOCKED` and not `UPTODATE`.
    pub(super) fn new(state: &Arc<CacheState>, first: u64, frames: Vec<Frame>) -> Result<Fill> {
        let range = 0..frames.len();
        let run = Run { state: state.clone(), first, frames };
        Ok(Fill { part: Part { run: machine::memory::try_arc(run)?, range } })
    }

    /// Forgets the pages from `count` on, which did not find their way into the cache.
    pub(super) fn keep_first(&mut self, count: usize) {
        self.part.range.end = self.part.range.end.min(self.part.range.start + count);
    }

    /// The number of the first page in its file.
    pub fn first(&self) -> u64 {
        self.part.first()
    }

    /// The frames, in the order of the file.
    pub fn frames(&self) -> &[Frame] {
        self.part.frames()
    }

    /// Leaves the first `count` pages here and gives the others. Allocates nothing.
    pub fn split_off(&mut self, count: usize) -> Fill {
        Fill { part: self.part.split_off(count) }
    }

    /// The pages have their contents, or never will have: readers get `EIO` then, mappings SIGBUS. Any context.
    pub fn complete(mut self, result: Result<()>) {
        finish_fill(self.part.take(), result);
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        finish_fill(self.part.take(), Err(Errno::EIO));
    }
}

fn finish_fill(part: Part, result: Result<()>) {
    for frame in part.frames() {
        match result {
            Ok(()) => frame.state().set_flags(FrameFlags::UPTODATE),
            Err(_) => frame.state().set_flags(super::FRAME_FAILED),
        };
        frame.state().clear_flags(FrameFlags::LOCKED);
        super::waiting_for(frame).wake_all();
    }
}

/// Why pages are being written.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum WriteBackMode {
    /// They are old or there are too many: nobody waits.
    Background,
    /// Somebody waits (`fsync`).
    Sync,
    /// Somebody waits who forbids that room is allotted now: a journal that commits. What has no place on the device yet is
    /// [postponed](WriteBack::postpone).
    Allotted,
}

/// A run of dirty pages to be written; see the head of this file.
pub struct WriteBack {
    part: Part,
    size: u64,
    mode: WriteBackMode,
}

impl WriteBack {
    /// The frames are in the cache, `WRITEBACK` and not marked dirty.
    pub(super) fn new(
        state: &Arc<CacheState>,
        first: u64,
        frames: Vec<Frame>,
        size: u64,
        mode: WriteBackMode,
    ) -> Result<WriteBack> {
        let range = 0..frames.len();
        let run = Run { state: state.clone(), first, frames };
        Ok(WriteBack { part: Part { run: machine::memory::try_arc(run)?, range }, size, mode })
    }

    /// Forgets the pages from `count` on, which are not to be written after all.
    pub(super) fn keep_first(&mut self, count: usize) {
        self.part.range.end = self.part.range.end.min(self.part.range.start + count);
    }

    /// The number of the first page in its file.
    pub fn first(&self) -> u64 {
        self.part.first()
    }

    /// The frames, in the order of the file.
    pub fn frames(&self) -> &[Frame] {
        self.part.frames()
    }

    /// The file's size when the write began, bytes. What lies behind it in the last page is zeros.
    pub fn file_size(&self) -> u64 {
        self.size
    }

    /// Why it is written.
    pub fn mode(&self) -> WriteBackMode {
        self.mode
    }

    /// Leaves the first `count` pages here and gives the others. Allocates nothing.
    pub fn split_off(&mut self, count: usize) -> WriteBack {
        WriteBack { part: self.part.split_off(count), size: self.size, mode: self.mode }
    }

    /// The pages are on the device, or never will be: the error is what the next `fsync` of each open file gives. Any context.
    pub fn complete(mut self, result: Result<()>) {
        finish_write_back(self.part.take(), result);
    }

    /// The pages cannot be written now and stay dirty. Any context.
    pub fn postpone(mut self) {
        let part = self.part.take();
        for frame in part.frames() {
            frame.state().set_flags(super::FRAME_POSTPONED);
        }
        finish_write_back(part, Ok(()));
    }
}

impl Drop for WriteBack {
    fn drop(&mut self) {
        finish_write_back(self.part.take(), Err(Errno::EIO));
    }
}

fn finish_write_back(part: Part, result: Result<()>) {
    let frames = part.frames();
    if frames.is_empty() {
        return;
    }
    let state = &part.run.state;
    if let Err(error) = result {
        state.errors.record(error);
        if let Some(errors) = &state.file_system_errors {
            errors.record(error);
        }
    }
    for frame in frames {
        frame.state().clear_flags(FrameFlags::WRITEBACK);
        super::waiting_for(frame).wake_all();
    }
    stats::WRITEBACK_PAGES.sub(frames.len() as u64);
    state.note_written(frames.len());
}
