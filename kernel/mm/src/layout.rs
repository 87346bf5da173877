//! Where things go in an address space: the randomised bases of stack, mappings, programs and heap.
//!
//! Top of the user half: the stack, growing down, with room for its limit; below it the mappings, placed top down;
//! position-independent programs at two thirds; the heap behind the program. The widths of the random parts are those
//! of Linux on x86-64 (28 bits of pages for mappings, 22 for the stack). Key type: [`Layout`]. Locks: none.

use machine::{PAGE_SIZE, USER_END};

/// Pages kept free below a stack (Linux's `stack_guard_gap`).
pub const STACK_GUARD_BYTES: usize = 256 * PAGE_SIZE;
/// Lowest address that may be mapped without `CAP_SYS_RAWIO` (`vm.mmap_min_addr`).
pub const MMAP_MINIMUM_ADDRESS: usize = 65536;

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
const SMALLEST_STACK_ROOM: usize = 128 * MIB;
const LARGEST_STACK_ROOM: usize = USER_END / 6 * 5;
const MMAP_RANDOM_PAGES: usize = 1 << 28;
const STACK_RANDOM_PAGES: usize = 1 << 22;

/// Whether to randomise (`personality(ADDR_NO_RANDOMIZE)` and `kernel.randomize_va_space` say no).
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Randomize {
    /// The same addresses each time.
    No,
    /// Other addresses each time.
    Yes,
}

/// The bases that a new program gets; see the head of this file.
#[derive(Copy, Clone, Debug)]
pub struct Layout {
    /// Where the stack ends (exclusive).
    pub stack_top: usize,
    /// Mappings are placed below this.
    pub mmap_base: usize,
    /// Where a position-independent program is loaded.
    pub program_base: usize,
    /// Bytes to leave between the program's end and the heap.
    pub heap_gap: usize,
}

/// A random number below `limit`, which is a power of two.
fn random_below(limit: usize) -> usize {
    let mut bytes = [0; 8];
    machine::random::fill(&mut bytes);
    usize::from_ne_bytes(bytes) & (limit - 1)
}

impl Layout {
    /// Draws the bases for a program whose `RLIMIT_STACK` is `stack_limit` (`u64::MAX` = unlimited).
    pub fn new(stack_limit: u64, randomize: Randomize) -> Layout {
        let draw = |limit| if randomize == Randomize::Yes { random_below(limit) } else { 0 };
        let stack_shift = draw(STACK_RANDOM_PAGES) * PAGE_SIZE;
        let margin = STACK_RANDOM_PAGES * PAGE_SIZE + STACK_GUARD_BYTES;
        let margin = if randomize == Randomize::Yes { margin } else { STACK_GUARD_BYTES };
        let room = usize::try_from(stack_limit).unwrap_or(usize::MAX).saturating_add(margin);
        let room = room.clamp(SMALLEST_STACK_ROOM, LARGEST_STACK_ROOM);
        let mmap_base = (USER_END - room - draw(MMAP_RANDOM_PAGES) * PAGE_SIZE) & !(PAGE_SIZE - 1);
        Layout {
            stack_top: USER_END - stack_shift,
            mmap_base,
            program_base: ((USER_END / 3 * 2) & !(PAGE_SIZE - 1)) + draw(MMAP_RANDOM_PAGES) * PAGE_SIZE,
            heap_gap: draw(GIB / PAGE_SIZE) * PAGE_SIZE,
        }
    }
}
