//! The bootable kernel: boot order and all the wiring, nothing else.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
machine::kernel_main!(kernel_main);

#[cfg(target_os = "none")]
fn kernel_main() -> ! {
    machine::bringup()
}
