//! `read(2)` and `write(2)` on a page cache: bytes move straight between frames and the caller's memory.
//!
//! No lock is held while they move (they may fault, even on a mapping of this very file). A page that a write makes
//! is filled before it can be seen, so nobody reads what the frame held before. Writers of one file exclude each
//! other by the inode's lock, which is the caller's.

use super::{Access, Growth, PageCache, Retention};
use crate::io::{IoReader, IoWriter};
use abi::errno::{Errno, Result};
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
        let mut done = 0;
        while into.remaining() > 0 {
            let at = offset.saturating_add(done as u64);
            let left = self.size().saturating_sub(at);
            let (index, start) = split(at);
            let wanted =
                (PAGE_SIZE - start).min(into.remaining()).min(usize::try_from(left).unwrap_or(usize::MAX));
            if wanted == 0 {
                break;
            }
            let frame = match self.get_page(index, Access::Read) {
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
        Ok(done)
    }

    /// Writes from `offset` on until the source is used up, extending the file; returns how many bytes. The caller
    /// holds the inode's write lock and has checked limits.
    ///
    /// Errors: `EFAULT` from the source, `ENOSPC`, `EIO` and the like from the pager, `ENOMEM`, `EFBIG` beyond 2^63-1,
    /// all only if nothing was written.
    pub fn write(&self, offset: u64, from: &mut dyn IoReader) -> Result<usize> {
        let mut done = 0;
        while from.remaining() > 0 {
            let Some(at) = offset.checked_add(done as u64).filter(|at| *at < i64::MAX as u64) else {
                return progress_or(done, Errno::EFBIG);
            };
            let (index, start) = split(at);
            let wanted = (PAGE_SIZE - start).min(from.remaining());
            match self.write_part(index, start, wanted, from) {
                Ok(count) => {
                    done += count;
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
            None => None,
        };
        let count = match existing {
            Some(frame) => {
                let count = from.read_frame(&frame, start, wanted)?;
                super::note_written(&frame);
                count
            }
            None => self.write_new_page(index, start, wanted, from)?,
        };
        if count > 0 {
            self.extend_size(page_start + (start + count) as u64);
            self.mark_dirty(index);
        }
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
            copy_between(&frame, &page, start, count);
            return Ok(count);
        }
        while !self.insert(index, &frame, FrameFlags::UPTODATE, Growth::Anywhere)? {
            if let Some(other) = self.lookup(index) {
                copy_between(&frame, &other, start, count);
                break;
            }
            let present = self.pages.read().get(index).cloned();
            if let Some(present) = present {
                self.wait_until_filled(&present)?;
            }
        }
        Ok(count)
    }

    /// Makes the file at least `size` bytes long.
    pub fn extend_size(&self, size: u64) {
        if self.size() < size {
            let _pages = self.pages.write();
            self.size.fetch_max(size, Ordering::Release);
        }
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
