//! Operations of the file system: joining a transaction, and changing metadata in it.
//!
//! Key type: [`Handle`]. Locks: see the head of `journal`.

use super::transaction::{Membership, Transaction};
use super::{Journal, OrderedData, State, Tid};
use crate::buffer::Buffer;
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::atomic::Ordering;
use machine::thread::AllocationScope;

/// One operation: all that it changes survives a cut, or nothing. Dropping it ends the operation.
pub struct Handle {
    journal: Arc<Journal>,
    transaction: Arc<Transaction>,
    /// How many more blocks it may change.
    credits: u32,
    /// While it lives, its thread must not wait for what may wait for it.
    _scope: AllocationScope,
}

/// What starting a handle found.
enum Joined {
    /// It is part of this transaction.
    Yes(Arc<Transaction>),
    /// The log has to have more room first.
    NoRoom,
}

impl Journal {
    /// Begins an operation that changes at most `credits` blocks. May wait for a commit: the caller has no other handle, and no buffer's
    /// contents locked. Errors: `EROFS`: the journal is aborted or was opened so; `ENOSPC`: more than a transaction can have.
    pub fn start(self: &Arc<Self>, credits: u32) -> Result<Handle> {
        let transaction = self.join(credits)?;
        Ok(Handle { journal: self.clone(), transaction, credits, _scope: mm::reclaim::no_file_system() })
    }

    fn join(&self, credits: u32) -> Result<Arc<Transaction>> {
        if credits > self.largest {
            return Err(Errno::ENOSPC);
        }
        loop {
            let joined = {
                let mut state = self.state.lock();
                self.try_join(&mut state, credits)
            };
            match joined {
                Some(Ok(Joined::Yes(transaction))) => return Ok(transaction),
                Some(Ok(Joined::NoRoom)) => self.make_room()?,
                Some(Err(error)) => return Err(error),
                None => self.wait_to_join(credits),
            }
        }
    }

    /// `None`: not now.
    fn try_join(&self, state: &mut State, credits: u32) -> Option<Result<Joined>> {
        if state.aborted.is_some() {
            return Some(Err(Errno::EROFS));
        }
        if state.barriers > 0 {
            return None;
        }
        if let Some(running) = state.running.clone() {
            let mut parts = running.parts.lock();
            if parts.locked {
                return None;
            }
            if parts.reserved + credits > self.largest {
                drop(parts);
                self.request(state, running.tid);
                return None;
            }
            parts.handles += 1;
            parts.reserved += credits;
            drop(parts);
            return Some(Ok(Joined::Yes(running)));
        }
        if !self.has_room(state) {
            return Some(Ok(Joined::NoRoom));
        }
        let transaction = Transaction::new(state.newest().wrapping_add(1));
        {
            let mut parts = transaction.parts.lock();
            (parts.handles, parts.reserved) = (1, credits);
        }
        state.running = Some(transaction.clone());
        // The thread's next deadline is this transaction's.
        self.thread.ring();
        Some(Ok(Joined::Yes(transaction)))
    }

    fn wait_to_join(&self, credits: u32) {
        self.wait(|state| {
            let fits = |running: &Arc<Transaction>| {
                let parts = running.parts.lock();
                !parts.locked && parts.reserved + credits <= self.largest
            };
            let free = state.barriers == 0 && state.running.as_ref().is_none_or(fits);
            (state.aborted.is_some() || free).then_some(())
        });
    }
}

impl Handle {
    /// The transaction that it is part of.
    pub fn tid(&self) -> Tid {
        self.transaction.tid
    }

    /// How many more blocks it may change.
    pub fn credits(&self) -> u32 {
        self.credits
    }

    /// Changes a block. One that is not yet part of the transaction takes a credit. Sleeps.
    ///
    /// Errors: `EROFS`: the journal was aborted; `ENOSPC`: no credit is left, and the transaction is full; `ENOMEM`. `change` was not called then.
    pub fn modify<R>(&mut self, buffer: &Arc<Buffer>, change: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        if self.journal.dead.load(Ordering::Acquire) {
            return Err(Errno::EROFS);
        }
        let mut contents = buffer.write();
        self.attach(buffer, &contents)?;
        Ok(change(&mut contents))
    }

    /// A new block of metadata, all zeros, not read from the disk. Takes a credit. Errors: as [`Handle::modify`]; `EIO`: beyond the end.
    pub fn create(&mut self, block: u64) -> Result<Arc<Buffer>> {
        if self.journal.dead.load(Ordering::Acquire) {
            return Err(Errno::EROFS);
        }
        let buffer = self.journal.buffers.get(block)?;
        buffer.wait_while_reading();
        let mut contents = buffer.write();
        self.attach(&buffer, &contents)?;
        self.transaction.parts.lock().revoked.remove(&block);
        contents.fill(0);
        buffer.set_ready();
        drop(contents);
        Ok(buffer)
    }

