//! Tests of `string.s` on the host: every short length, every way to overlap, both ways for long ranges.
//!
//! The code is the kernel's; only its names differ from the C library's, so that the test does not replace those. No locks.

use core::sync::atomic::{AtomicBool, Ordering};
use std::vec::Vec;

core::arch::global_asm!(include_str!("string.s"));

#[unsafe(export_name = "LINNET_FAST_STRINGS")]
static FAST_STRINGS: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    fn linnet_memcpy(destination: *mut u8, source: *const u8, length: usize) -> *mut u8;
    fn linnet_memmove(destination: *mut u8, source: *const u8, length: usize) -> *mut u8;
    fn linnet_memset(destination: *mut u8, byte: i32, length: usize) -> *mut u8;
}

/// Lengths around every border in the code.
fn lengths() -> impl Iterator<Item = usize> {
    (0..200).chain(500..530).chain([1000, 4095, 4096, 4097])
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 256 + 1) as u8).collect()
}

/// Both kinds of processor.
fn on_both(test: impl Fn()) {
    for fast in [false, true] {
        FAST_STRINGS.store(fast, Ordering::Relaxed);
        test();
    }
}

#[test]
fn string_functions_do_what_their_names_say() {
    on_both(copies);
    on_both(moves);
    on_both(fills);
}

fn copies() {
    for length in lengths() {
        for (from, to) in [(0, 0), (1, 0), (0, 3), (5, 7)] {
            let source = pattern(length + 32);
            let mut target = std::vec![0xee; length + 64];
            // SAFETY: both ranges are in their vectors.
            let result =
                unsafe { linnet_memcpy(target.as_mut_ptr().add(16 + to), source.as_ptr().add(from), length) };
            assert_eq!(result, target[16 + to..].as_mut_ptr());
            assert!(target[..16 + to].iter().chain(&target[16 + to + length..]).all(|&byte| byte == 0xee));
            assert_eq!(target[16 + to..][..length], source[from..][..length], "{length} bytes");
        }
    }
}

fn moves() {
    for length in lengths() {
        for distance in [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 200] {
            for (from, to) in [(distance, 0), (0, distance)] {
                let mut bytes = pattern(length + distance + 16);
                let mut expected = bytes.clone();
                expected.copy_within(from..from + length, to);
                let base = bytes.as_mut_ptr();
                // SAFETY: both ranges are in the vector.
                let result = unsafe { linnet_memmove(base.add(to), base.add(from), length) };
                assert_eq!(result, base.wrapping_add(to));
                assert_eq!(bytes, expected, "{length} bytes from {from} to {to}");
            }
        }
    }
}

fn fills() {
    for length in lengths() {
        for offset in 0..9 {
            let mut bytes = pattern(length + 32);
            let mut expected = bytes.clone();
            expected[offset..offset + length].fill(0xa5);
            // SAFETY: the range is in the vector.
            let result = unsafe { linnet_memset(bytes.as_mut_ptr().add(offset), 0x7a5, length) };
            assert_eq!(result, bytes[offset..].as_mut_ptr());
            assert_eq!(bytes, expected, "{length} bytes at {offset}");
        }
    }
}
