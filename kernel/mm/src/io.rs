//! Where bytes come from and go to: one interface over user buffers, iovecs and kernel memory.
//!
//! A file's `read` is given an [`IoWriter`] and its `write` an [`IoReader`]; it need not know whose memory is behind
//! them. The page cache hands over whole frames, so that file data moves between the frame and user memory in one copy.
//!
//! Every transfer may be **short**: the end of the buffer, or a fault in user memory after some progress. A fault
//! before the first byte is `EFAULT`. So the rule for callers is: advance by the count returned, stop when it is less
//! than asked for, and report an error only if nothing was moved at all, as `read(2)` and `write(2)` do.
//!
//! Key types: [`IoWriter`], [`IoReader`]; [`UserWriter`], [`UserReader`] (user memory, in `crate::user`);
//! [`SliceWriter`], [`VecWriter`], [`SliceReader`] (kernel memory). Locks: none; transfers may fault and sleep, so
//! no spinlock may be held.

use crate::lend::Lent;
use abi::errno::{Errno, Result};
use alloc::vec::Vec;
use machine::PAGE_SIZE;
use machine::memory::Frame;

pub use crate::user::{UserReader, UserWriter};

/// A place that bytes are written to, in order: what `read(2)` fills.
pub trait IoWriter {
    /// How many more bytes fit.
    fn remaining(&self) -> usize;

    /// Writes `bytes`; returns how many fitted.
    ///
    /// Errors: `EFAULT` if user memory is not accessible and nothing was written; `ENOMEM` from growing buffers.
    fn write_bytes(&mut self, bytes: &[u8]) -> Result<usize>;

    /// Writes `len` bytes of `frame` from `offset` on; returns how many fitted. `offset + len` is within the page.
    ///
    /// Errors: as [`IoWriter::write_bytes`].
    fn write_frame(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<usize>;

    /// The memory of the next `bytes` bytes, for a device to write; `None` if it cannot be lent. What was written is to be [skipped](IoWriter::skip).
    fn lend(&mut self, _bytes: usize) -> Option<Lent> {
        None
    }

    /// So many bytes of lent memory have been written.
    fn skip(&mut self, _bytes: usize) {}

    /// Writes `len` zeros (a hole); returns how many fitted.
    ///
    /// Errors: as [`IoWriter::write_bytes`].
    fn write_zeros(&mut self, len: usize) -> Result<usize> {
        let zero = machine::memory::zero_frame();
        let mut done = 0;
        while done < len {
            let part = (len - done).min(PAGE_SIZE);
            match self.write_frame(&zero, 0, part) {
                Ok(count) => done += count,
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
            if self.remaining() == 0 {
                break;
            }
        }
        Ok(done)
    }
}

/// A source of bytes, in order: what `write(2)` takes.
pub trait IoReader {
    /// How many bytes are left.
    fn remaining(&self) -> usize;

    /// Fills `into` from the source; returns how many bytes there were.
    ///
    /// Errors: `EFAULT` if user memory is not accessible and nothing was read.
    fn read_bytes(&mut self, into: &mut [u8]) -> Result<usize>;

    /// Copies up to `len` bytes into `frame` at `offset`; returns how many there were. `offset + len` is within the
    /// page.
    ///
    /// Errors: as [`IoReader::read_bytes`].
    fn read_frame(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<usize>;

    /// The memory of the next `bytes` bytes, for a device to read; `None` if it cannot be lent. What was read is to be [skipped](IoReader::skip).
    fn lend(&mut self, _bytes: usize) -> Option<Lent> {
        None
    }

    /// So many bytes of lent memory have been taken.
    fn skip(&mut self, _bytes: usize) {}

    /// Fills `into` whole.
    ///
    /// Errors: `EFAULT`; `EINVAL` if the source ends before (part of it is then consumed).
    fn read_exact(&mut self, into: &mut [u8]) -> Result<()> {
        let wanted = into.len();
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_bytes(rest)? {
                0 => break,
                count => done += count,
            }
        }
        if done == wanted { Ok(()) } else { Err(Errno::EINVAL) }
    }
}

/// Writes into a kernel buffer of fixed size.
pub struct SliceWriter<'a> {
    buffer: &'a mut [u8],
    written: usize,
}

impl<'a> SliceWriter<'a> {
    /// A writer that fills `buffer` from its start.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        SliceWriter { buffer, written: 0 }
    }

