//! Page frames: counted handles and the metadata of each.
//!
//! Key types: [`Frame`] (one page), [`FrameRun`] (2^n pages in a row), [`FrameState`] (its metadata).

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{OutOfMemory, PhysAddr};

bitflags::bitflags! {
    /// How to allocate.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct AllocFlags: u32 {
        /// The page must read as zeros. Without it the contents are whatever was there: overwrite before user space or
        /// anything secret-sensitive can see it.
        const ZEROED = 1;
        /// Fail rather than call the reclaim hook (implied where sleeping is not allowed).
        const NO_RECLAIM = 2;
        /// May use the last reserve (OOM victims, reclaim itself).
        const RESERVE = 4;
    }
    /// Flags of a page for the crates above; the machine does not look at them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct FrameFlags: u32 {
        /// Changed since it was last written back.
        const DIRTY = 1;
        /// Used recently.
        const REFERENCED = 2;
        /// Locked by whoever does I/O on it.
        const LOCKED = 4;
        /// Holds what it should (not still being read in).
        const UPTODATE = 8;
        /// Being written back.
        const WRITEBACK = 16;
        /// Belongs to no file.
        const ANONYMOUS = 32;
        /// `mlock`ed.
        const MLOCKED = 64;
        /// Free for the owner.
        const OWNER_1 = 128;
        /// Free for the owner.
        const OWNER_2 = 256;
        const _ = !0;
    }
}

/// The metadata of a page that the crates above may use; all zero in a newly allocated page. 32 bytes.
#[repr(C)]
#[derive(Debug)]
pub struct FrameState {
    pub(crate) references: AtomicU32,
    /// How many page-table entries map it (kept by `mm`).
    pub map_count: AtomicU32,
    flags: AtomicU32,
    pub(crate) private: AtomicU32,
    /// Whose page it is (kept by `mm`).
    pub mapping: AtomicU64,
    /// Where in its owner it is (kept by `mm`).
    pub index: AtomicU64,
}

impl FrameState {
    /// The flags now.
    pub fn flags(&self) -> FrameFlags {
        FrameFlags::from_bits_retain(self.flags.load(Ordering::Acquire))
    }
    /// Sets flags; gives those set before.
    pub fn set_flags(&self, flags: FrameFlags) -> FrameFlags {
        FrameFlags::from_bits_retain(self.flags.fetch_or(flags.bits(), Ordering::AcqRel))
    }
    /// Clears flags; gives those set before.
    pub fn clear_flags(&self, flags: FrameFlags) -> FrameFlags {
        FrameFlags::from_bits_retain(self.flags.fetch_and(!flags.bits(), Ordering::AcqRel))
    }
}

/// A counted handle of one 4 KiB page.
///
/// Other CPUs and user programs may write the page at the same time: reads see some mix, never anything unsafe.
pub struct Frame {
    number: u32,
}

impl Frame {
    /// Takes a free page. Calls the reclaim hook if there is none and the caller may sleep.
    pub fn alloc(flags: AllocFlags) -> Result<Frame, OutOfMemory> {
        let _ = flags;
        todo!()
    }
    /// How many handles and page-table entries share it.
    pub fn ref_count(&self) -> u32 {
        todo!()
    }
    /// Its physical address.
    pub fn phys(&self) -> PhysAddr {
        PhysAddr(u64::from(self.number) << crate::PAGE_SHIFT)
    }
    /// Its page frame number.
    pub fn number(&self) -> u64 {
        u64::from(self.number)
    }
    /// Its metadata.
    pub fn state(&self) -> &FrameState {
        todo!()
    }
    /// Whether both are the same page.
    pub fn is_same(&self, other: &Frame) -> bool {
        self.number == other.number
    }
    /// Copies out of the page. Panics if `offset + into.len()` is beyond the page.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        let _ = (offset, into);
        todo!()
    }
    /// Copies into the page. Panics if `offset + from.len()` is beyond the page.
    pub fn write(&self, offset: usize, from: &[u8]) {
        let _ = (offset, from);
        todo!()
    }
    /// Fills part of the page with zeros. Panics if the range is beyond the page.
    pub fn zero_range(&self, offset: usize, length: usize) {
        let _ = (offset, length);
        todo!()
    }
    /// Fills the page with zeros.
    pub fn zero(&self) {
        todo!()
    }
    /// Copies the whole page.
    pub fn copy_from(&self, source: &Frame) {
        let _ = source;
        todo!()
    }
    /// Copies from the page to user memory; gives the bytes copied before a fault. May sleep. Panics if the range is
    /// beyond the page.
    pub fn read_to_user(&self, offset: usize, address: usize, length: usize) -> usize {
        let _ = (offset, address, length);
        todo!()
    }
    /// Copies from user memory into the page; gives the bytes copied before a fault. May sleep. Panics if the range is
    /// beyond the page.
    pub fn write_from_user(&self, offset: usize, address: usize, length: usize) -> usize {
        let _ = (offset, address, length);
        todo!()
    }
    /// An aligned 32-bit word of the page as an atomic (futexes, the vvar page). Panics if misaligned or beyond the page.
    pub fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        let _ = offset;
        todo!()
    }
    /// An aligned 64-bit word of the page as an atomic. Panics if misaligned or beyond the page.
    pub fn atomic_u64(&self, offset: usize) -> &AtomicU64 {
        let _ = offset;
        todo!()
    }
}

impl Clone for Frame {
    fn clone(&self) -> Frame {
        todo!()
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        todo!()
    }
}

impl core::fmt::Debug for Frame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Frame({:#x})", self.number)
    }
}

/// The page of zeros that everyone shares. Must not be written: [`Frame::write`] and its like panic on it.
pub fn zero_frame() -> Frame {
    todo!()
}

/// 2^order pages in a row, owned.
#[derive(Debug)]
pub struct FrameRun {
    number: u32,
    order: u8,
}

impl FrameRun {
    /// Takes 2^order pages in a row, aligned to their size.
    pub fn alloc(order: u8, flags: AllocFlags) -> Result<FrameRun, OutOfMemory> {
        let _ = (order, flags);
        todo!()
    }
    /// Physical address of the first.
    pub fn phys(&self) -> PhysAddr {
        PhysAddr(u64::from(self.number) << crate::PAGE_SHIFT)
    }
    /// How many pages.
    pub fn pages(&self) -> usize {
        1 << self.order
    }
    /// Copies out of the run. Panics beyond its end.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        let _ = (offset, into);
        todo!()
    }
    /// Copies into the run. Panics beyond its end.
    pub fn write(&self, offset: usize, from: &[u8]) {
        let _ = (offset, from);
        todo!()
    }
    /// Splits it into single pages.
    pub fn into_frames(self) -> impl Iterator<Item = Frame> {
        core::iter::from_fn(|| todo!())
    }
}

impl Drop for FrameRun {
    fn drop(&mut self) {
        todo!()
    }
}
