//! Checksums of metadata: CRC-32C (`metadata_csum`) and CRC-16 (`uninit_bg`, before it).
//!
//! Both are used as running values, without the inversions at either end that the published forms have: what one call gives is what the
//! next goes on from, and that is also how a value is stored.

use crc::{Algorithm, Crc, Table};

const CASTAGNOLI: Algorithm<u32> = Algorithm { init: 0, xorout: 0, ..crc::CRC_32_ISCSI };
static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CASTAGNOLI);
const ANSI: Algorithm<u16> = Algorithm { init: 0, xorout: 0, ..crc::CRC_16_ARC };
static CRC16: Crc<u16> = Crc::<u16>::new(&ANSI);

/// What every checksum of a file system begins with, before its UUID.
pub const START: u32 = !0;

/// Goes on from `seed` over `bytes`.
pub fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    // The crate takes the start value unreflected.
    let mut digest = CRC32C.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// Goes on from `seed` over `bytes`.
pub fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    let mut digest = CRC16.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_check_values() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
        assert_eq!(crc16(!0, b"123456789"), 0x4b37);
    }

    #[test]
    fn a_sum_goes_on_where_the_last_ended() {
        assert_eq!(crc32c(crc32c(7, b"1234"), b"56789"), crc32c(7, b"123456789"));
        assert_eq!(crc16(crc16(7, b"1234"), b"56789"), crc16(7, b"123456789"));
    }
}
