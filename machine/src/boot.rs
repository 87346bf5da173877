//! What the boot loader and the firmware said: command line, initramfs, entropy.
//!
//! Found by the backend during early boot; constant afterwards. No locks.

use crate::frames::MemoryRegion;
use crate::{PAGE_SIZE, arch};
use core::sync::atomic::{AtomicBool, Ordering};

/// The kernel command line, without the trailing NUL (empty if there was none or it was not UTF-8).
pub fn command_line() -> &'static str {
    arch::command_line()
}

/// The initramfs that the boot loader put in memory: `Some` at the first call only.
pub fn initramfs() -> Option<Initramfs> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let (start, length) = arch::initramfs()?;
    if TAKEN.swap(true, Ordering::AcqRel) {
        return None;
    }
    let address = arch::direct_map_base() + start as usize;
    let pointer = core::ptr::with_exposed_provenance(address);
    // SAFETY: the backend keeps the range out of the frame allocator, and it is in the direct map. It is handed out once,
    // and given back only by `Initramfs::free`, which consumes the handle that all borrows come from.
    let bytes = unsafe { core::slice::from_raw_parts(pointer, length as usize) };
    Some(Initramfs { bytes, start })
}

/// The boot loader's initramfs: bytes that stay mapped while this handle lives.
#[derive(Debug)]
pub struct Initramfs {
    bytes: &'static [u8],
    start: u64,
}

impl core::ops::Deref for Initramfs {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl Initramfs {
    /// Gives the pages back to the frame allocator.
    pub fn free(self) {
        let start = self.start & !(PAGE_SIZE as u64 - 1);
        let end = (self.start + self.bytes.len() as u64).next_multiple_of(PAGE_SIZE as u64);
        let end = end.min(arch::initramfs_ram_end());
        if start >= end {
            return;
        }
        // SAFETY: the range is RAM that the allocator has never had, and the handle to it ends here.
        unsafe { crate::frames::add_region(MemoryRegion { start, end }) };
    }
}

/// 32 bytes gathered from the processor's random source and clocks at boot.
pub fn entropy_seed() -> [u8; 32] {
    arch::boot_entropy()
}

/// Nanoseconds from kernel entry to this call, for boot-time reports.
pub fn since_entry_ns() -> u64 {
    crate::time::now_ns()
}

/// Gives the free memory to the frame allocator; from then on there is a heap. The backend calls it once.
///
/// # Safety
/// The ranges are RAM in the direct map that nothing uses, sorted and apart.
pub(crate) unsafe fn init_memory(regions: &[MemoryRegion]) {
    // SAFETY: the caller's contract.
    unsafe { crate::frames::init(regions) };
}
