//! Room in the log: what old transactions have is written where it belongs, and the log then begins after them.
//!
//! A buffer that a newer transaction has too is left to it if that is complete. One that holds changes of a transaction that is not complete
//! cannot be written from memory: that transaction is committed first. Writes go out in the order of their blocks.
//!
//! Key type: [`Checkpoint`]. Locks: [`Journal::checkpointing`] (sleeping): one at a time.

use super::batch::Batch;
use super::log::Log;
use super::{Journal, State, Tid, is_newer};
use crate::buffer::Buffer;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A transaction in the log whose blocks are not all where they belong.
pub struct Checkpoint {
    /// Which.
    pub tid: Tid,
    /// Where it begins in the log.
    pub start: u32,
    /// Its blocks, in order, as far as they were its own when it was complete.
    pub buffers: Vec<Arc<Buffer>>,
}

/// What became of a buffer that was to be written where it belongs.
enum Outcome {
    /// It is on its way.
    Writing(Tid),
    /// It need not be.
    Settled,
    /// It holds what may not be written yet.
    Later,
}

impl Journal {
    /// Whether a transaction may begin: there is room for it at its largest, besides the committing one.
    pub(super) fn has_room(&self, state: &State) -> bool {
        let Some(log) = &self.log else { return true };
        let committing = state.committing.as_ref().map_or(0, |committing| {
            let parts = committing.parts.lock();
            log.blocks_for(parts.reserved)
        });
        state.free >= committing + log.blocks_for(self.largest)
    }

    /// Waits until there is room for a transaction. The caller has no handle. Errors: `EROFS`.
    pub(super) fn make_room(&self) -> Result<()> {
        // Half of the log, nearly: with that free there is room whatever the committing transaction takes.
        let plenty = self.log.as_ref().map_or(0, |log| 2 * log.blocks_for(self.largest));
        let made = self.checkpoint(|state, freed| state.free + freed >= plenty);
        match made {
            Ok(true) => Ok(()),
            // The committing transaction has the rest of the log: what it has can be written when it is complete.
            Ok(false) => {
                self.wait(|state| {
                    let ready =
                        state.committing.is_none() || !state.checkpoints.is_empty() || self.has_room(state);
                    (ready || state.aborted.is_some()).then_some(())
                });
                self.aborted().map_or(Ok(()), |_| Err(Errno::EROFS))
            }
            Err(error) => {
                self.abort(error);
                Err(Errno::EROFS)
            }
        }
    }

    /// Brings everything that is complete to where it belongs, and marks the log empty. Errors: as the device's; `EROFS` after an abort.
    pub(super) fn empty_log(&self) -> Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        let result = self.checkpoint(|_, _| false).and_then(|_| {
            let _turn = self.checkpointing.lock();
            let (idle, next) = {
                let state = self.state.lock();
                (
                    state.running.is_none() && state.committing.is_none() && state.checkpoints.is_empty(),
                    state.committed,
                )
            };
            // Somebody is at work again: the log stays as it is, which is right too.
            if !idle {
                return Ok(());
            }
            log.update(&self.buffers, |parsed| (parsed.start, parsed.sequence) = (0, next.wrapping_add(1)))
        });
        result.inspect_err(|error| self.abort(*error))
    }

    /// Writes back the oldest transactions until `enough`, which is given how many blocks of the log are won. Whether there were any.
    fn checkpoint(&self, enough: impl Fn(&State, u32) -> bool) -> Result<bool> {
        let Some(log) = &self.log else { return Ok(true) };
        let _turn = self.checkpointing.lock();
        let chosen = {
            let state = self.state.lock();
            let mut chosen: Vec<Arc<Checkpoint>> = Vec::new();
            for checkpoint in &state.checkpoints {
                if enough(&state, log.distance(state.tail, checkpoint.start)) {
                    break;
                }
                chosen.push(checkpoint.clone());
            }
            chosen
        };
        let Some(newest) = chosen.last() else { return Ok(self.has_room(&self.state.lock())) };
        let newest = newest.tid;
        let mut buffers: Vec<Arc<Buffer>> =
            chosen.iter().flat_map(|one| one.buffers.iter().cloned()).collect();
        buffers.sort_unstable_by_key(|buffer| buffer.block());
        buffers.dedup_by(|one, other| Arc::ptr_eq(one, other));
        while !buffers.is_empty() {
            buffers = self.write_back(buffers, newest)?;
            if !buffers.is_empty() {
                let (unfinished, _) = self.newest();
                self.commit_and_wait(unfinished)?;
            }
        }
        self.move_tail(log, chosen.len())?;
        Ok(true)
    }

    /// Writes buffers where they belong, and gives back those that cannot be yet.
    fn write_back(&self, buffers: Vec<Arc<Buffer>>, newest: Tid) -> Result<Vec<Arc<Buffer>>> {
        let _plug = block::Plug::new();
        let mut batch = Batch::new(&self.buffers);
        let (mut writing, mut later) = (Vec::new(), Vec::new());
        for buffer in buffers {
            let frame = batch.frame()?;
            let outcome = {
                let contents = buffer.read();
                let outcome = self.judge(&buffer, newest);
                if matches!(outcome, Outcome::Writing(_)) {
                    frame.write(0, &contents);
                }
                outcome
            };
            match outcome {
                Outcome::Writing(logged) => {
                    batch.write(buffer.block(), frame)?;
                    writing.push((buffer, logged));
                }
                Outcome::Settled => {}
                Outcome::Later => later.push(buffer),
            }
        }
        let result = batch.finish();
        for (buffer, logged) in writing {
            let mut membership = buffer.membership.lock();
            membership.writing = false;
            if result.is_ok() && membership.logged == Some(logged) {
                membership.logged = None;
            }
            drop(membership);
            buffer.wake();
        }
        result.map(|()| later)
    }

    /// What is to become of a buffer, whose contents are locked, when transactions up to `newest` leave the log.
    fn judge(&self, buffer: &Buffer, newest: Tid) -> Outcome {
        let committed = self.state.lock().committed;
        let mut membership = buffer.membership.lock();
        let Some(logged) = membership.logged else { return Outcome::Settled };
        let is_complete = !is_newer(logged, committed);
        if is_complete && is_newer(logged, newest) {
            return Outcome::Settled;
        }
        if !is_complete || membership.owner.is_some() || membership.frozen.is_some() {
            return Outcome::Later;
        }
        membership.writing = true;
        Outcome::Writing(logged)
    }

    /// The log begins after its `count` oldest transactions.
    fn move_tail(&self, log: &Log, count: usize) -> Result<()> {
        let (tail, sequence) = {
            let state = self.state.lock();
            let next = state.checkpoints.get(count);
            next.map_or((state.head, state.committed.wrapping_add(1)), |next| (next.start, next.tid))
        };
        // After a flush, as all updates of the superblock: what was written back is on the disk before the log forgets it.
        log.update(&self.buffers, |parsed| (parsed.start, parsed.sequence) = (tail, sequence))?;
        {
            let mut state = self.state.lock();
            state.checkpoints.drain(..count);
            state.free += log.distance(state.tail, tail);
            state.tail = tail;
        }
        self.changed.wake_all();
        Ok(())
    }
}
