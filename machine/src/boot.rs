//! What the boot loader and the firmware said: command line, initramfs, entropy.
//!
//! Filled by the backend during early boot; constant afterwards. No locks.

/// The kernel command line, without the trailing NUL (empty if there was none or it was not UTF-8).
pub fn command_line() -> &'static str {
    todo!()
}

/// The initramfs that the boot loader put in memory, until [`free_initramfs`].
pub fn initramfs() -> Option<Initramfs> {
    todo!()
}

/// The boot loader's initramfs: bytes that stay mapped while this handle lives.
#[derive(Debug)]
pub struct Initramfs {
    pub(crate) bytes: &'static [u8],
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
        todo!()
    }
}

/// 32 bytes gathered from the processor's random source and clocks at boot.
pub fn entropy_seed() -> [u8; 32] {
    todo!()
}

/// Nanoseconds from kernel entry to this call, for boot-time reports.
pub fn since_entry_ns() -> u64 {
    crate::time::now_ns()
}