    /// How many bytes have been written.
    pub fn written(&self) -> usize {
        self.written
    }

    fn place(&mut self, len: usize) -> &mut [u8] {
        let len = len.min(self.buffer.len() - self.written);
        let start = self.written;
        self.written += len;
        self.buffer.get_mut(start..start + len).unwrap_or_default()
    }
}

impl IoWriter for SliceWriter<'_> {
    fn remaining(&self) -> usize {
        self.buffer.len() - self.written
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<usize> {
        let place = self.place(bytes.len());
        let count = place.len();
        place.copy_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn write_frame(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<usize> {
        let place = self.place(len);
        frame.read(offset, place);
        Ok(place.len())
    }
}

/// Writes into a kernel vector that grows up to a limit.
pub struct VecWriter {
    bytes: Vec<u8>,
    limit: usize,
}

impl VecWriter {
    /// A writer that takes at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        VecWriter { bytes: Vec::new(), limit }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn place(&mut self, len: usize) -> Result<&mut [u8]> {
        let len = len.min(self.limit - self.bytes.len());
        let start = self.bytes.len();
        self.bytes.try_reserve(len).map_err(|_| Errno::ENOMEM)?;
        self.bytes.resize(start + len, 0);
        Ok(self.bytes.get_mut(start..).unwrap_or_default())
    }
}

impl IoWriter for VecWriter {
    fn remaining(&self) -> usize {
        self.limit - self.bytes.len()
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<usize> {
        let place = self.place(bytes.len())?;
        let count = place.len();
        place.copy_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn write_frame(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<usize> {
        let place = self.place(len)?;
        frame.read(offset, place);
        Ok(place.len())
    }
}

/// The first `left` bytes of a source: what a limit on sizes leaves of a write.
pub struct Limited<'a> {
    /// The source.
    pub from: &'a mut dyn IoReader,
    /// How many more bytes may be taken from it.
    pub left: usize,
}

impl IoReader for Limited<'_> {
    fn remaining(&self) -> usize {
        self.from.remaining().min(self.left)
    }

    fn read_bytes(&mut self, into: &mut [u8]) -> Result<usize> {
        let length = into.len().min(self.left);
        let count = self.from.read_bytes(into.get_mut(..length).unwrap_or_default())?;
        self.left -= count;
        Ok(count)
    }

    fn read_frame(&mut self, frame: &Frame, offset: usize, length: usize) -> Result<usize> {
        let count = self.from.read_frame(frame, offset, length.min(self.left))?;
        self.left -= count;
        Ok(count)
    }

    fn lend(&mut self, bytes: usize) -> Option<Lent> {
        if bytes <= self.left { self.from.lend(bytes) } else { None }
    }

    fn skip(&mut self, bytes: usize) {
        self.left -= bytes.min(self.left);
        self.from.skip(bytes);
    }
}

/// Reads from kernel memory.
pub struct SliceReader<'a> {
    rest: &'a [u8],
}

impl<'a> SliceReader<'a> {
    /// A reader of all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        SliceReader { rest: bytes }
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}

impl IoReader for SliceReader<'_> {
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn read_bytes(&mut self, into: &mut [u8]) -> Result<usize> {
        let taken = self.take(into.len());
        into.get_mut(..taken.len()).unwrap_or_default().copy_from_slice(taken);
        Ok(taken.len())
    }

    fn read_frame(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<usize> {
        let taken = self.take(len);
        frame.write(offset, taken);
        Ok(taken.len())
    }
}
