//! Page frames: counted handles and the metadata of each.
//!
//! Key types: [`Frame`] (one page), [`FrameRun`] (2^n pages in a row), [`FrameState`] (its metadata).

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::buddy::{self, Urgency};
use super::{OutOfMemory, PhysAddr, copy};
use crate::sync::Once;
use crate::sync::raw::RawSpinLock;
use crate::{PAGE_SIZE, USER_END, arch};

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
        /// Free for the owner.
        const OWNER_3 = 512;
        /// Free for the owner.
        const OWNER_4 = 1024;
        /// Free for the owner.
        const OWNER_5 = 2048;
        /// Free for the owner.
        const OWNER_6 = 4096;
        /// Known to swap space by the slot in its `index`.
        const SWAP_CACHED = 8192;
        const _ = !0;
    }
}

/// The metadata of a page that the crates above may use; all zero in a newly allocated page. 32 bytes.
#[repr(C)]
pub struct FrameState {
    pub(crate) references: AtomicU32,
    /// How many loans of it to devices that write it are running (kept by `mm`): until they end it is shared with nobody.
    pub loans: AtomicU32,
    flags: AtomicU32,
    /// The lock of a page table; unused in other pages.
    pub(crate) lock: RawSpinLock,
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

    /// Whether some device may write it.
    #[inline]
    pub fn is_lent(&self) -> bool {
        self.loans.load(Ordering::Acquire) != 0
    }

    /// Makes it the state of a new page with one reference.
    #[inline(always)]
    pub(crate) fn reset(&self) {
        self.loans.store(0, Ordering::Relaxed);
        self.flags.store(0, Ordering::Relaxed);
        self.lock.reset();
        self.mapping.store(0, Ordering::Relaxed);
        self.index.store(0, Ordering::Relaxed);
        self.references.store(1, Ordering::Relaxed);
    }

    /// The flags as a word, for pages that the machine itself uses.
    #[inline(always)]
    pub(crate) fn raw_flags(&self) -> &AtomicU32 {
        &self.flags
    }

    /// A count for pages that the machine itself uses.
    #[inline(always)]
    pub(crate) fn raw_count(&self) -> &AtomicU32 {
        &self.loans
    }

    /// The next and previous page of a list that the machine keeps.
    #[inline(always)]
    pub(crate) fn links(&self) -> (u32, u32) {
        let links = self.mapping.load(Ordering::Relaxed);
        (links as u32, (links >> 32) as u32)
    }
    #[inline(always)]
    pub(crate) fn set_links(&self, next: u32, previous: u32) {
        self.mapping.store(u64::from(next) | u64::from(previous) << 32, Ordering::Relaxed);
    }
    #[inline(always)]
    pub(crate) fn set_next(&self, next: u32) {
        self.set_links(next, self.links().1);
    }
    #[inline(always)]
    pub(crate) fn set_previous(&self, previous: u32) {
        self.set_links(self.links().0, previous);
    }
}

const _: () = assert!(size_of::<FrameState>() == 32);
/// More references than there can be handles; beyond it the count could wrap.
const MAX_REFERENCES: u32 = 0x4000_0000;

/// A counted handle of one 4 KiB page.
///
/// Other CPUs and user programs may write the page at the same time: reads see some mix, never anything unsafe.
///
/// # Invariants
/// `number` came from the frame allocator, and one of the page's references is this handle's.
pub struct Frame {
    number: u32,
}

impl Frame {
    /// Takes a free page. Calls the reclaim hook if there is none and the caller may sleep.
    #[inline]
    pub fn alloc(flags: AllocFlags) -> Result<Frame, OutOfMemory> {
        let urgency = if flags.contains(AllocFlags::RESERVE) { Urgency::Last } else { Urgency::Normal };
        let number = match buddy::alloc_page(urgency) {
            Ok(number) => number,
            Err(OutOfMemory) => alloc_slow(flags, urgency, |urgency| buddy::alloc_page(urgency).ok())?,
        };
        // SAFETY: the page was just handed to us.
        unsafe { buddy::state_of(number) }.reset();
        let frame = Frame { number };
        if flags.contains(AllocFlags::ZEROED) {
            // SAFETY: the page is ours alone.
            unsafe { copy::zero(frame.address(), PAGE_SIZE) };
        }
        Ok(frame)
    }