    /// A block of metadata was freed: what the log has of it is not replayed any more once this transaction is complete. Until then the
    /// block may not be used again for anything but metadata. Nobody changes it any more.
    ///
    /// Errors: as [`Handle::modify`] (one credit for each block of revoke records that it begins).
    pub fn forget(&mut self, block: u64) -> Result<()> {
        if let Some(log) = self.journal.log.as_ref() {
            let records = log.layout.records();
            let begins_block = {
                let parts = self.transaction.parts.lock();
                parts.revoked.len().is_multiple_of(records) && !parts.revoked.contains(&block)
            };
            if begins_block {
                self.take_credit()?;
            }
            self.transaction.parts.lock().revoked.insert(block);
        }
        let Some(buffer) = self.journal.buffers.peek(block) else { return Ok(()) };
        let mut membership = buffer.membership.lock();
        let was_here = membership.owner == Some(self.tid());
        let again = membership.forgotten.replace(self.tid()) == Some(self.tid());
        drop(membership);
        match () {
            () if again => {}
            // It takes no room in the log after all.
            () if was_here => self.credits += 1,
            () => self.transaction.parts.lock().forgotten.push(buffer.clone()),
        }
        Ok(())
    }

    /// Makes a buffer, whose contents are locked, part of the transaction.
    fn attach(&mut self, buffer: &Arc<Buffer>, contents: &[u8]) -> Result<()> {
        let tid = self.tid();
        let (is_here, was_forgotten, must_freeze) = {
            let Membership { owner, forgotten, .. } = &*buffer.membership.lock();
            (*owner == Some(tid), forgotten.is_some(), owner.is_some_and(|owner| owner != tid))
        };
        if is_here && !was_forgotten {
            return Ok(());
        }
        self.take_credit()?;
        // Only the owner of the contents' lock changes `owner`, or the commit, which takes the contents too.
        let copy = if must_freeze { Some(try_copy(contents)?) } else { None };
        let mut membership = buffer.membership.lock();
        if let (Some(owner), Some(copy)) = (membership.owner, copy) {
            membership.frozen = Some((owner, copy));
        }
        membership.owner = Some(tid);
        membership.forgotten = None;
        drop(membership);
        let mut parts = self.transaction.parts.lock();
        if was_forgotten {
            parts.revoked.remove(&buffer.block());
        }
        if !is_here {
            parts.buffers.push(buffer.clone());
        }
        Ok(())
    }

    /// Takes a credit, or one of the transaction's if the operation has used up what it asked for.
    fn take_credit(&mut self) -> Result<()> {
        if self.credits == 0 && !self.grow(1) {
            return Err(Errno::ENOSPC);
        }
        self.credits -= 1;
        Ok(())
    }

    fn grow(&mut self, credits: u32) -> bool {
        let mut parts = self.transaction.parts.lock();
        let fits = parts.reserved.saturating_add(credits) <= self.journal.largest;
        if fits {
            parts.reserved += credits;
            self.credits += credits;
        }
        fits
    }

    /// Has room for `credits` blocks from now on, if the transaction has; false: [`Handle::restart`] is needed. Errors: `EROFS`.
    pub fn extend(&mut self, credits: u32) -> Result<bool> {
        if self.journal.dead.load(Ordering::Acquire) {
            return Err(Errno::EROFS);
        }
        let missing = credits.saturating_sub(self.credits);
        Ok(missing == 0 || self.grow(missing))
    }

    /// Ends this step, which may survive without the next, and begins another. May wait as [`Journal::start`] does. Errors: the same; the
    /// handle changes nothing any more then.
    pub fn restart(&mut self, credits: u32) -> Result<()> {
        self.leave();
        match self.journal.join(credits) {
            Ok(transaction) => {
                self.transaction = transaction;
                self.credits = credits;
                Ok(())
            }
            Err(error) => {
                // Something to leave: a transaction that is never committed.
                self.transaction = Transaction::new(self.transaction.tid);
                self.transaction.parts.lock().handles = 1;
                Err(error)
            }
        }
    }

    /// The data is on the disk before this operation survives. Errors: none yet.
    pub fn order(&mut self, data: Arc<dyn OrderedData>) -> Result<()> {
        let key = Arc::as_ptr(&data).cast::<()>().addr();
        self.transaction.parts.lock().ordered.entry(key).or_insert(data);
        Ok(())
    }

    /// Does something once the operation survives: freed blocks may be used again. Runs in the journal's thread and must not start a handle;
    /// not at all after an abort.
    pub fn on_commit(&mut self, action: Box<dyn FnOnce() + Send>) {
        self.transaction.parts.lock().actions.push(action);
    }

    fn leave(&mut self) {
        let last = {
            let mut parts = self.transaction.parts.lock();
            parts.reserved = parts.reserved.saturating_sub(self.credits);
            parts.handles = parts.handles.saturating_sub(1);
            parts.handles == 0 && parts.locked
        };
        self.credits = 0;
        if last {
            self.journal.changed.wake_all();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.leave();
    }
}

fn try_copy(bytes: &[u8]) -> Result<Box<[u8]>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(bytes);
    Ok(copy.into_boxed_slice())
}
