//! The bootable kernel: boot order and all the wiring, nothing else.
//!
//! `machine` calls [`boot::start`] on the first CPU when memory, traps and clocks work. `wiring` has the tables of functions
//! that connect lower crates to higher ones; `root` makes the first file system and its namespace.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(any(target_os = "none", test))]
extern crate alloc;

#[cfg(target_os = "none")]
mod boot;
#[cfg(any(target_os = "none", test))]
#[cfg(target_os = "none")]
mod root;
#[cfg(target_os = "none")]
mod wiring;

#[cfg(target_os = "none")]
machine::kernel_main!(boot::start);

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is the kernel's image: build it with `cargo xtask run`, which boots it");
    std::process::exit(1);
}
