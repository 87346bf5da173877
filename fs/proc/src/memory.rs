//! `/proc/PID/mem`: a process's memory as a file (proc_pid_mem(5)), offset = address.
//!
//! Who may open it is ptrace(2)'s rule; the open file keeps the address space as it was then, so that an exec does not give
//! a new program's memory away. Bytes go through one page of kernel memory. Locks: none.

use crate::process::ProcessDirectory;
use abi::errno::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use machine::PAGE_SIZE;
use mm::io::{IoReader, IoWriter};
use mm::{AddressSpace, RemoteAccess};
use vfs::{File, FileOperations, SeekFrom};

/// The open file.
struct MemoryFile {
    /// Weak: looking at a program does not keep its memory when it ends.
    space: Weak<AddressSpace>,
}

/// Opens it. Errors: `EACCES`, `ESRCH`.
pub fn open(directory: &ProcessDirectory) -> Result<Arc<dyn FileOperations>> {
    directory.check_access()?;
    let space = directory.process()?.space().map_or(Weak::new(), |space| Arc::downgrade(&space));
    Ok(Arc::new(MemoryFile { space }))
}

/// The part of the page at `offset` that a transfer of `remaining` bytes touches first; `None` past all addresses.
fn next_part(offset: u64, remaining: usize) -> Option<(usize, usize)> {
    let address = usize::try_from(offset).ok().filter(|address| *address < machine::USER_END)?;
    Some((address, (PAGE_SIZE - address % PAGE_SIZE).min(remaining)))
}

fn page_buffer() -> Result<Vec<u8>> {
    let mut page = Vec::new();
    page.try_reserve_exact(PAGE_SIZE).map_err(|_| Errno::ENOMEM)?;
    page.resize(PAGE_SIZE, 0);
    Ok(page)
}

/// Repeats `step` (which gives what it moved) until nothing is left or something is in the way. Errors: that of the first
/// step, as `EIO` if there is no memory.
fn repeat(offset: u64, mut step: impl FnMut(u64) -> Result<usize>) -> Result<usize> {
    let mut done = 0;
    loop {
        match step(offset.wrapping_add(done as u64)) {
            Ok(0) => return Ok(done),
            Ok(count) => done += count,
            Err(_) if done > 0 => return Ok(done),
            Err(error) => return Err(error),
        }
        if sched::current().signal_pending.load(core::sync::atomic::Ordering::Relaxed) {
            return Ok(done);
        }
    }
}

impl FileOperations for MemoryFile {
    fn read(&self, _file: &File, to: &mut dyn IoWriter, offset: u64) -> Result<usize> {
        let Some(space) = self.space.upgrade() else { return Ok(0) };
        let mut page = page_buffer()?;
        repeat(offset, |offset| {
            let Some((address, wanted)) = next_part(offset, to.remaining()) else { return Err(Errno::EIO) };
            let part = page.get_mut(..wanted).unwrap_or_default();
            let read = space.read_remote(address, part, RemoteAccess::Forced).map_err(|_| Errno::EIO)?;
            to.write_bytes(part.get(..read).unwrap_or_default())
        })
    }

    fn write(&self, _file: &File, from: &mut dyn IoReader, offset: u64) -> Result<usize> {
        let Some(space) = self.space.upgrade() else { return Ok(0) };
        let mut page = page_buffer()?;
        repeat(offset, |offset| {
            let Some((address, wanted)) = next_part(offset, from.remaining()) else { return Err(Errno::EIO) };
            let part = page.get_mut(..wanted).unwrap_or_default();
            let read = from.read_bytes(part)?;
            let bytes = part.get(..read).unwrap_or_default();
            space.write_remote(address, bytes, RemoteAccess::Forced).map_err(|_| Errno::EIO)
        })
    }

    /// Addresses above the middle are negative offsets: allowed. `EINVAL` for what cannot be.
    fn seek(&self, _file: &File, from: SeekFrom, current: u64) -> Result<u64> {
        match from {
            SeekFrom::Start(offset) => Ok(offset as u64),
            SeekFrom::Current(offset) => Ok(current.wrapping_add(offset as u64)),
            SeekFrom::End(_) | SeekFrom::Data(_) | SeekFrom::Hole(_) => Err(Errno::EINVAL),
        }
    }
}
