//! Windows onto the registers of devices.
//!
//! Key types: [`MmioWindow`] (a range of device memory that somebody has claimed), [`Register`] (what can be read and written
//! at once). A window lies over neither RAM nor anything that the machine itself uses (interrupt controllers, timers, PCI
//! configuration), two windows never overlap, and an access beyond its end panics: who takes an offset from a device checks
//! it with [`MmioWindow::contains`] first. What a register makes the device do is the driver's affair
//! (docs/adr/0090-what-a-driver-may-do.md).
//!
//! On the host a window is over an [`Emulated`] device, so that drivers are tested without hardware.
//!
//! Locks: [`CLAIMS`], a leaf (below it only page-table memory of the kernel is allocated).

use alloc::collections::BTreeMap;

use crate::arch;
use crate::memory::PhysAddr;
use crate::sync::SpinLock;

#[cfg(not(target_os = "none"))]
use alloc::sync::Arc;

mod private {
    pub trait Sealed {}
}

/// A number that a bus transfers at once: `u8` to `u64`, little-endian on the bus.
pub trait Register: private::Sealed + Copy + 'static {
    /// Bytes.
    const WIDTH: usize;
    /// From the low bits.
    fn from_u64(value: u64) -> Self;
    /// Widened.
    fn to_u64(self) -> u64;
}

macro_rules! register {
    ($($number:ty)*) => {$(
        impl private::Sealed for $number {}
        impl Register for $number {
            const WIDTH: usize = size_of::<$number>();
            fn from_u64(value: u64) -> Self {
                value as $number
            }
            fn to_u64(self) -> u64 {
                u64::from(self)
            }
        }
    )*};
}
register!(u8 u16 u32 u64);

/// Why a range cannot be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// It is empty, beyond what the processor can address, RAM, or the machine's own.
    NotADevice,
    /// Somebody has a part of it.
    Busy,
    /// No memory for page tables, or no address space left.
    OutOfMemory,
}

/// A device in software, for tests.
#[cfg(not(target_os = "none"))]
pub trait Emulated: Send + Sync {
    /// The value of `width` bytes at `offset`.
    fn read(&self, offset: usize, width: usize) -> u64;
    /// Takes a value of `width` bytes at `offset`.
    fn write(&self, offset: usize, width: usize, value: u64);
}

enum Backing {
    /// Virtual address of uncached memory.
    Mapped(usize),
    #[cfg(not(target_os = "none"))]
    Emulated(Arc<dyn Emulated>),
}

/// A claimed range of device memory; dropping it gives the range up.
///
/// # Invariants
/// A mapped one covers `length` bytes of device memory, which stays mapped for ever.
pub struct MmioWindow {
    backing: Backing,
    length: usize,
    /// The first address of the claim, if it is in [`CLAIMS`].
    claim: Option<u64>,
}

struct Claims {
    /// First address and the one behind the last, apart from each other.
    taken: BTreeMap<u64, u64>,
    /// Where ranges of whole pages have been mapped: (first address, bytes) to virtual address. Mappings stay.
    mapped: BTreeMap<(u64, usize), usize>,
}

static CLAIMS: SpinLock<Claims> = SpinLock::new(Claims { taken: BTreeMap::new(), mapped: BTreeMap::new() });

impl Claims {
    /// Claims a range that may be a device's, and says where it is mapped.
    fn claim(&mut self, start: u64, length: usize) -> Result<usize, ClaimError> {
        let end = start.checked_add(length as u64).ok_or(ClaimError::NotADevice)?;
        if length == 0 || !arch::may_be_device(start, end) {
            return Err(ClaimError::NotADevice);
        }
        let before = self.taken.range(..end).next_back();
        if before.is_some_and(|(_, &taken_end)| taken_end > start) {
            return Err(ClaimError::Busy);
        }
        let page = start & !(crate::PAGE_SIZE as u64 - 1);
        let offset = (start - page) as usize;
        let size = (offset + length).next_multiple_of(crate::PAGE_SIZE);
        let address = match self.mapped.get(&(page, size)) {
            Some(&address) => address,
            None => {
                let address = arch::map_registers(page, size).ok_or(ClaimError::OutOfMemory)?;
                self.mapped.insert((page, size), address);
                address
            }
        };
        self.taken.insert(start, end);
        Ok(address + offset)
    }
}

impl MmioWindow {
    /// Claims `length` bytes of device memory from `start`. Thread context.
    pub fn claim(start: PhysAddr, length: usize) -> Result<MmioWindow, ClaimError> {
        let address = CLAIMS.lock().claim(start.0, length)?;
        Ok(MmioWindow { backing: Backing::Mapped(address), length, claim: Some(start.0) })
    }