    /// The handle whose reference a page-table entry (or a list of the machine) held.
    ///
    /// # Safety
    /// The page is in use as a frame, and the caller gives one reference of it to the handle.
    #[inline(always)]
    pub(crate) unsafe fn from_number(number: u32) -> Frame {
        Frame { number }
    }

    /// Gives the handle's reference to whoever keeps the number.
    #[inline(always)]
    pub(crate) fn into_number(self) -> u32 {
        core::mem::ManuallyDrop::new(self).number
    }

    /// How many handles and page-table entries share it.
    #[inline]
    pub fn ref_count(&self) -> u32 {
        self.state().references.load(Ordering::Acquire)
    }
    /// Its physical address.
    #[inline]
    pub fn phys(&self) -> PhysAddr {
        PhysAddr(u64::from(self.number) << crate::PAGE_SHIFT)
    }
    /// Its page frame number.
    #[inline]
    pub fn number(&self) -> u64 {
        u64::from(self.number)
    }
    /// Its metadata.
    #[inline(always)]
    pub fn state(&self) -> &FrameState {
        // SAFETY: a frame's number is a managed page's.
        unsafe { buddy::state_of(self.number) }
    }
    /// Whether both are the same page.
    #[inline]
    pub fn is_same(&self, other: &Frame) -> bool {
        self.number == other.number
    }
    /// Whether it is the shared page of zeros.
    #[inline]
    pub fn is_zero_frame(&self) -> bool {
        ZERO_FRAME.get().is_some_and(|zero| zero.number == self.number)
    }

    #[inline(always)]
    fn address(&self) -> *mut u8 {
        buddy::page_address(self.number)
    }

    /// Checks a range and gives its address.
    #[inline]
    fn at(&self, offset: usize, length: usize) -> *mut u8 {
        assert!(offset <= PAGE_SIZE && length <= PAGE_SIZE - offset, "beyond the page: {offset}+{length}");
        // SAFETY: within the page.
        unsafe { self.address().add(offset) }
    }

    #[inline]
    fn at_for_write(&self, offset: usize, length: usize) -> *mut u8 {
        assert!(!self.is_zero_frame(), "writing the zero frame");
        self.at(offset, length)
    }

    /// Copies out of the page. Panics if `offset + into.len()` is beyond the page.
    #[inline]
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        // SAFETY: the page is ours to read, concurrent writers are `copy`'s business.
        unsafe { copy::copy(into.as_mut_ptr(), self.at(offset, into.len()), into.len()) };
    }
    /// Copies into the page. Panics if `offset + from.len()` is beyond the page.
    #[inline]
    pub fn write(&self, offset: usize, from: &[u8]) {
        // SAFETY: as in `read`.
        unsafe { copy::copy(self.at_for_write(offset, from.len()), from.as_ptr(), from.len()) };
    }
    /// Fills part of the page with zeros. Panics if the range is beyond the page.
    #[inline]
    pub fn zero_range(&self, offset: usize, length: usize) {
        // SAFETY: as in `read`.
        unsafe { copy::zero(self.at_for_write(offset, length), length) };
    }
    /// Fills the page with zeros.
    #[inline]
    pub fn zero(&self) {
        self.zero_range(0, PAGE_SIZE);
    }
    /// Copies the whole page.
    #[inline]
    pub fn copy_from(&self, source: &Frame) {
        if !self.is_same(source) {
            // SAFETY: as in `read`; different pages do not overlap.
            unsafe { copy::copy(self.at_for_write(0, PAGE_SIZE), source.address(), PAGE_SIZE) };
        }
    }
    /// Copies from the page to user memory; gives the bytes copied before a fault. May sleep. Panics if the range is
    /// beyond the page.
    pub fn read_to_user(&self, offset: usize, address: usize, length: usize) -> usize {
        let source = self.at(offset, length);
        if !user_range(address, length) {
            return 0;
        }
        // SAFETY: the range is user memory, and the page is valid; a fault ends the copy.
        length - unsafe { arch::copy_to_user(address, source, length) }
    }
    /// Copies from user memory into the page; gives the bytes copied before a fault. May sleep. Panics if the range is
    /// beyond the page.
    pub fn write_from_user(&self, offset: usize, address: usize, length: usize) -> usize {
        let destination = self.at_for_write(offset, length);
        if !user_range(address, length) {
            return 0;
        }
        // SAFETY: as in `read_to_user`.
        length - unsafe { arch::copy_from_user(destination, address, length) }
    }
    /// An aligned 32-bit word of the page as an atomic (futexes, the vvar page). Panics if misaligned or beyond the page.
    #[inline]
    pub fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4));
        // SAFETY: aligned, within the page, which lives as long as the handle; all access to pages is atomic or opaque.
        unsafe { AtomicU32::from_ptr(self.at_for_write(offset, 4).cast()) }
    }
    /// An aligned 64-bit word of the page as an atomic. Panics if misaligned or beyond the page.
    #[inline]
    pub fn atomic_u64(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8));
        // SAFETY: as in `atomic_u32`.
        unsafe { AtomicU64::from_ptr(self.at_for_write(offset, 8).cast()) }
    }
}

