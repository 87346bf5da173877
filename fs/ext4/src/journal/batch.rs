//! Writes of many blocks, under way together.
//!
//! Key type: [`Batch`]. Neighbours join into one transfer as far as the device takes it. Locks: the first error, a leaf, with interrupts off.

use crate::buffer::Buffers;
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use block::{Bio, BioFlags, Operation, Segment};
use machine::memory::{AllocFlags, Frame};
use machine::sync::atomic::{AtomicUsize, Ordering};
use machine::sync::{IrqSpinLock, WaitKind, WaitQueue};

/// More blocks than this are not under way at once: each holds a page.
const MOST_UNDER_WAY: usize = 1024;
/// How often a page is asked for before a write fails for want of memory.
const MEMORY_ATTEMPTS: usize = 1000;

/// Writes under way, and a run of neighbours not sent yet.
pub struct Batch<'a> {
    buffers: &'a Buffers,
    flight: Arc<Flight>,
    run: Option<(Bio, u64)>,
    run_blocks: usize,
}

struct Flight {
    transfers: AtomicUsize,
    error: IrqSpinLock<Option<Errno>>,
    landed: WaitQueue,
}

impl<'a> Batch<'a> {
    /// Nothing yet.
    pub fn new(buffers: &'a Buffers) -> Batch<'a> {
        let flight = Flight {
            transfers: AtomicUsize::new(0),
            error: IrqSpinLock::new(None),
            landed: WaitQueue::new(),
        };
        Batch { buffers, flight: Arc::new(flight), run: None, run_blocks: 0 }
    }

    /// A page for a block. Waits for memory, also that which this batch holds. Errors: `ENOMEM`, after a second.
    pub fn frame(&mut self) -> Result<Frame> {
        for _ in 0..MEMORY_ATTEMPTS {
            if let Ok(frame) = page() {
                return Ok(frame);
            }
            self.send();
            self.wait_below(1);
            let _ = sched::sleep_until(machine::time::now_ns() + 1_000_000, WaitKind::Uninterruptible);
        }
        Err(Errno::ENOMEM)
    }

    /// Writes a block from the beginning of a page, which nobody changes any more.
    pub fn write(&mut self, block: u64, frame: Frame) -> Result<()> {
        let follows = self.run.as_ref().is_some_and(|(_, next)| *next == block);
        if !follows || self.run_blocks >= self.buffers.longest_run() {
            self.send();
            self.wait_below(MOST_UNDER_WAY);
        }
        let segment = Segment { frame, offset: 0, length: self.buffers.block_size() };
        let (bio, next) = self.run.get_or_insert_with(|| {
            let flight = self.flight.clone();
            let first = self.buffers.sector(block);
            (Bio::new(Operation::Write, first, Box::new(move |result| flight.land(result))), block)
        });
        bio.push(segment)?;
        *next += 1;
        self.run_blocks += 1;
        Ok(())
    }

    fn send(&mut self) {
        if let Some((mut bio, _)) = self.run.take() {
            bio.flags = BioFlags::METADATA | BioFlags::SYNC;
            self.flight.transfers.fetch_add(1, Ordering::Relaxed);
            self.run_blocks = 0;
            self.buffers.device().submit(bio);
        }
    }

    fn wait_below(&self, most: usize) {
        let longest = self.buffers.longest_run();
        let few = || (self.flight.transfers.load(Ordering::Acquire) <= (most - 1) / longest).then_some(());
        let _ = self.flight.landed.wait_until(WaitKind::Uninterruptible, None, few);
    }

    /// Waits for all of them. Errors: the first that failed.
    pub fn finish(mut self) -> Result<()> {
        self.send();
        self.wait_below(1);
        self.flight.error.lock().map_or(Ok(()), Err)
    }
}

/// A page, without reclaiming: that may wait for write-back, which may wait for the journal. The reserve is for those who free memory, as
/// writing does.
pub fn page() -> Result<Frame> {
    let plain = Frame::alloc(AllocFlags::NO_RECLAIM);
    plain.or_else(|_| Frame::alloc(AllocFlags::NO_RECLAIM | AllocFlags::RESERVE)).map_err(|_| Errno::ENOMEM)
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        // A run that was given up: its completion counts down what was never counted up.
        if self.run.is_some() {
            self.flight.transfers.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Flight {
    fn land(&self, result: Result<()>) {
        if let Err(error) = result {
            self.error.lock().get_or_insert(error);
        }
        self.transfers.fetch_sub(1, Ordering::Release);
        self.landed.wake_all();
    }
}
