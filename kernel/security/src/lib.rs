//! Credentials, capabilities, user namespaces and the hooks of security modules.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
