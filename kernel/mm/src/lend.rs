//! Pages of programs lent to devices, so that `O_DIRECT` needs no copy.
//!
//! What a device reads needs a reference only: the page stays, whatever becomes of the mapping. What it **writes** must also stay the program's, for
//! as long as the loan lasts. So such a page is private memory that the program may write already, and [`FrameState::loans`] of it says so to those who
//! would take it away:
//! * reclaim leaves it where it is (`swap::out`);
//! * a fork gives the child a copy at once, instead of one of the two later ([`machine::memory::PageTable::copy_range_cow`]);
//! * a store after the mapping was read-only for a while is made in place (`swap::is_exclusive`).
//!
//! Pages of files are not lent to be written: write-back would not learn of what the device does. Who cannot lend copies.
//!
//! Key type: [`Lent`]. Locks: leaf locks of the page table, under which loans begin; they end anywhere.
//!
//! [`FrameState::loans`]: machine::memory::FrameState::loans

use crate::stats::FrameKind;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use machine::PAGE_SIZE;
use machine::memory::{EntryAction, Frame, MappingRef, PageTable, Perms, TlbBatch};
use machine::user as copy;

/// Which way the bytes go.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Lending {
    /// The device reads the pages.
    ToRead,
    /// The device writes them.
    ToWrite,
}

/// Pages that a program lends, in the order of their addresses; dropping it ends the loan.
#[derive(Debug)]
pub struct Lent {
    frames: Vec<Frame>,
    lending: Lending,
}

impl Lent {
    /// The pages.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Takes the pages of a range of addresses, as far as they are mapped and can be lent.
    fn collect(&mut self, table: &PageTable, range: Range<usize>) {
        let mut next = range.start;
        let mut batch = TlbBatch::new(table);
        table.update_range(range, &mut batch, |address, mapping| {
            if address == next && self.can_have(&mapping) {
                if self.lending == Lending::ToWrite {
                    mapping.frame.state().loans.fetch_add(1, Ordering::Relaxed);
                }
                // There is room for all that are wanted.
                self.frames.push(mapping.frame.clone());
                next += PAGE_SIZE;
            }
            EntryAction::Keep
        });
    }

    fn can_have(&self, mapping: &MappingRef<'_>) -> bool {
        match self.lending {
            Lending::ToRead => mapping.perms.contains(Perms::READ),
            Lending::ToWrite => {
                mapping.perms.contains(Perms::WRITE) && FrameKind::of(mapping.frame) == FrameKind::Anonymous
            }
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.lending == Lending::ToWrite {
            for frame in &self.frames {
                // What the device wrote is there for whoever copies the page from now on.
                frame.state().loans.fetch_sub(1, Ordering::Release);
            }
        }
    }
}

/// Borrows the pages of `bytes` bytes from `address` on, of the address space active on this CPU. `None` if they do not begin with a page, or cannot be
/// lent, or there is no memory for the list. Thread context; faults the pages in.
pub(crate) fn lend(address: usize, bytes: usize, lending: Lending) -> Option<Lent> {
    if !address.is_multiple_of(PAGE_SIZE) || !crate::user::is_user_range(address, bytes) {
        return None;
    }
    let table = PageTable::active()?;
    let pages = bytes.div_ceil(PAGE_SIZE);
    let end = address + pages * PAGE_SIZE;
    let mut frames = Vec::new();
    frames.try_reserve_exact(pages).ok()?;
    let mut lent = Lent { frames, lending };
    let mut touched = None;
    loop {
        lent.collect(&table, address + lent.frames.len() * PAGE_SIZE..end);
        let missing = address + lent.frames.len() * PAGE_SIZE;
        if missing == end {
            return Some(lent);
        }
        // A page that is not lent though it is there now never is.
        if touched == Some(missing) {
            return None;
        }
        touched = Some(missing);
        match lending {
            Lending::ToRead => copy::read_u32_atomic(missing).map(drop),
            // Stores what is there.
            Lending::ToWrite => copy::fetch_update_u32(missing, |word| word).map(drop),
        }
        .ok()?;
    }
}
