//! `memcpy`, `memmove` and `memset`, which the compiler calls for every larger value that moves, and the machine for pages.
//!
//! The kernel has no vector registers at hand. Short and middle lengths move in words, in straight lines, without the cost of
//! starting a string instruction; long ones use `rep movsb` and `rep stosb` where the processor is fast at them (FSRM). These
//! names take the place of the weak ones in `compiler_builtins`. Reference: System V ABI for AMD64, 3.2.

use super::cpu::has;
use super::features::Features;
use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether string instructions are the best way for long ranges; `string.s` reads it.
#[unsafe(export_name = "LINNET_FAST_STRINGS")]
static FAST_STRINGS: AtomicBool = AtomicBool::new(false);

/// Looks at the processor. Once, at boot.
pub(super) fn init() {
    FAST_STRINGS.store(has(Features::FAST_STRINGS), Ordering::Relaxed);
}

unsafe extern "C" {
    /// `memcpy` under a name that the compiler draws no conclusions from; gives the destination.
    #[link_name = "linnet_memcpy"]
    pub(crate) fn copy_raw(destination: *mut u8, source: *const u8, length: usize) -> *mut u8;
    /// `memset` under such a name; gives the destination.
    #[link_name = "linnet_memset"]
    pub(crate) fn fill_raw(destination: *mut u8, byte: i32, length: usize) -> *mut u8;
}

global_asm!(
    include_str!("string.s"),
    ".global memcpy, memmove, memset",
    ".set memcpy, linnet_memcpy",
    ".set memmove, linnet_memmove",
    ".set memset, linnet_memset",
);
