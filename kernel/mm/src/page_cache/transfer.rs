//! `read(2)` and `write(2)` on a page cache: bytes move straight between frames and the caller's memory.
//!
//! No lock is held while they move (they may fault, even on a mapping of this very file). A page that a write makes
//! is filled before it can be seen, so nobody reads what the frame held before. Writers of one file exclude each
//! other by the inode's lock, which is the caller's.

use super::{Access, CacheState, FRAME_READ_AHEAD, Growth, PageCache, ReadAhead, Retention};
use crate::io::{IoReader, IoWriter};
use abi::errno::{Errno, Result};
use core::ops::Range;
use core::sync::atomic::Ordering;
use machine::PAGE_SIZE;
use machine::memory::{AllocFlags, Frame, FrameFlags};

/// Splits a byte offset into page number and offset in the page.
fn split(offset: u64) -> (u64, usize) {
    (offset / PAGE_SIZE as u64, (offset % PAGE_SIZE as u64) as usize)
}

/// The result of a transfer that ended with `error` after `done` bytes: progress wins.
fn progress_or(done: usize, error: Errno) -> Result<usize> {
    if done > 0 { Ok(done) } else { Err(error) }
}

impl PageCache {
    /// Reads from `offset` on until the buffer is full or the file ends; returns how many bytes, 0 at or after the end.
    ///
    /// Errors: `EFAULT` from the buffer, `EIO` and the like from the pager, `EINTR`, `ENOMEM`, all only if nothing was
    /// read.
    pub fn read(&self, offset: u64, into: &mut dyn IoWriter) -> Result<usize> {
        self.read_with(None, offset, into)
    }

    /// [`PageCache::read`] for an open file, which is read ahead of.
    ///
    /// Errors: as [`PageCache::read`].
    pub fn read_ahead_of(&self, ahead: &ReadAhead, offset: u64, into: &mut dyn IoWriter) -> Result<usize> {
        self.read_with(Some(ahead), offset, into)
    }

    fn read_with(&self, ahead: Option<&ReadAhead>, offset: u64, into: &mut dyn IoWriter) -> Result<usize> {
        let mut done = 0;
        while into.remaining() > 0 {
            let at = offset.saturating_add(done as u64);
            let left = self.size().saturating_sub(at);
            let (index, start) = split(at);
            let rest = into.remaining().min(usize::try_from(left).unwrap_or(usize::MAX));
            let wanted = (PAGE_SIZE - start).min(rest);
            if wanted == 0 {
                break;
            }
            let end = index + super::pages_for((start + rest) as u64);
            let frame = match self.page_to_read(ahead, index..end) {
                Ok(frame) => frame,
                // Truncated meanwhile.
                Err(Errno::EFAULT) => break,
                Err(error) => return progress_or(done, error),
            };
            match into.write_frame(&frame, start, wanted) {
                Ok(count) => {
                    done += count;
                    if count < wanted {
                        break;
                    }
                }
                Err(error) => return progress_or(done, error),
            }
        }
        if done > 0 {
            self.note_read(ahead, super::pages_for(offset + done as u64));
        }
        Ok(done)
    }

    /// The first of the pages `wanted`; a miss brings in the others too.
    fn page_to_read(&self, ahead: Option<&ReadAhead>, wanted: Range<u64>) -> Result<Frame> {
        let index = wanted.start;
        if self.retention() == Retention::OnlyCopy {
            let frame = self.get_page(index, Access::Read)?;
            super::note_used(&frame);
            return Ok(frame);
        }
        match self.peek(index) {
            Some(frame) => {
                let flags = frame.state().flags();
                if let Some(ahead) = ahead.filter(|_| flags.contains(FRAME_READ_AHEAD)) {
                    self.read_ahead_of_mark(ahead, index, &frame);
                }
                if flags.contains(FrameFlags::UPTODATE) {
                    super::note_used(&frame);
                    return Ok(frame);
                }
            }
            None if self.contains_page(index) => self.read_ahead_of_miss(ahead, wanted)?,
            None => {}
        }
        self.get_page(index, Access::Read)
    }

    /// Writes from `offset` on until the source is used up, extending the file; returns how many bytes. The caller
    /// holds the inode's write lock and has checked limits.
    ///
    /// Errors: `EFAULT` from the source, `ENOSPC`, `EIO` and the like from the pager, `ENOMEM`, `EFBIG` beyond 2^63-1,
    /// all only if nothing was written.
    pub fn write(&self, offset: u64, from: &mut dyn IoReader) -> Result<usize> {
        let mut done = 0;
        if from.remaining() > 0 {
            self.clear_tail(offset)?;
        }
        while from.remaining() > 0 {
            let Some(at) = offset.checked_add(done as u64).filter(|at| *at < i64::MAX as u64) else {
                return progress_or(done, Errno::EFBIG);
            };
            let (index, start) = split(at);
            let wanted = (PAGE_SIZE - start).min(from.remaining());
            match self.write_part(index, start, wanted, from) {
                Ok(count) => {
                    done += count;
                    self.balance(1);
                    if count < wanted {
                        break;
                    }
                }
                Err(error) => return progress_or(done, error),
            }
        }
        Ok(done)
    }

