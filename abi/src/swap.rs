//! Flags of swapon(2), from `include/linux/swap.h`, which Linux does not export (glibc's `sys/swap.h` has them).

/// The low bits are the priority.
pub const SWAP_FLAG_PREFER: i32 = 0x8000;
/// The priority.
pub const SWAP_FLAG_PRIO_MASK: i32 = 0x7fff;
/// Tell the device of pages that are free: as the next two say, or both ways if they say nothing.
pub const SWAP_FLAG_DISCARD: i32 = 0x10000;
/// Of all of them, now.
pub const SWAP_FLAG_DISCARD_ONCE: i32 = 0x20000;
/// Of those that become free later.
pub const SWAP_FLAG_DISCARD_PAGES: i32 = 0x40000;
