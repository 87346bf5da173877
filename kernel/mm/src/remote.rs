//! Access to an address space from outside it: `/proc/PID/mem`, exec building a new stack, ptrace.
//!
//! Bytes are copied inside the leaf lock of the page table, so that the page cannot be exchanged (copy-on-write) under
//! the copy; missing pages are faulted in first. Works whether the address space is active or not.

use crate::fault::{FaultError, FaultInfo};
use crate::space::{AddressSpace, Limits};
use crate::stats::FrameKind;
use crate::vma::{Protection, VmaFlags};
use abi::errno::{Errno, Result};
use machine::memory::{EntryAction, EntryRef, MappingRef, Perms, TlbBatch};
use machine::user::FaultAccess;
use machine::{PAGE_SIZE, USER_END};

/// Which protections an access from outside obeys.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum RemoteAccess {
    /// Those of the mapping.
    Checked,
    /// Those the mapping could be given (a debugger reads what is not readable, and sets breakpoints in private text).
    Forced,
}

/// One page's part of a copy.
enum Part<'a> {
    Read(&'a mut [u8]),
    Write(&'a [u8]),
    Zero(usize),
}

impl Part<'_> {
    fn is_write(&self) -> bool {
        !matches!(self, Part::Read(_))
    }
}

impl AddressSpace {
    /// Copies from `address` on; returns how many bytes came before something was in the way.
    ///
    /// Errors: `EFAULT` if not even one.
    pub fn read_remote(&self, address: usize, into: &mut [u8], access: RemoteAccess) -> Result<usize> {
        let mut done = 0;
        while done < into.len() {
            let at = address.wrapping_add(done);
            let len = (PAGE_SIZE - at % PAGE_SIZE).min(into.len() - done);
            let Some(piece) = into.get_mut(done..done + len) else { break };
            if self.copy_part(at, Part::Read(piece), access).is_err() {
                break;
            }
            done += len;
        }
        if done == 0 && !into.is_empty() { Err(Errno::EFAULT) } else { Ok(done) }
    }

    /// Copies to `address` on; returns how many bytes went before something was in the way.
    ///
    /// Errors: `EFAULT` if not even one.
    pub fn write_remote(&self, address: usize, from: &[u8], access: RemoteAccess) -> Result<usize> {
        let mut done = 0;
        while done < from.len() {
            let at = address.wrapping_add(done);
            let len = (PAGE_SIZE - at % PAGE_SIZE).min(from.len() - done);
            let piece = from.get(done..done + len).unwrap_or_default();
            if self.copy_part(at, Part::Write(piece), access).is_err() {
                break;
            }
            done += len;
        }
        if done == 0 && !from.is_empty() { Err(Errno::EFAULT) } else { Ok(done) }
    }

    /// Zeroes `len` bytes (the rest of the last page of a program's data).
    ///
    /// Errors: `EFAULT`; a part may have been zeroed.
    pub fn zero_remote(&self, address: usize, len: usize) -> Result<()> {
        let mut done = 0;
        while done < len {
            let at = address.wrapping_add(done);
            let part = (PAGE_SIZE - at % PAGE_SIZE).min(len - done);
            self.copy_part(at, Part::Zero(part), RemoteAccess::Checked)?;
            done += part;
        }
        Ok(())
    }

    /// Copies within one page. Errors: `EFAULT`.
    fn copy_part(&self, address: usize, mut part: Part<'_>, access: RemoteAccess) -> Result<()> {
        if address >= USER_END {
            return Err(Errno::EFAULT);
        }
        let (page, offset) = (address & !(PAGE_SIZE - 1), address % PAGE_SIZE);
        let needed = if part.is_write() { Perms::WRITE } else { Perms::READ };
        // Each round either copies or makes progress in a fault; a page may be taken away in between, so try again.
        loop {
            let forced = self.may_force(page, &part, access)?;
            let mut batch = TlbBatch::new(self.page_table());
            let copied = self.page_table().update(page, &mut batch, |entry| match entry {
                Some(EntryRef::Page(mapping))
                    if mapping.perms.contains(needed) || forced && may_touch(&mapping, &part) =>
                {
                    copy_within(&mapping, offset, &mut part);
                    (EntryAction::Keep, true)
                }
                _ => (EntryAction::Keep, false),
            })?;
            if copied {
                return Ok(());
            }
            let access = if part.is_write() { FaultAccess::WRITE } else { FaultAccess::READ };
            self.fault_remote(page, access, forced)?;
        }
    }

    fn fault_remote(&self, page: usize, access: FaultAccess, forced: bool) -> Result<()> {
        let fault = FaultInfo { address: page, access, present: false };
        let no_growth = || Limits { stack: 0, ..Limits::UNLIMITED };
        let resolved =
            if forced { self.handle_forced_fault(&fault) } else { self.handle_fault(&fault, no_growth) };
        resolved.map_err(|error| match error {
            FaultError::OutOfMemory => Errno::ENOMEM,
            FaultError::Interrupted => Errno::EINTR,
            FaultError::NotMapped | FaultError::AccessDenied | FaultError::BusError => Errno::EFAULT,
        })
    }

    /// Whether the access goes beyond the mapping's protection and may. Errors: `EFAULT`.
    fn may_force(&self, page: usize, part: &Part<'_>, access: RemoteAccess) -> Result<bool> {
        let wanted = if part.is_write() { Protection::WRITE } else { Protection::READ };
        let verdict = self.with_vma(page, |vma| {
            if vma.protection().contains(wanted) {
                return Ok(false);
            }
            let may = match part {
                Part::Read(_) => vma.flags().contains(VmaFlags::MAY_READ),
                // Only copies of the program's own.
                _ => vma.flags().contains(VmaFlags::MAY_WRITE) && !vma.is_shared(),
            };
            if access == RemoteAccess::Forced && may { Ok(true) } else { Err(Errno::EFAULT) }
        });
        verdict.unwrap_or(Ok(false))
    }
}

/// Whether a debugger may touch the page as it is: read any, write only what is the program's alone.
fn may_touch(mapping: &MappingRef<'_>, part: &Part<'_>) -> bool {
    !part.is_write() || FrameKind::of(mapping.frame) == FrameKind::Anonymous && mapping.frame.ref_count() == 1
}

fn copy_within(mapping: &MappingRef<'_>, offset: usize, part: &mut Part<'_>) {
    match part {
        Part::Read(into) => mapping.frame.read(offset, into),
        Part::Write(from) => mapping.frame.write(offset, from),
        Part::Zero(len) => mapping.frame.zero_range(offset, *len),
    }
}