    /// A window onto device memory that the machine has mapped for good.
    ///
    /// # Safety
    /// `length` bytes at `address` are mapped device memory whose registers any safe code may read and write.
    #[cfg(target_os = "none")]
    pub(crate) unsafe fn mapped(address: usize, length: usize) -> MmioWindow {
        MmioWindow { backing: Backing::Mapped(address), length, claim: None }
    }

    /// A window of `length` bytes onto a device in software.
    #[cfg(not(target_os = "none"))]
    pub fn emulated(device: Arc<dyn Emulated>, length: usize) -> MmioWindow {
        MmioWindow { backing: Backing::Emulated(device), length, claim: None }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no bytes: never.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether `length` bytes at `offset` are in it.
    pub fn contains(&self, offset: usize, length: usize) -> bool {
        offset <= self.length && length <= self.length - offset
    }

    #[inline]
    fn check(&self, offset: usize, width: usize) {
        let aligned = offset.is_multiple_of(width);
        assert!(aligned && self.contains(offset, width), "beyond a window of registers: {offset:#x}");
    }

    /// Reads a register. Panics if it is misaligned or beyond the window.
    #[inline]
    pub fn read<T: Register>(&self, offset: usize) -> T {
        self.check(offset, T::WIDTH);
        match &self.backing {
            // SAFETY: within the window, which is mapped.
            Backing::Mapped(address) => T::from_u64(unsafe { read_register(address + offset, T::WIDTH) }),
            #[cfg(not(target_os = "none"))]
            Backing::Emulated(device) => T::from_u64(device.read(offset, T::WIDTH)),
        }
    }

    /// Writes a register. What was stored to memory before is seen by the device when it sees this. Panics as [`MmioWindow::read`].
    #[inline]
    pub fn write<T: Register>(&self, offset: usize, value: T) {
        self.check(offset, T::WIDTH);
        core::sync::atomic::fence(core::sync::atomic::Ordering::Release);
        match &self.backing {
            // SAFETY: as in `read`.
            Backing::Mapped(address) => unsafe {
                write_register(address + offset, T::WIDTH, value.to_u64());
            },
            #[cfg(not(target_os = "none"))]
            Backing::Emulated(device) => device.write(offset, T::WIDTH, value.to_u64()),
        }
    }
}

/// Reads `width` bytes, at once.
///
/// # Safety
/// They are mapped device memory.
#[inline]
unsafe fn read_register(address: usize, width: usize) -> u64 {
    assert!(address.is_multiple_of(width), "a misaligned register");
    // SAFETY: the caller's contract; aligned.
    unsafe {
        match width {
            1 => u64::from((address as *const u8).read_volatile()),
            2 => u64::from(u16::from_le((address as *const u16).read_volatile())),
            4 => u64::from(u32::from_le((address as *const u32).read_volatile())),
            _ => u64::from_le((address as *const u64).read_volatile()),
        }
    }
}

/// Writes `width` bytes, at once.
///
/// # Safety
/// They are mapped device memory.
#[inline]
unsafe fn write_register(address: usize, width: usize, value: u64) {
    assert!(address.is_multiple_of(width), "a misaligned register");
    // SAFETY: the caller's contract; aligned.
    unsafe {
        match width {
            1 => (address as *mut u8).write_volatile(value as u8),
            2 => (address as *mut u16).write_volatile((value as u16).to_le()),
            4 => (address as *mut u32).write_volatile((value as u32).to_le()),
            _ => (address as *mut u64).write_volatile(value.to_le()),
        }
    }
}

impl Drop for MmioWindow {
    fn drop(&mut self) {
        if let Some(start) = self.claim {
            CLAIMS.lock().taken.remove(&start);
        }
    }
}

impl core::fmt::Debug for MmioWindow {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "MmioWindow({:#x} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight bytes that can be written.
    struct Scratch(core::sync::atomic::AtomicU64);

    impl Emulated for Scratch {
        fn read(&self, offset: usize, _width: usize) -> u64 {
            self.0.load(core::sync::atomic::Ordering::Relaxed) >> (8 * offset)
        }
        fn write(&self, offset: usize, _width: usize, value: u64) {
            self.0.store(value << (8 * offset), core::sync::atomic::Ordering::Relaxed);
        }
    }

    fn window() -> MmioWindow {
        MmioWindow::emulated(Arc::new(Scratch(0.into())), 8)
    }

    #[test]
    fn registers_are_read_and_written() {
        let window = window();
        window.write(4, 0x1234_5678u32);
        assert_eq!(window.read::<u16>(6), 0x1234);
        assert!(window.contains(7, 1) && !window.contains(7, 2) && !window.contains(usize::MAX, 2));
    }

    #[test]
    #[should_panic(expected = "beyond a window")]
    fn the_end_is_the_end() {
        window().read::<u32>(8);
    }

    #[test]
    fn the_host_has_no_devices() {
        let refused = MmioWindow::claim(PhysAddr(0xfeb0_0000), 512);
        assert_eq!(refused.err(), Some(ClaimError::NotADevice));
    }
}
