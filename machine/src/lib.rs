//! The machine: the one crate with unsafe code, safe interfaces above every processor.
//!
//! Everything that needs `unsafe` in the kernel is here: boot, traps, the MMU, context switches, per-CPU data, copies
//! from and to user memory, page frames, the heap, locks, RCU and timers. The interfaces are the same for every
//! processor; `arch` holds what differs. On a hosted target the backend is `arch::host`: the same interfaces as an
//! ordinary process with threads for CPUs, so that every crate above runs under `cargo test`.
//!
//! # Key modules
//! - [`preempt`], [`irq`], [`cpu`]: what a CPU is doing and who may interrupt it.
//! - [`sync`]: locks, wait queues, RCU. [`memory`]: frames, heap, page tables. [`thread`]: kernel stacks.
//! - [`mmio`], [`pci`], [`dma`]: what drivers are made of: registers, configuration space, memory shared with devices.
//! - [`user`]: entering user mode and copying user memory. [`hooks`]: calls to the crates above.

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_op_in_unsafe_fn)]

extern crate alloc;
#[cfg(all(not(test), not(target_os = "none")))]
extern crate std;

pub mod arch;
pub mod boot;
pub mod console;
pub mod cpu;
pub mod dma;
mod frames;
pub mod hooks;
pub mod irq;
mod local;
pub mod log_buffer;
pub mod memory;
pub mod mmio;
pub mod oops;
pub mod pci;
pub mod platform;
pub mod power;
pub mod preempt;
pub mod provoke;
pub mod random;
pub mod serial;
pub mod sync;
pub mod thread;
pub mod time;
mod tlb;
pub mod user;

#[cfg(not(target_os = "none"))]
pub mod host;

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// First address above what user programs may map (the last canonical page stays unmapped: AMD erratum on `sysret`).
pub const USER_END: usize = 0x7fff_ffff_f000;

pub use cpu::MAX_CPUS;

/// Names the function that runs once the machine is set up: `fn() -> !`. Once in the image.
#[cfg(target_os = "none")]
#[macro_export]
macro_rules! kernel_main {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "Rust" fn linnet_main() -> ! {
            let main: fn() -> ! = $main;
            main()
        }
    };
}
