//! Memory that a device reads and writes.
//!
//! Key types: [`DmaRegion`] (pages in a row for rings and tables), [`DmaAddress`] (where a device finds memory). Nobody ever has a
//! reference into such memory: it is read and written by numbers, each at once, or copied where the compiler does not look.
//! Devices of today's machines see physical addresses: there is no IOMMU. A device that cannot reach all of them is given
//! memory of [`DmaRegion::alloc_below`], through which its driver copies.
//!
//! Order: [`publish`] between what is handed over and the word that says so; [`acquire`] after reading such a word;
//! [`settle`] between a word written and another one read that the device writes.
//!
//! No locks.

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use crate::PAGE_SIZE;
use crate::memory::{AllocFlags, Frame, FrameRun, ORDERS, OutOfMemory};
use crate::mmio::Register;

/// An address as a device says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DmaAddress(pub u64);

/// What was written before is there for the device when it sees what is written after.
#[inline]
pub fn publish() {
    fence(Ordering::Release);
}

/// What is read after is at least as new as what was read before.
#[inline]
pub fn acquire() {
    fence(Ordering::Acquire);
}

/// What was written before is there for the device before anything is read after.
#[inline]
pub fn settle() {
    fence(Ordering::SeqCst);
}

/// Where a device finds a page.
#[inline]
pub fn address_of(frame: &Frame) -> DmaAddress {
    DmaAddress(frame.phys().0)
}

/// Zeroed pages in a row that a device and the kernel share.
#[derive(Debug)]
pub struct DmaRegion {
    run: FrameRun,
    length: usize,
}

impl DmaRegion {
    /// Takes at least `length` bytes, zeroed and aligned to a page. May reclaim where that is allowed.
    pub fn alloc(length: usize) -> Result<DmaRegion, OutOfMemory> {
        let order = order_of(length)?;
        DmaRegion::new(FrameRun::alloc(order, AllocFlags::ZEROED)?)
    }

    /// The same, all of it below the physical address `limit`.
    pub fn alloc_below(length: usize, limit: u64) -> Result<DmaRegion, OutOfMemory> {
        let order = order_of(length)?;
        DmaRegion::new(FrameRun::alloc_below(order, limit, AllocFlags::ZEROED)?)
    }

    fn new(run: FrameRun) -> Result<DmaRegion, OutOfMemory> {
        let length = run.pages() * PAGE_SIZE;
        let region = DmaRegion { run, length };
        #[cfg(not(target_os = "none"))]
        crate::host::dma::expose_region(region.address(), length);
        Ok(region)
    }

    /// Where the device finds its first byte.
    #[inline]
    pub fn address(&self) -> DmaAddress {
        DmaAddress(self.run.phys().0)
    }

    /// Where the device finds byte `offset`. Panics beyond the end.
    #[inline]
    pub fn address_at(&self, offset: usize) -> DmaAddress {
        assert!(offset <= self.length, "beyond a region for DMA");
        DmaAddress(self.run.phys().0 + offset as u64)
    }

    /// Bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no bytes: never.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Reads a little-endian number. Panics if it is misaligned or beyond the end.
    #[inline]
    pub fn read<T: Register>(&self, offset: usize) -> T {
        let place = self.run.place(offset, T::WIDTH);
        // SAFETY: within the run, aligned, and touched only atomically or opaquely, like all pages that others write.
        T::from_u64(unsafe {
            match T::WIDTH {
                1 => u64::from(AtomicU8::from_ptr(place).load(Ordering::Relaxed)),
                2 => u64::from(u16::from_le(AtomicU16::from_ptr(place.cast()).load(Ordering::Relaxed))),
                4 => u64::from(u32::from_le(AtomicU32::from_ptr(place.cast()).load(Ordering::Relaxed))),
                _ => u64::from_le(AtomicU64::from_ptr(place.cast()).load(Ordering::Relaxed)),
            }
        })
    }

    /// Writes a little-endian number. Panics if it is misaligned or beyond the end.
    #[inline]
    pub fn write<T: Register>(&self, offset: usize, value: T) {
        let place = self.run.place(offset, T::WIDTH);
        let value = value.to_u64();
        // SAFETY: as in `read`.
        unsafe {
            match T::WIDTH {
                1 => AtomicU8::from_ptr(place).store(value as u8, Ordering::Relaxed),
                2 => AtomicU16::from_ptr(place.cast()).store((value as u16).to_le(), Ordering::Relaxed),
                4 => AtomicU32::from_ptr(place.cast()).store((value as u32).to_le(), Ordering::Relaxed),
                _ => AtomicU64::from_ptr(place.cast()).store(value.to_le(), Ordering::Relaxed),
            }
        }
    }

    /// Copies out. Panics beyond the end.
    pub fn copy_out(&self, offset: usize, into: &mut [u8]) {
        self.run.read(offset, into);
    }

    /// Copies in. Panics beyond the end.
    pub fn copy_in(&self, offset: usize, from: &[u8]) {
        self.run.write(offset, from);
    }
}

#[cfg(not(target_os = "none"))]
impl Drop for DmaRegion {
    fn drop(&mut self) {
        crate::host::dma::hide_region(self.address());
    }
}

/// The order of a block of at least so many bytes.
fn order_of(length: usize) -> Result<u8, OutOfMemory> {
    let pages = length.div_ceil(PAGE_SIZE).max(1).checked_next_power_of_two().ok_or(OutOfMemory)?;
    let order = pages.trailing_zeros();
    if order < ORDERS as u32 { Ok(order as u8) } else { Err(OutOfMemory) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_little_endian() {
        let region = DmaRegion::alloc(5000).unwrap();
        assert_eq!(region.len(), 8192);
        region.write(8184, 0x0102_0304_0506_0708u64);
        let mut bytes = [0; 2];
        region.copy_out(8184, &mut bytes);
        assert_eq!(bytes, [8, 7]);
        assert_eq!(region.read::<u16>(8190), 0x0102);
    }

    #[test]
    fn low_memory_is_low() {
        let region = DmaRegion::alloc_below(4096, 64 << 20).unwrap();
        assert!(region.address().0 + region.len() as u64 <= 64 << 20);
        assert!(DmaRegion::alloc_below(4096, 0x1000).is_err());
    }

    #[test]
    #[should_panic(expected = "beyond the run")]
    fn the_end_is_the_end() {
        DmaRegion::alloc(16).unwrap().read::<u32>(4096);
    }
}
