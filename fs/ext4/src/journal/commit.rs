//! Committing: the running transaction is closed, written to the log and complete once its commit block is on the disk.
//!
//! Run by the journal's thread alone. Locks: see the head of `journal`.

use super::Journal;
use super::batch::Batch;
use super::checkpoint::Checkpoint;
use super::format::{MAGIC, Tag};
use super::log::Log;
use super::transaction::Transaction;
use crate::buffer::Buffer;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use machine::memory::Frame;

/// What a transaction consists of once no handle is in it.
struct Contents {
    buffers: Vec<Arc<Buffer>>,
    forgotten: Vec<Arc<Buffer>>,
    revoked: Vec<u64>,
    actions: Vec<Box<dyn FnOnce() + Send>>,
    has_ordered: bool,
}

impl Journal {
    /// Commits the running transaction, if there is one; aborts the journal if that fails.
    pub(super) fn commit(&self) {
        let Some(transaction) = self.close_running() else { return };
        let mut contents = self.take_contents(&transaction);
        contents.buffers.sort_unstable_by_key(|buffer| buffer.block());
        let written = match &self.log {
            Some(log) => self.write_log(log, &transaction, &contents).map(Some),
            None => self.write_in_place(&transaction, &contents).map(|()| None),
        };
        match written {
            Ok(end) => self.complete(&transaction, contents, end),
            Err(error) => self.abort(error),
        }
    }

    /// Lets no more handles in, waits for those inside, and makes the transaction the committing one.
    fn close_running(&self) -> Option<Arc<Transaction>> {
        let running = self.state.lock().running.clone()?;
        running.parts.lock().locked = true;
        self.wait(|_| (running.parts.lock().handles == 0).then_some(()));
        {
            let mut state = self.state.lock();
            state.running = None;
            state.committing = Some(running.clone());
        }
        self.changed.wake_all();
        Some(running)
    }

    /// Writes the ordered data, and takes the rest out of the transaction.
    fn take_contents(&self, transaction: &Transaction) -> Contents {
        let ordered = core::mem::take(&mut transaction.parts.lock().ordered);
        let has_ordered = !ordered.is_empty();
        for data in ordered.into_values() {
            // The page cache remembers it for fsync; the metadata is right all the same.
            if let Err(error) = data.write_data() {
                ::log::warn!("ext4: contents of a file could not be written: {}", error.name());
            }
        }
        let mut parts = transaction.parts.lock();
        Contents {
            buffers: core::mem::take(&mut parts.buffers),
            forgotten: core::mem::take(&mut parts.forgotten),
            revoked: core::mem::take(&mut parts.revoked).into_iter().collect(),
            actions: core::mem::take(&mut parts.actions),
            has_ordered,
        }
    }

    /// Writes a transaction to the log. Where the log ends afterwards.
    fn write_log(&self, log: &Log, transaction: &Transaction, contents: &Contents) -> Result<(u32, u32)> {
        let (mut writer, is_empty) = {
            let state = self.state.lock();
            (LogWriter { journal: self, log, tid: transaction.tid, at: state.head, used: 0 }, state.head)
        };
        log.begin_at(&self.buffers, is_empty, transaction.tid)?;
        let mut batch = Batch::new(&self.buffers);
        writer.write_revoked(&mut batch, &contents.revoked)?;
        writer.write_buffers(&mut batch, &contents.buffers)?;
        batch.finish()?;
        if let Some(error) = self.aborted() {
            return Err(error);
        }
        writer.write_commit()?;
        Ok((writer.at, writer.used))
    }

    /// Without a log: the blocks go where they belong.
    fn write_in_place(&self, transaction: &Transaction, contents: &Contents) -> Result<()> {
        let mut batch = Batch::new(&self.buffers);
        for buffer in &contents.buffers {
            let frame = batch.frame()?;
            if copy_out(buffer, transaction.tid, &frame, |_| ()).is_some() {
                batch.write(buffer.block(), frame)?;
            }
        }
        batch.finish()?;
        if contents.has_ordered || !contents.buffers.is_empty() {
            self.buffers.device().flush()?;
        }
        Ok(())
    }

