//! See `linnet_fuzz::netlink`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| linnet_fuzz::netlink(bytes));
