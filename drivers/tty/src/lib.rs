//! Terminals: the line discipline, the serial console, pseudo-terminals and devpts.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
