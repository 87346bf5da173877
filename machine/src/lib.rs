//! The machine: the one crate with unsafe code, safe interfaces above every processor.

#![no_std]
#![deny(unsafe_op_in_unsafe_fn)]

extern crate alloc;
