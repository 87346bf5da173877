//! Page tables of user address spaces, behind range operations.
//!
//! Key types: [`PageTable`], [`Mapping`], [`TlbBatch`]. Each table page of the lowest level has a spin lock of its own, so
//! that faults in different 2 MiB regions do not meet. Table pages are freed after an RCU grace period. The kernel half
//! is the same in all tables.
//!
//! Addresses must be page-aligned and below [`crate::USER_END`]; others panic (callers check what users give).

use alloc::sync::Arc;
use core::ops::Range;

use super::{Frame, OutOfMemory};

bitflags::bitflags! {
    /// What a mapping allows. Nothing set = present for the kernel's books but inaccessible (`PROT_NONE`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Perms: u8 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXEC = 4;
        /// A bit for the owner; the machine keeps it with the entry.
        const SOFT = 8;
    }
}

/// What an entry maps, borrowed under the leaf lock.
#[derive(Debug)]
pub struct MappingRef<'a> {
    /// The page.
    pub frame: &'a Frame,
    /// What it allows.
    pub perms: Perms,
    /// The processor has used it since the flag was last cleared.
    pub accessed: bool,
    /// The processor has written it since the flag was last cleared.
    pub dirty: bool,
}

/// What an entry maps.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// The page.
    pub frame: Frame,
    /// What it allows.
    pub perms: Perms,
    /// See [`MappingRef::accessed`].
    pub accessed: bool,
    /// See [`MappingRef::dirty`].
    pub dirty: bool,
}

/// What to do with an entry that was looked at under its lock.
#[derive(Debug)]
pub enum EntryAction {
    /// Leave it.
    Keep,
    /// Map this page (instead of what was there, if anything; that goes to the batch).
    Map(Frame, Perms),
    /// Keep the page, change what it allows.
    Protect(Perms),
    /// Keep everything, clear the accessed and dirty flags.
    Clean,
    /// Take the mapping away.
    Unmap,
}

/// How [`PageTable::copy_range_cow`] treats pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMode {
    /// Private: both sides lose WRITE.
    CopyOnWrite,
    /// Shared: entries are copied as they are.
    Shared,
}

/// The user half of an address space.
pub struct PageTable {
    _todo: (),
}

impl PageTable {
    /// An empty one.
    pub fn new() -> Result<Arc<PageTable>, OutOfMemory> {
        todo!()
    }

    /// Makes this CPU use it (kept alive meanwhile). With preemption or interrupts off, or from the thread that the table
    /// belongs to.
    pub fn activate(self: &Arc<PageTable>) {
        todo!()
    }

    /// Makes this CPU use no user table: user addresses all fault.
    pub fn activate_kernel() {
        todo!()
    }

    /// Maps a page where nothing is mapped. If something is mapped there already, nothing changes and the frame comes back.
    pub fn map(&self, address: usize, frame: Frame, perms: Perms) -> Result<Option<Frame>, OutOfMemory> {
        let _ = (address, frame, perms);
        todo!()
    }

    /// Maps up to `count` pages that `next` gives for consecutive addresses in one go (fault-around); where something is
    /// mapped, `next` is not called. `next` giving `None` leaves a hole. Runs under the leaf lock; stops at the end of the
    /// 2 MiB region. Gives how many were mapped.
    pub fn map_range(
        &self,
        range: Range<usize>,
        perms: Perms,
        next: impl FnMut(usize) -> Option<Frame>,
    ) -> Result<usize, OutOfMemory> {
        let _ = (range, perms, next);
        todo!()
    }

    /// What is mapped at an address.
    pub fn query(&self, address: usize) -> Option<Mapping> {
        let _ = address;
        todo!()
    }

    /// Looks at the entry under its leaf lock and does what `decide` says. `decide` must not sleep or use this table.
    /// Stale TLB entries and replaced frames go to `batch`.
    pub fn update<R>(
        &self,
        address: usize,
        batch: &mut TlbBatch<'_>,
        decide: impl FnOnce(Option<MappingRef<'_>>) -> (EntryAction, R),
    ) -> Result<R, OutOfMemory> {
        let _ = (address, batch, decide);
        todo!()
    }

    /// Calls `visit` for each mapping in the range, under the leaf locks, and does what it says ([`EntryAction::Map`]
    /// included). The one walk under unmap, protect, aging and the like.
    pub fn update_range(
        &self,
        range: Range<usize>,
        batch: &mut TlbBatch<'_>,
        visit: impl FnMut(usize, MappingRef<'_>) -> EntryAction,
    ) {
        let _ = (range, batch, visit);
        todo!()
    }

    /// Takes all mappings in the range away; `removed` sees each (for accounting).
    pub fn unmap_range(
        &self,
        range: Range<usize>,
        batch: &mut TlbBatch<'_>,
        mut removed: impl FnMut(usize, MappingRef<'_>),
    ) {
        self.update_range(range, batch, |address, mapping| {
            removed(address, mapping);
            EntryAction::Unmap
        });
    }

    /// Changes what the mappings in the range allow.
    pub fn protect_range(
        &self,
        range: Range<usize>,
        batch: &mut TlbBatch<'_>,
        mut perms: impl FnMut(usize, MappingRef<'_>) -> Perms,
    ) {
        self.update_range(range, batch, |address, mapping| EntryAction::Protect(perms(address, mapping)));
    }

    /// Copies the mappings of a range into `child`, sharing the pages (fork). `copied` sees each (for accounting).
    /// `batch` is of `self`. On failure a part has been copied.
    pub fn copy_range_cow(
        &self,
        child: &PageTable,
        range: Range<usize>,
        mode: CopyMode,
        batch: &mut TlbBatch<'_>,
        copied: impl FnMut(usize, &Frame),
    ) -> Result<(), OutOfMemory> {
        let _ = (child, range, mode, batch, copied);
        todo!()
    }

    /// Moves the mappings of a range to another place in the same table (`mremap`). Both must be equally long and must
    /// not overlap; the target must be empty.
    pub fn move_range(
        &self,
        from: Range<usize>,
        to: usize,
        batch: &mut TlbBatch<'_>,
    ) -> Result<(), OutOfMemory> {
        let _ = (from, to, batch);
        todo!()
    }

    /// Frees the table pages that lie wholly in the range; what is mapped there is unmapped.
    pub fn free_tables(&self, range: Range<usize>, batch: &mut TlbBatch<'_>) {
        let _ = (range, batch);
        todo!()
    }

    /// Bytes of table pages (for `VmPTE`).
    pub fn table_bytes(&self) -> usize {
        todo!()
    }

    /// Whether this is the table active on this CPU.
    pub fn is_active(&self) -> bool {
        todo!()
    }

    /// The CPUs that may hold TLB entries of it (for `membarrier` and the like).
    pub fn cpus(&self) -> crate::cpu::CpuSet {
        todo!()
    }
}

/// Collects TLB entries to be dropped and the frames they may still reach; [`TlbBatch::flush`] (also on drop) drops both.
pub struct TlbBatch<'t> {
    table: &'t PageTable,
}

impl<'t> TlbBatch<'t> {
    /// An empty batch for one table.
    pub fn new(table: &'t PageTable) -> TlbBatch<'t> {
        TlbBatch { table }
    }

    /// Drops the stale entries on all CPUs that use the table, then the frames. Interrupts must be on.
    pub fn flush(&mut self) {
        let _ = self.table;
        todo!()
    }
}

impl Drop for TlbBatch<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}
