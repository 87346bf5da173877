//! What a swap area lies on, and transfers of pages to and from it.
//!
//! A device, or the blocks of a file on it: whoever opens it implements [`SwapStore`] (the block layer does for devices, and for files whose
//! blocks are known). A [`Transfer`] is begun here and ended by the store, in any context, so it touches nothing but flags of frames and wait queues.
//! Locks: none.

use super::{PAGES_IN, PAGES_OUT};
use crate::page_cache::{FRAME_FAILED, waiting_for};
use abi::errno::{Errno, Result};
use arrayvec::ArrayVec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use machine::memory::{Frame, FrameFlags};
use machine::sync::WaitQueue;

/// The most pages of one transfer.
pub const TRANSFER_PAGES: usize = 64;

/// What a swap area lies on.
pub trait SwapStore: Send + Sync {
    /// How many pages it has.
    fn pages(&self) -> u64;
    /// Starts a transfer, which is completed now or later, in any context. Thread context; memory that it needs comes from the last reserve.
    fn start(&self, transfer: Transfer);
    /// These pages are not needed any more. Thread context. What cannot be done is not.
    fn discard(&self, pages: Range<u64>) {
        let _ = pages;
    }
}

/// Which way pages go.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the store into memory.
    In,
    /// From memory to the store.
    Out,
}

/// Pages being written. Who writes waits until there are none.
static BEING_WRITTEN: AtomicUsize = AtomicUsize::new(0);
static WRITTEN: WaitQueue = WaitQueue::new();

/// Neighbouring pages that go to or come from a store. One that is dropped has failed with `EIO`.
pub struct Transfer {
    direction: Direction,
    first: u64,
    frames: ArrayVec<Frame, TRANSFER_PAGES>,
}

impl Transfer {
    /// The frames are `WRITEBACK` (going out) or `LOCKED` and not `UPTODATE` (coming in).
    pub(super) fn new(direction: Direction, first: u64, frames: ArrayVec<Frame, TRANSFER_PAGES>) -> Transfer {
        if direction == Direction::Out {
            BEING_WRITTEN.fetch_add(frames.len(), Ordering::Relaxed);
        }
        Transfer { direction, first, frames }
    }

    /// Which way.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// The first page of the store.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The frames, in the order of the store.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Leaves the first `count` pages here and gives the others. Allocates nothing.
    pub fn split_off(&mut self, count: usize) -> Transfer {
        let count = count.min(self.frames.len());
        let frames = self.frames.drain(count..).collect();
        Transfer { direction: self.direction, first: self.first + count as u64, frames }
    }

    /// It is done, or has failed. Any context.
    pub fn complete(mut self, result: Result<()>) {
        self.end(result);
    }

    fn end(&mut self, result: Result<()>) {
        let frames = core::mem::take(&mut self.frames);
        if frames.is_empty() {
            return;
        }
        match self.direction {
            Direction::In => frames.iter().for_each(|frame| end_read(frame, result)),
            Direction::Out => frames.iter().for_each(|frame| end_write(frame, result)),
        }
        let (counter, count) = match self.direction {
            Direction::In => (&PAGES_IN, frames.len()),
            Direction::Out => (&PAGES_OUT, frames.len()),
        };
        if result.is_ok() {
            counter.add(count as u64);
        }
        if self.direction == Direction::Out && BEING_WRITTEN.fetch_sub(count, Ordering::AcqRel) == count {
            WRITTEN.wake_all();
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.end(Err(Errno::EIO));
    }
}

fn end_read(frame: &Frame, result: Result<()>) {
    let state = frame.state();
    state.set_flags(if result.is_ok() { FrameFlags::UPTODATE } else { FRAME_FAILED });
    state.clear_flags(FrameFlags::LOCKED);
    waiting_for(frame).wake_all();
}

/// A page that could not be written is as dirty as before: it stays in memory.
fn end_write(frame: &Frame, result: Result<()>) {
    let state = frame.state();
    if result.is_err() {
        state.set_flags(FrameFlags::DIRTY);
    }
    state.clear_flags(FrameFlags::WRITEBACK);
    waiting_for(frame).wake_all();
}

/// Waits until no page is being written.
pub(super) fn wait_until_written() {
    let _ = WRITTEN.wait_until(machine::sync::WaitKind::Uninterruptible, None, || {
        (BEING_WRITTEN.load(Ordering::Acquire) == 0).then_some(())
    });
}
