//! System calls: decode, call, encode; one file per manual-page family.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
