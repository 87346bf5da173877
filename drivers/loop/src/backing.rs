//! What is behind a loop device: a file, the part of it that is shown, and the work on it.
//!
//! Key types: [`Backing`], `Requests`. Transfers go through read and write of the file, in a thread of the device's own, because they sleep; so
//! they meet the file's page cache like everybody's. Locks: none; see `device`.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use block::{Operation, Request, Segment};
use machine::memory::Frame;
use mm::io::{IoReader, IoWriter};
use vfs::{Allocate, File, FileKind, SyncKind};

use crate::status::LoopFlags;

/// Bytes that are copied between two pages at once.
const COPY_AT_ONCE: usize = 256;

/// What is behind a bound device.
#[derive(Clone)]
pub(crate) struct Backing {
    pub(crate) file: Arc<File>,
    /// Where the disk begins in it, bytes.
    pub(crate) offset: u64,
    /// The most that is shown, bytes; 0: all.
    pub(crate) size_limit: u64,
    pub(crate) flags: LoopFlags,
    /// What the one who bound it calls it.
    pub(crate) name: [u8; 64],
    pub(crate) crypt_name: [u8; 64],
}

impl Backing {
    /// How many sectors are shown now.
    pub(crate) fn sectors(&self) -> Result<u64> {
        let inode = self.file.inode()?;
        let size = match inode.kind() {
            FileKind::BlockDevice => block::find(inode.special_device()).ok_or(Errno::ENXIO)?.size(),
            _ => inode.size(),
        };
        let left = size.saturating_sub(self.offset);
        let shown = if self.size_limit > 0 { left.min(self.size_limit) } else { left };
        Ok(shown / block::SECTOR_SIZE as u64)
    }

    /// Does what a request asks for. Errors: `EIO`; `EOPNOTSUPP`: the file cannot have holes.
    pub(crate) fn carry_out(&self, request: &Request) -> Result<()> {
        let sector_size = block::SECTOR_SIZE as u64;
        let start = request.sector.checked_mul(sector_size).and_then(|at| at.checked_add(self.offset));
        let start = start.ok_or(Errno::EIO)?;
        let length = request.sectors.saturating_mul(sector_size);
        match request.operation {
            Operation::Read => self.read(start, request),
            Operation::Write => self.write(start, request),
            Operation::Flush => match self.file.operations().sync(&self.file, SyncKind::Data) {
                Ok(()) | Err(Errno::EINVAL) => Ok(()),
                Err(_) => Err(Errno::EIO),
            },
            Operation::Discard | Operation::WriteZeroes => {
                let hole = Allocate::PunchHole;
                match self.file.allocate(hole, start, length) {
                    Ok(()) => Ok(()),
                    Err(Errno::EOPNOTSUPP) => Err(Errno::EOPNOTSUPP),
                    Err(_) => Err(Errno::EIO),
                }
            }
        }
    }

    /// What lies behind the end of the file is zeros.
    fn read(&self, start: u64, request: &Request) -> Result<()> {
        let mut at = start;
        for segment in request.segments() {
            let mut part = Part::new(segment);
            while part.left > 0 {
                let count = self.file.read_at(&mut part, at).map_err(|_| Errno::EIO)?;
                at += count as u64;
                if count == 0 {
                    segment.frame.zero_range(part.at, part.left);
                    at += part.left as u64;
                    break;
                }
            }
        }
        Ok(())
    }

    fn write(&self, start: u64, request: &Request) -> Result<()> {
        let mut at = start;
        for segment in request.segments() {
            let mut part = Part::new(segment);
            while part.left > 0 {
                match self.file.write_at(&mut part, at) {
                    Ok(count) if count > 0 => at += count as u64,
                    Err(Errno::ENOSPC) => return Err(Errno::ENOSPC),
                    _ => return Err(Errno::EIO),
                }
            }
        }
        Ok(())
    }
}

/// The rest of a segment, as a place to read to or write from.
struct Part<'a> {
    frame: &'a Frame,
    at: usize,
    left: usize,
}

impl<'a> Part<'a> {
    fn new(segment: &'a Segment) -> Part<'a> {
        Part { frame: &segment.frame, at: segment.offset as usize, left: segment.length as usize }
    }

    /// The next `length` bytes at most: where they are, and how many.
    fn take(&mut self, length: usize) -> (usize, usize) {
        let (at, length) = (self.at, length.min(self.left));
        (self.at, self.left) = (at + length, self.left - length);
        (at, length)
    }
}

/// Copies between two pages.
fn copy(from: (&Frame, usize), to: (&Frame, usize), length: usize) {
    if length == machine::PAGE_SIZE {
        return to.0.copy_from(from.0);
    }
    let mut buffer = [0; COPY_AT_ONCE];
    let mut done = 0;
    while done < length {
        let piece = buffer.get_mut(..(length - done).min(COPY_AT_ONCE)).unwrap_or_default();
        from.0.read(from.1 + done, piece);
        to.0.write(to.1 + done, piece);
        done += piece.len();
    }
}

impl IoWriter for Part<'_> {
    fn remaining(&self) -> usize {
        self.left
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<usize> {
        let (at, length) = self.take(bytes.len());
        self.frame.write(at, bytes.get(..length).unwrap_or_default());
        Ok(length)
    }

    fn write_frame(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<usize> {
        let (at, length) = self.take(len);
        copy((frame, offset), (self.frame, at), length);
        Ok(length)
    }
}

impl IoReader for Part<'_> {
    fn remaining(&self) -> usize {
        self.left
    }

    fn read_bytes(&mut self, into: &mut [u8]) -> Result<usize> {
        let (at, length) = self.take(into.len());
        self.frame.read(at, into.get_mut(..length).unwrap_or_default());
        Ok(length)
    }

    fn read_frame(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<usize> {
        let (at, length) = self.take(len);
        copy((self.frame, at), (frame, offset), length);
        Ok(length)
    }
}