    /// It survives now: tells everybody.
    fn complete(&self, transaction: &Transaction, contents: Contents, end: Option<(u32, u32)>) {
        let tid = transaction.tid;
        let Contents { mut buffers, forgotten, actions, .. } = contents;
        for buffer in buffers.iter().chain(&forgotten) {
            drop_forgotten(buffer, tid);
        }
        buffers.retain(|buffer| buffer.membership.lock().logged == Some(tid));
        if end.is_none() {
            // Without a log they are where they belong already.
            for buffer in buffers.drain(..) {
                buffer.membership.lock().logged = None;
            }
        }
        {
            let mut state = self.state.lock();
            if let Some((head, used)) = end {
                let checkpoint = Checkpoint { tid, start: state.head, buffers };
                state.checkpoints.push_back(Arc::new(checkpoint));
                state.head = head;
                state.free = state.free.saturating_sub(used);
            }
            state.committed = tid;
            state.committing = None;
        }
        for action in actions {
            action();
        }
        self.changed.wake_all();
    }
}

/// A block that was freed in this transaction: what earlier ones left to be written of it is not. The buffer stays until memory is wanted:
/// when the block is metadata again it begins with zeros.
fn drop_forgotten(buffer: &Buffer, tid: u32) {
    {
        let mut membership = buffer.membership.lock();
        if membership.forgotten != Some(tid) {
            return;
        }
        membership.forgotten = None;
        membership.logged = None;
    }
    // A write that is under way must not land on what comes to be there.
    buffer.wait_until(|| !buffer.membership.lock().writing);
}

/// Copies into a page what a transaction made of a buffer, and shows it to `look`; `None`: it forgot it.
fn copy_out<R>(buffer: &Buffer, tid: u32, frame: &Frame, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
    let contents = buffer.read();
    let mut membership = buffer.membership.lock();
    let frozen = membership.frozen.take_if(|(by, _)| *by == tid);
    if membership.owner == Some(tid) {
        membership.owner = None;
    }
    if membership.forgotten == Some(tid) {
        return None;
    }
    membership.logged = Some(tid);
    drop(membership);
    let bytes = frozen.as_ref().map_or(&*contents, |(_, copy)| copy);
    frame.write(0, bytes);
    Some(look(bytes))
}

/// Where a transaction goes in the log.
struct LogWriter<'a> {
    journal: &'a Journal,
    log: &'a Log,
    tid: u32,
    at: u32,
    used: u32,
}

impl LogWriter<'_> {
    /// The device's block of the log's next.
    fn next(&mut self) -> Result<u64> {
        let place = self.log.place(self.at)?;
        self.at = self.log.after(self.at);
        self.used += 1;
        Ok(place)
    }

    fn write_revoked(&mut self, batch: &mut Batch<'_>, revoked: &[u64]) -> Result<()> {
        let layout = self.log.layout;
        let mut bytes = vec![0; layout.block_size];
        for blocks in revoked.chunks(layout.records()) {
            layout.write_revoke(&mut bytes, self.tid, blocks);
            let frame = batch.frame()?;
            frame.write(0, &bytes);
            let place = self.next()?;
            batch.write(place, frame)?;
        }
        Ok(())
    }

    fn write_buffers(&mut self, batch: &mut Batch<'_>, buffers: &[Arc<Buffer>]) -> Result<()> {
        let layout = self.log.layout;
        let mut bytes = vec![0; layout.block_size];
        let mut rest = buffers.iter().peekable();
        while rest.peek().is_some() {
            let (mut tags, mut frames) = (Vec::new(), Vec::new());
            while tags.len() < layout.tags()
                && let Some(buffer) = rest.next()
            {
                let frame = batch.frame()?;
                let checksum = |bytes: &[u8]| {
                    let escaped = bytes.starts_with(&MAGIC.to_be_bytes());
                    let kept = if escaped { [&[0; 4], bytes.get(4..).unwrap_or(&[])] } else { [bytes, &[]] };
                    (escaped, layout.data_checksum(self.tid, &kept))
                };
                let Some((escaped, checksum)) = copy_out(buffer, self.tid, &frame, checksum) else {
                    continue;
                };
                if escaped {
                    frame.write(0, &[0; 4]);
                }
                tags.push(Tag { block: buffer.block(), checksum, escaped });
                frames.push(frame);
            }
            if tags.is_empty() {
                break;
            }
            layout.write_descriptor(&mut bytes, self.tid, &tags);
            let descriptor = batch.frame()?;
            descriptor.write(0, &bytes);
            for frame in core::iter::once(descriptor).chain(frames) {
                let place = self.next()?;
                batch.write(place, frame)?;
            }
        }
        Ok(())
    }

    fn write_commit(&mut self) -> Result<()> {
        let mut bytes = vec![0; self.log.layout.block_size];
        self.log.layout.write_commit(&mut bytes, self.tid, sched::clock::realtime_ns());
        self.log.write_block(&self.journal.buffers, self.at, &bytes)?;
        self.next().map(|_| ())
    }
}
