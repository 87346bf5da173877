//! Places for the memory of functions that come while the machine runs: the firmware has only placed those that were there.
//!
//! Key types: [`Windows`] (what a bridge lets through), [`place`]. A bridge's windows stay as the firmware has made them, which leaves room behind
//! ports that can be plugged into. References: PCI-to-PCI Bridge Architecture 1.2, 3.2.5.6 to 3.2.5.10. No locks.

use super::Memory;
use alloc::vec::Vec;
use core::ops::Range;

/// Where a bridge's windows are told.
const MEMORY_BASE: usize = 0x20;
const PREFETCHABLE_BASE: usize = 0x24;
const PREFETCHABLE_BASE_HIGH: usize = 0x28;
const PREFETCHABLE_LIMIT_HIGH: usize = 0x2c;
/// Nothing smaller has a page of its own, and registers of two owners must not share one.
const LEAST: u64 = machine::PAGE_SIZE as u64;
/// Base address registers beyond it need 64 bits.
const FOUR_GIB: u64 = 1 << 32;

/// What a bridge lets through to what is behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Windows {
    /// Below 4 GiB.
    memory: Range<u64>,
    /// Only for what may be read twice.
    prefetchable: Range<u64>,
}

impl Windows {
    /// Those of the bridge whose configuration space `read` reads, 32 bits at once.
    pub(super) fn read(read: impl Fn(usize) -> u32) -> Windows {
        // Twelve bits of both ends are told, of addresses in whole MiB.
        let ends = |at: usize| {
            let value = u64::from(read(at));
            ((value & 0xfff0) << 16, (value >> 16 & 0xfff0) << 16)
        };
        let range = |base: u64, limit: u64| base..(limit | 0xf_ffff).saturating_add(1);
        let (base, limit) = ends(MEMORY_BASE);
        let (mut low, mut high) = ends(PREFETCHABLE_BASE);
        if read(PREFETCHABLE_BASE) & 0xf == 1 {
            low |= u64::from(read(PREFETCHABLE_BASE_HIGH)) << 32;
            high |= u64::from(read(PREFETCHABLE_LIMIT_HIGH)) << 32;
        }
        Windows { memory: range(base, limit), prefetchable: range(low, high) }
    }

    /// Both, if something goes through.
    pub(super) fn ranges(self) -> impl Iterator<Item = Range<u64>> {
        [self.memory, self.prefetchable].into_iter().filter(|window| !window.is_empty())
    }

    /// A place in the windows for memory like this that is none of `taken`.
    fn find(&self, memory: &Memory, taken: &[Range<u64>]) -> Option<u64> {
        let wide = memory.flags & 6 == 4;
        let reachable = |window: &Range<u64>| wide || window.end <= FOUR_GIB;
        let prefetchable = (memory.flags & 8 != 0).then_some(&self.prefetchable);
        prefetchable.into_iter().chain([&self.memory]).filter(|window| reachable(window)).find_map(|window| {
            let align = memory.length.max(LEAST);
            let mut at = window.start.max(1).checked_next_multiple_of(align)?;
            // Each step goes beyond one that is taken, so there are no more than those.
            while let Some(end) = at.checked_add(align).filter(|end| *end <= window.end) {
                match taken
                    .iter()
                    .filter(|other| other.start < end && at < other.end)
                    .map(|other| other.end)
                    .max()
                {
                    Some(beyond) => at = beyond.checked_next_multiple_of(align)?,
                    None => return Some(at),
                }
            }
            None
        })
    }
}

/// Gives addresses to the memory of a function that has none, the largest first. Ports stay without. Gives what has changed; what does not fit
/// stays without an address too.
pub(super) fn place(windows: &Windows, memory: &mut [Option<Memory>], taken: &mut Vec<Range<u64>>) {
    let mut order: Vec<usize> = (0..memory.len()).collect();
    order.sort_unstable_by_key(|index| {
        memory.get(*index).copied().flatten().map_or(0, |memory| u64::MAX - memory.length)
    });
    for index in order {
        let Some(memory) = memory.get_mut(index).and_then(Option::as_mut) else { continue };
        if memory.is_ports() || memory.address != 0 {
            continue;
        }
        if let Some(address) = windows.find(memory, taken) {
            memory.address = address;
            taken.push(memory.range());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows() -> Windows {
        Windows { memory: 0xfe00_0000..0xfe20_0000, prefetchable: 0x8_0000_0000..0x8_0000_8000 }
    }

    fn memory(length: u64, flags: u32) -> Option<Memory> {
        Some(Memory { address: 0, length, flags })
    }

    fn addresses(memory: &[Option<Memory>]) -> Vec<u64> {
        memory.iter().map(|memory| memory.map_or(0, |memory| memory.address)).collect()
    }

    #[test]
    fn windows_are_as_the_bridge_tells_them() {
        let registers = |at: usize| match at {
            MEMORY_BASE => 0xfe10_fe00,
            PREFETCHABLE_BASE => 0x0011_0001u32,
            PREFETCHABLE_BASE_HIGH | PREFETCHABLE_LIMIT_HIGH => 8,
            _ => 0,
        };
        let expected =
            Windows { memory: 0xfe00_0000..0xfe20_0000, prefetchable: 0x8_0000_0000..0x8_0020_0000 };
        assert_eq!(Windows::read(registers), expected);
        // A base above its limit: nothing goes through.
        let closed = Windows::read(|at| if at == MEMORY_BASE { 0x0000_fff0 } else { 0x0001_fff1 });
        assert_eq!(closed.find(&memory(4096, 0).unwrap(), &[]), None);
        assert_eq!(closed.find(&memory(4096, 12).unwrap(), &[]), None);
    }

    #[test]
    fn each_has_a_place_of_its_own() {
        let mut wanted = [memory(0x1000, 0), memory(0x10_0000, 0), None, memory(0x20, 1), memory(0x4000, 12)];
        let mut taken = Vec::new();
        place(&windows(), &mut wanted, &mut taken);
        assert_eq!(addresses(&wanted), [0xfe10_0000, 0xfe00_0000, 0, 0, 0x8_0000_0000]);
        let mut more = [memory(0x1000, 0), memory(0x10_0000, 0)];
        place(&windows(), &mut more, &mut taken);
        assert_eq!(addresses(&more), [0xfe10_1000, 0], "no room for a second MiB");
    }

    #[test]
    fn what_needs_few_bits_is_below_4_gib_and_what_does_not_fit_is_elsewhere() {
        let mut wanted = [memory(0x4000, 8), memory(0x1_0000, 12), memory(16, 4)];
        place(&windows(), &mut wanted, &mut core::iter::once(0xfe00_0000..0xfe00_0001).collect());
        assert_eq!(addresses(&wanted), [0xfe00_4000, 0xfe01_0000, 0xfe00_1000]);
    }
}