/// Whether a range is user memory.
#[inline(always)]
pub(crate) fn user_range(address: usize, length: usize) -> bool {
    address <= USER_END && length <= USER_END - address
}

#[cold]
fn alloc_slow<R>(
    flags: AllocFlags,
    urgency: Urgency,
    mut attempt: impl FnMut(Urgency) -> Option<R>,
) -> Result<R, OutOfMemory> {
    if flags.contains(AllocFlags::NO_RECLAIM) {
        return Err(OutOfMemory);
    }
    if !crate::thread::is_freeing_memory()
        && let Some(result) = super::retry(|| attempt(urgency)).or_else(|| attempt(urgency))
    {
        return Ok(result);
    }
    let must_go_on = crate::thread::is_freeing_memory() || crate::thread::is_in_file_system();
    must_go_on.then(|| attempt(Urgency::Last)).flatten().ok_or(OutOfMemory)
}

impl Clone for Frame {
    #[inline]
    fn clone(&self) -> Frame {
        let before = self.state().references.fetch_add(1, Ordering::Relaxed);
        assert!(before < MAX_REFERENCES, "too many references to a frame");
        Frame { number: self.number }
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        let state = self.state();
        // The only reference is ours: nobody else can make another one, so no atomic subtraction is needed.
        if state.references.load(Ordering::Acquire) != 1 {
            if state.references.fetch_sub(1, Ordering::Release) != 1 {
                return;
            }
            fence(Ordering::Acquire);
        }
        // SAFETY: the last reference is gone.
        unsafe { buddy::free_page(self.number) };
    }
}

impl core::fmt::Debug for Frame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Frame({:#x})", self.number)
    }
}

impl core::fmt::Debug for FrameState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FrameState")
            .field("references", &self.references)
            .field("loans", &self.loans)
            .field("flags", &self.flags())
            .field("mapping", &self.mapping)
            .field("index", &self.index)
            .finish()
    }
}

static ZERO_FRAME: Once<Frame> = Once::new();

/// The page of zeros that everyone shares. Must not be written: [`Frame::write`] and its like panic on it. Panics if
/// there is no memory at the first call (boot).
pub fn zero_frame() -> Frame {
    ZERO_FRAME
        .get_or_init(|| {
            Frame::alloc(AllocFlags::ZEROED | AllocFlags::RESERVE | AllocFlags::NO_RECLAIM)
                .expect("memory at boot")
        })
        .clone()
}

/// 2^order pages in a row, owned.
///
/// # Invariants
/// The pages came from the frame allocator as a block and belong to this value alone.
#[derive(Debug)]
pub struct FrameRun {
    number: u32,
    order: u8,
}

