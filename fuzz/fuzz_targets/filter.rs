//! See `linnet_fuzz::filter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| linnet_fuzz::filter(bytes));
