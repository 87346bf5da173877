//! Device nodes: /dev with its usual nodes.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