    /// Writes within one page.
    fn write_part(&self, index: u64, start: usize, wanted: usize, from: &mut dyn IoReader) -> Result<usize> {
        let page_start = index * PAGE_SIZE as u64;
        let in_file = self.contains_page(index);
        let whole = start == 0 && wanted == PAGE_SIZE;
        let existing = match self.lookup(index) {
            Some(frame) => Some(frame),
            // Part of a page whose rest the backing store has.
            None if self.retention() == Retention::Reloadable && in_file && !whole => {
                Some(self.get_page(index, Access::Create)?)
            }
            None if self.swapped_at(index).is_some() && in_file => {
                Some(self.get_page(index, Access::Create)?)
            }
            None => None,
        };
        let _extending = self.note_extending(page_start + (start + wanted) as u64);
        let count = match existing {
            Some(frame) => self.write_existing(index, &frame, start, wanted, from)?,
            None => self.write_new_page(index, start, wanted, from)?,
        };
        if count > 0 {
            self.extend_size(page_start + (start + count) as u64);
        }
        Ok(count)
    }

    /// Writes to a page that is there.
    fn write_existing(
        &self,
        index: u64,
        frame: &Frame,
        start: usize,
        wanted: usize,
        from: &mut dyn IoReader,
    ) -> Result<usize> {
        if !self.make_dirty(index, frame)? {
            // It has left the cache.
            return self.write_new_page(index, start, wanted, from);
        }
        let count = from.read_frame(frame, start, wanted)?;
        super::note_written(frame);
        super::note_used(frame);
        // It may have been written back while the bytes moved.
        self.make_dirty(index, frame)?;
        Ok(count)
    }

    /// Fills a page nobody sees yet, then puts it in; if another thread put one in meanwhile, copies into that.
    fn write_new_page(
        &self,
        index: u64,
        start: usize,
        wanted: usize,
        from: &mut dyn IoReader,
    ) -> Result<usize> {
        let frame = Frame::alloc(AllocFlags::empty())?;
        frame.zero_range(0, start);
        let count = from.read_frame(&frame, start, wanted)?;
        frame.zero_range(start + count, PAGE_SIZE - start - count);
        if count == 0 {
            return Ok(0);
        }
        if count < PAGE_SIZE && self.retention() == Retention::Reloadable && self.contains_page(index) {
            // The source ended early on a page whose rest the backing store has.
            let page = self.get_page(index, Access::Create)?;
            return self.copy_into(index, &frame, &page, start, count);
        }
        if self.tracks_stores() {
            self.pager.reserve(index)?;
        }
        while !self.insert(index, &frame, FrameFlags::UPTODATE, Growth::Anywhere)? {
            if let Some(other) = self.lookup(index) {
                return self.copy_into(index, &frame, &other, start, count);
            }
            if let Some(slot) = self.swapped_at(index) {
                self.bring_in(index, slot)?;
            }
            let present = self.peek(index);
            if let Some(present) = present {
                self.wait_until_filled(&present)?;
            }
        }
        Ok(count)
    }

    /// Copies what a writer brought to the page that another one put in.
    fn copy_into(&self, index: u64, from: &Frame, to: &Frame, start: usize, count: usize) -> Result<usize> {
        self.make_dirty(index, to)?;
        copy_between(from, to, start, count);
        self.make_dirty(index, to)?;
        Ok(count)
    }

    /// While it lives, a writer may have put bytes behind the end of the file that write-back must not zero.
    fn note_extending(&self, end: u64) -> Option<Extending<'_>> {
        let state = self.state.as_ref().filter(|_| end > self.size())?;
        *state.extending.lock() += 1;
        Some(Extending(state))
    }

    /// Makes the file at least `size` bytes long. What is behind the end in its last page must be zeros.
    pub fn extend_size(&self, size: u64) {
        if self.size() < size {
            let _pages = self.pages.write();
            self.size.fetch_max(size, Ordering::Release);
        }
    }
}

struct Extending<'a>(&'a CacheState);

impl Drop for Extending<'_> {
    fn drop(&mut self) {
        *self.0.extending.lock() -= 1;
    }
}

/// Copies part of a page to the same place of another.
fn copy_between(from: &Frame, to: &Frame, start: usize, count: usize) {
    let mut buffer = [0; 256];
    let mut at = start;
    while at < start + count {
        let part = (start + count - at).min(buffer.len());
        let Some(piece) = buffer.get_mut(..part) else { return };
        from.read(at, piece);
        to.write(at, piece);
        at += part;
    }
}
