//! See `linnet_fuzz::fragments`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| linnet_fuzz::fragments(bytes));
