//! The header of a swap area, as mkswap(8) writes it into the first page (version 1).
//!
//! Key type: [`Header`]. No locks.

use abi::errno::{Errno, Result};
use alloc::vec::Vec;

/// Bytes of the header: a page.
pub const HEADER_BYTES: usize = machine::PAGE_SIZE;

const MAGIC: &[u8] = b"SWAPSPACE2";
/// After room for a boot loader: version, number of the last page, how many are bad; then UUID, label and padding.
const VERSION: usize = 1024;
const LAST_PAGE: usize = VERSION + 4;
const BAD_PAGES: usize = LAST_PAGE + 4;
const BAD_LIST: usize = 1536;
/// As many numbers of bad pages as fit before the magic word.
const MOST_BAD: usize = (HEADER_BYTES - MAGIC.len() - BAD_LIST) / 4;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Pages of the area, the header's included.
    pub pages: u64,
    /// Pages that must not be used.
    pub bad_pages: Vec<u32>,
}

impl Header {
    /// Reads one, in the byte order of whoever wrote it. Errors: `EINVAL`: it is none, or not of this version, or not consistent; `ENOMEM`.
    pub fn parse(page: &[u8; HEADER_BYTES]) -> Result<Header> {
        if !page.ends_with(MAGIC) {
            return Err(Errno::EINVAL);
        }
        let word = |at: usize| page.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied();
        let read: fn([u8; 4]) -> u32 = match word(VERSION).ok_or(Errno::EINVAL)? {
            [1, 0, 0, 0] => u32::from_le_bytes,
            [0, 0, 0, 1] => u32::from_be_bytes,
            _ => return Err(Errno::EINVAL),
        };
        let number = |at| word(at).map(read).ok_or(Errno::EINVAL);
        let last = number(LAST_PAGE)?;
        let bad = number(BAD_PAGES)? as usize;
        if last == 0 || bad > MOST_BAD {
            return Err(Errno::EINVAL);
        }
        let mut bad_pages = Vec::new();
        bad_pages.try_reserve_exact(bad).map_err(|_| Errno::ENOMEM)?;
        for place in 0..bad {
            let page = number(BAD_LIST + 4 * place)?;
            if page == 0 || page > last {
                return Err(Errno::EINVAL);
            }
            bad_pages.push(page);
        }
        Ok(Header { pages: u64::from(last) + 1, bad_pages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(version: u32, last: u32, bad: &[u32], encode: fn(u32) -> [u8; 4]) -> [u8; HEADER_BYTES] {
        let mut page = [0; HEADER_BYTES];
        let mut put = |at: usize, value| page[at..at + 4].copy_from_slice(&encode(value));
        put(VERSION, version);
        put(LAST_PAGE, last);
        put(BAD_PAGES, bad.len() as u32);
        for (place, number) in bad.iter().enumerate().take(MOST_BAD) {
            put(BAD_LIST + 4 * place, *number);
        }
        page[HEADER_BYTES - 10..].copy_from_slice(MAGIC);
        page
    }

    #[test]
    fn both_byte_orders() {
        let expected = Header { pages: 100, bad_pages: alloc::vec![7, 99] };
        for encode in [u32::to_le_bytes, u32::to_be_bytes] {
            assert_eq!(Header::parse(&page(1, 99, &[7, 99], encode)), Ok(expected.clone()));
        }
    }

    #[test]
    fn what_is_not_right_is_refused() {
        let parse = |version, last, bad: &[u32]| Header::parse(&page(version, last, bad, u32::to_le_bytes));
        assert_eq!(parse(2, 99, &[]), Err(Errno::EINVAL));
        assert_eq!(parse(1, 0, &[]), Err(Errno::EINVAL));
        assert_eq!(parse(1, 99, &[100]), Err(Errno::EINVAL));
        assert_eq!(parse(1, 99, &[0]), Err(Errno::EINVAL));
        assert_eq!(parse(1, 99, &[1; MOST_BAD + 1]), Err(Errno::EINVAL));
        assert!(parse(1, 99, &[1; MOST_BAD]).is_ok());
        assert_eq!(Header::parse(&[0; HEADER_BYTES]), Err(Errno::EINVAL));
    }
}
