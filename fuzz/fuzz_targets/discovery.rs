//! See `linnet_fuzz::discovery`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| linnet_fuzz::discovery(bytes));
