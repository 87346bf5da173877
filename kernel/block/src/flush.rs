//! Flushing a disk's cache: flushes that are asked for while one is under way become one.
//!
//! What asks is a bio: a flush, a write that must come after one (`PREFLUSH`), or a write that is done but must be followed by one (`FUA` on a
//! device that does not know it). A flush that begins after a write has completed covers it; one that began before does not, so who comes
//! while one is under way waits for the next. Key type: [`FlushQueue`]. Locks: one, a leaf, usable in interrupts.

use crate::bio::{Bio, Operation};
use crate::device::BlockDevice;
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::IrqSpinLock;

/// What happens to a bio after the flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    /// It is done.
    Complete,
    /// It is written.
    Write,
}

struct Waiter {
    device: Arc<BlockDevice>,
    bio: Bio,
    then: Then,
}

#[derive(Default)]
struct State {
    running: bool,
    waiting: Vec<Waiter>,
}

/// A disk's flushes.
pub(crate) struct FlushQueue {
    state: IrqSpinLock<State>,
}

impl FlushQueue {
    pub(crate) fn new() -> FlushQueue {
        FlushQueue { state: IrqSpinLock::new(State::default()) }
    }

    /// Flushes, then goes on with the bio. Any context.
    pub(crate) fn add(&self, device: Arc<BlockDevice>, bio: Bio, then: Then) {
        let mut state = self.state.lock();
        if state.waiting.try_reserve(1).is_err() {
            drop(state);
            return bio.complete(Err(Errno::ENOMEM));
        }
        state.waiting.push(Waiter { device, bio, then });
        if state.running {
            return;
        }
        state.running = true;
        let batch = core::mem::take(&mut state.waiting);
        drop(state);
        start(batch);
    }

    /// A flush has ended: the next one for those who came meanwhile.
    fn go_on(&self) {
        let batch = {
            let mut state = self.state.lock();
            state.running = !state.waiting.is_empty();
            core::mem::take(&mut state.waiting)
        };
        if !batch.is_empty() {
            start(batch);
        }
    }
}

/// Flushes for a batch, which is not empty.
fn start(batch: Vec<Waiter>) {
    let Some(device) = batch.first().map(|waiter| waiter.device.clone()) else { return };
    let own = device.clone();
    let flush = Bio::new(Operation::Flush, 0, Box::new(move |result| end(&own, batch, result)));
    device.start(flush);
}

fn end(device: &BlockDevice, batch: Vec<Waiter>, result: Result<()>) {
    // First the next flush, so that the device has something to do.
    device.disk().flushes.go_on();
    for Waiter { device, bio, then } in batch {
        match (result, then) {
            (Ok(()), Then::Write) => device.start(bio),
            _ => bio.complete(result),
        }
    }
}