impl FrameRun {
    /// Takes 2^order pages in a row, aligned to their size.
    pub fn alloc(order: u8, flags: AllocFlags) -> Result<FrameRun, OutOfMemory> {
        let urgency = if flags.contains(AllocFlags::RESERVE) { Urgency::Last } else { Urgency::Normal };
        let number = match buddy::alloc_block(order, urgency) {
            Ok(number) => number,
            Err(OutOfMemory) => {
                alloc_slow(flags, urgency, |urgency| buddy::alloc_block(order, urgency).ok())?
            }
        };
        let run = FrameRun { number, order };
        if flags.contains(AllocFlags::ZEROED) {
            // SAFETY: the pages are ours alone.
            unsafe { copy::zero(buddy::page_address(number), PAGE_SIZE << order) };
        }
        Ok(run)
    }
    /// The same, all of it below the physical address `limit`. Looks at a few free blocks of each size only, so that it may
    /// fail although there is such memory: for what drivers need at their start.
    pub fn alloc_below(order: u8, limit: u64, flags: AllocFlags) -> Result<FrameRun, OutOfMemory> {
        let number = buddy::alloc_block_below(order, limit)?;
        let run = FrameRun { number, order };
        if flags.contains(AllocFlags::ZEROED) {
            // SAFETY: the pages are ours alone.
            unsafe { copy::zero(buddy::page_address(number), PAGE_SIZE << order) };
        }
        Ok(run)
    }
    /// Physical address of the first.
    pub fn phys(&self) -> PhysAddr {
        PhysAddr(u64::from(self.number) << crate::PAGE_SHIFT)
    }
    /// Where a number of `width` bytes is. Panics if it is misaligned or beyond the end.
    #[inline]
    pub(crate) fn place(&self, offset: usize, width: usize) -> *mut u8 {
        assert!(offset.is_multiple_of(width), "misaligned in a run");
        self.at(offset, width)
    }
    /// How many pages.
    pub fn pages(&self) -> usize {
        1 << self.order
    }
    fn at(&self, offset: usize, length: usize) -> *mut u8 {
        let bytes = PAGE_SIZE << self.order;
        assert!(offset <= bytes && length <= bytes - offset, "beyond the run");
        // SAFETY: within the run.
        unsafe { buddy::page_address(self.number).add(offset) }
    }
    /// Copies out of the run. Panics beyond its end.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        // SAFETY: the pages are ours; devices may write them meanwhile, which is `copy`'s business.
        unsafe { copy::copy(into.as_mut_ptr(), self.at(offset, into.len()), into.len()) };
    }
    /// Copies into the run. Panics beyond its end.
    pub fn write(&self, offset: usize, from: &[u8]) {
        // SAFETY: as in `read`.
        unsafe { copy::copy(self.at(offset, from.len()), from.as_ptr(), from.len()) };
    }
    /// Splits it into single pages.
    pub fn into_frames(self) -> impl Iterator<Item = Frame> {
        let this = core::mem::ManuallyDrop::new(self);
        let mut rest = Rest { next: this.number, end: this.number + (1 << this.order) };
        for number in rest.next..rest.end {
            // SAFETY: the pages are ours.
            unsafe { buddy::state_of(number) }.reset();
        }
        core::iter::from_fn(move || rest.next())
    }
}

/// Pages of a run that have not become frames yet.
struct Rest {
    next: u32,
    end: u32,
}

impl Rest {
    fn next(&mut self) -> Option<Frame> {
        (self.next < self.end).then(|| {
            self.next += 1;
            Frame { number: self.next - 1 }
        })
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        while self.next().is_some() {}
    }
}

impl Drop for FrameRun {
    fn drop(&mut self) {
        // SAFETY: the pages are ours and nobody has a use for them any more.
        unsafe { buddy::free_range(self.number, 1 << self.order) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_and_counts() {
        let frame = Frame::alloc(AllocFlags::ZEROED).unwrap();
        let mut bytes = [1; 5];
        frame.read(4091, &mut bytes);
        assert_eq!(bytes, [0; 5]);
        frame.write(100, b"hello");
        let copy = Frame::alloc(AllocFlags::empty()).unwrap();
        copy.copy_from(&frame);
        copy.read(100, &mut bytes);
        assert_eq!(&bytes, b"hello");
        let other = frame.clone();
        assert_eq!(frame.ref_count(), 2);
        drop(frame);
        assert_eq!(other.ref_count(), 1);
        other.state().set_flags(FrameFlags::DIRTY);
        assert!(other.state().flags().contains(FrameFlags::DIRTY));
    }

    #[test]
    #[should_panic(expected = "beyond the page")]
    fn reads_end_at_the_page() {
        Frame::alloc(AllocFlags::empty()).unwrap().read(4095, &mut [0; 2]);
    }

    #[test]
    #[should_panic(expected = "zero frame")]
    fn zero_frame_is_read_only() {
        zero_frame().write(0, &[1]);
    }

    #[test]
    fn runs_split() {
        let run = FrameRun::alloc(3, AllocFlags::ZEROED).unwrap();
        let first = run.phys();
        let frames: Vec<_> = run.into_frames().take(5).collect();
        assert_eq!(frames.len(), 5);
        assert_eq!(frames[4].phys().0, first.0 + 4 * 4096);
    }
}
