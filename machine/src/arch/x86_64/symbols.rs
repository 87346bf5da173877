//! The kernel's own symbols, for backtraces.
//!
//! The build appends a table after linking, where the linker script left a load segment for it: a header (`magic`,
//! bytes in all, number of symbols), then per symbol its offset from the start of the image and the offset of its name
//! (both `u32`, sorted), then the names, NUL-terminated. Without the table addresses are printed alone.

unsafe extern "C" {
    static __symbols_start: Header;
    static __image_start: u8;
    static __image_end: u8;
}

/// "LNSYM001".
const MAGIC: u64 = u64::from_le_bytes(*b"LNSYM001");

#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    magic: u64,
    bytes: u32,
    count: u32,
}

fn table() -> Option<(&'static [u8], Header)> {
    // SAFETY: the linker reserves a page there, and the build either leaves it zero or writes a whole table.
    unsafe {
        let header = (&raw const __symbols_start).read();
        if header.magic != MAGIC {
            return None;
        }
        Some((
            core::slice::from_raw_parts((&raw const __symbols_start).cast(), header.bytes as usize),
            header,
        ))
    }
}

/// Bytes that the table needs past the end of the linked image, in whole pages.
pub(super) fn extra_bytes() -> u64 {
    let bytes = table().map_or(0, |(_, header)| u64::from(header.bytes));
    let reserved = &raw const __image_end as u64 - &raw const __symbols_start as u64;
    bytes.saturating_sub(reserved).next_multiple_of(4096)
}

/// Whether the address is in the image.
pub(super) fn is_in_image(address: u64) -> bool {
    (&raw const __image_start as u64..&raw const __image_end as u64).contains(&address)
}

/// The name of the function at `address` and how far into it the address is.
pub(super) fn find(address: u64) -> Option<(&'static str, u64)> {
    let (bytes, header) = table()?;
    let target = u32::try_from(address.checked_sub(&raw const __image_start as u64)?).ok()?;
    let word = |offset: usize| -> Option<u32> {
        let bytes = bytes.get(offset..offset + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let entry = |index: usize| Some((word(16 + index * 8)?, word(20 + index * 8)?));
    let (mut low, mut high) = (0, header.count as usize);
    while low < high {
        let middle = (low + high) / 2;
        if entry(middle)?.0 <= target { low = middle + 1 } else { high = middle }
    }
    let (start, name) = entry(low.checked_sub(1)?)?;
    let name = bytes.get(name as usize..)?;
    let end = name.iter().position(|&byte| byte == 0)?;
    Some((core::str::from_utf8(name.get(..end)?).ok()?, u64::from(target - start)))
}
