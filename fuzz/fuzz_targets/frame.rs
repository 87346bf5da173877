//! See `linnet_fuzz::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| linnet_fuzz::frame(bytes));
