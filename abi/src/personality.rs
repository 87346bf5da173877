//! Execution domains.

/// Report a 2.6 release.
pub const UNAME26: u32 = 0x002_0000;
/// No address space randomisation.
pub const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;
/// Function pointers are descriptors.
pub const FDPIC_FUNCPTRS: u32 = 0x008_0000;
/// Page 0 is mapped.
pub const MMAP_PAGE_ZERO: u32 = 0x010_0000;
/// Mappings grow up.
pub const ADDR_COMPAT_LAYOUT: u32 = 0x020_0000;
/// Readable is executable.
pub const READ_IMPLIES_EXEC: u32 = 0x040_0000;
/// 32-bit addresses.
pub const ADDR_LIMIT_32BIT: u32 = 0x080_0000;
/// Short inode numbers.
pub const SHORT_INODE: u32 = 0x100_0000;
/// Times in whole seconds.
pub const WHOLE_SECONDS: u32 = 0x200_0000;
/// `select` does not change its timeout.
pub const STICKY_TIMEOUTS: u32 = 0x400_0000;
/// 3 GiB of address space.
pub const ADDR_LIMIT_3GB: u32 = 0x800_0000;
/// Linux.
pub const PER_LINUX: u32 = 0;
/// Linux, reporting a 32-bit machine.
pub const PER_LINUX32: u32 = 8;
/// The personality proper.
pub const PER_MASK: u32 = 0xff;
/// Cleared when a program gains privileges.
pub const PER_CLEAR_ON_SETID: u32 =
    READ_IMPLIES_EXEC | ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT | MMAP_PAGE_ZERO;
