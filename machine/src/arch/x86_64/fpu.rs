//! The floating-point and vector state of user programs.
//!
//! Kernel code does not touch these registers, so they stay in the processor until another program's are needed. The
//! image is in XSAVE's standard format, which is also what signal frames have. Reference: Intel SDM volume 1, chapter 13.

use super::cpu::{cpuid, has};
use super::features::Features;
use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const LEGACY_BYTES: usize = 512;
const HEADER_BYTES: usize = 64;
/// x87, SSE, AVX, AVX-512 (three parts). Not MPX, AMX.
const SUPPORTED: u64 = 0b1110_0111;
/// The rights by protection key (PKRU).
const KEY_RIGHTS: u64 = 1 << 9;
/// What a new program may do: everything with key 0, nothing with the others (Linux's choice).
pub(crate) const DEFAULT_KEY_RIGHTS: u32 = 0x5555_5554;
const DEFAULT_CONTROL: u16 = 0x37f;
const DEFAULT_MXCSR: u32 = 0x1f80;

static SIZE: AtomicUsize = AtomicUsize::new(LEGACY_BYTES);
static ENABLED: AtomicU64 = AtomicU64::new(3);
/// Where the image has the rights by key; 0 if there are none.
static KEY_RIGHTS_AT: AtomicUsize = AtomicUsize::new(0);

/// Finds out what there is, on the boot CPU, and switches it on.
pub(super) fn init() {
    if has(Features::XSAVE) {
        let leaf = cpuid(13, 0);
        let offered = u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
        let mut enabled = offered & SUPPORTED;
        if has(Features::PKU) && offered & KEY_RIGHTS != 0 {
            enabled |= KEY_RIGHTS;
            KEY_RIGHTS_AT.store(cpuid(13, 9).ebx as usize, Ordering::Relaxed);
        }
        if enabled & 0xe0 != 0xe0 {
            enabled &= !0xe0; // the three parts of AVX-512 only together
        }
        ENABLED.store(enabled, Ordering::Relaxed);
    }
    init_cpu();
    if has(Features::XSAVE) {
        let size = cpuid(13, 0).ebx as usize;
        SIZE.store(size.max(LEGACY_BYTES + HEADER_BYTES), Ordering::Relaxed);
    }
}

/// Switches the state components on on this CPU and loads a clean state.
pub(super) fn init_cpu() {
    if has(Features::XSAVE) {
        let enabled = ENABLED.load(Ordering::Relaxed);
        // SAFETY: CR4.OSXSAVE is on and CPUID offers these components.
        unsafe {
            asm!("xsetbv", in("ecx") 0, in("eax") enabled as u32, in("edx") (enabled >> 32) as u32, options(nostack));
        }
    }
    // SAFETY: CR0.EM and CR0.TS are clear.
    unsafe { asm!("fninit", "ldmxcsr [{}]", in(reg) &DEFAULT_MXCSR, options(nostack)) };
}

/// Bytes of the image.
pub(crate) fn fpu_size() -> usize {
    SIZE.load(Ordering::Relaxed)
}

/// The state components that are switched on (XCR0).
pub(crate) fn xcr0() -> u64 {
    ENABLED.load(Ordering::Relaxed)
}

/// Whether there are protection keys.
#[inline]
pub(crate) fn has_protection_keys() -> bool {
    KEY_RIGHTS_AT.load(Ordering::Relaxed) != 0
}

/// Where the rights by protection key are in the image, and their bit in XSTATE_BV.
pub(crate) fn key_rights_place() -> Option<(usize, u64)> {
    Some((KEY_RIGHTS_AT.load(Ordering::Relaxed), KEY_RIGHTS)).filter(|(place, _)| *place != 0)
}

/// Exchanges the running program's rights by protection key (PKRU: two bits for each key) and gives the old ones; 0 and no
/// effect without keys. What is there already is not written: that is slow (an emulator forgets all translations).
pub(crate) fn exchange_key_rights(rights: u32) -> u32 {
    if !has_protection_keys() {
        return 0;
    }
    let old: u32;
    // SAFETY: CR4.PKE is on; reading has no effect.
    unsafe { asm!("rdpkru", in("ecx") 0, out("eax") old, out("edx") _, options(nostack)) };
    if old != rights {
        // SAFETY: CR4.PKE is on; the register concerns user pages only, and the kernel's accesses to them may fail.
        unsafe { asm!("wrpkru", in("ecx") 0, in("eax") rights, in("edx") 0, options(nostack)) };
    }
    old
}

/// A program's saved state.
///
/// # Invariants
/// `image` owns [`fpu_size`] bytes, 64-aligned, that `XRSTOR` accepts, except between [`FpuArea::bytes_mut`] and
/// [`FpuArea::sanitize`].
#[derive(Debug)]
pub(crate) struct FpuArea {
    image: NonNull<u8>,
}

// SAFETY: the area owns its memory.
unsafe impl Send for FpuArea {}
// SAFETY: changes need `&mut`.
unsafe impl Sync for FpuArea {}

fn layout() -> Layout {
    Layout::from_size_align(fpu_size(), 64).unwrap_or(Layout::new::<[u64; 64]>())
}

impl FpuArea {
    /// The state of a new program; `None` without memory.
    pub(crate) fn new() -> Option<FpuArea> {
        // SAFETY: the size is not zero.
        let image = NonNull::new(unsafe { alloc_zeroed(layout()) })?;
        let mut area = FpuArea { image };
        area.reset();
        Some(area)
    }

    /// The image.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the invariant.
        unsafe { core::slice::from_raw_parts(self.image.as_ptr(), fpu_size()) }
    }

    /// Where the image is.
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.image.as_ptr()
    }

    /// The image, to be changed and then [`FpuArea::sanitize`]d.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the invariant.
        unsafe { core::slice::from_raw_parts_mut(self.image.as_ptr(), fpu_size()) }
    }

    /// Back to the state of a new program.
    pub(crate) fn reset(&mut self) {
        let bytes = self.bytes_mut();
        bytes.fill(0);
        bytes[..2].copy_from_slice(&DEFAULT_CONTROL.to_le_bytes());
        bytes[24..28].copy_from_slice(&DEFAULT_MXCSR.to_le_bytes());
        self.reset_key_rights();
    }

    /// Gives the rights by protection key the value of a new program: that the processor starts with allows everything.
    pub(crate) fn reset_key_rights(&mut self) {
        let place = KEY_RIGHTS_AT.load(Ordering::Relaxed);
        if place == 0 {
            return;
        }
        let bytes = self.bytes_mut();
        bytes[place..place + 4].copy_from_slice(&DEFAULT_KEY_RIGHTS.to_le_bytes());
        bytes[LEGACY_BYTES + 1] |= (KEY_RIGHTS >> 8) as u8;
    }

    /// Clears what the processor would refuse to load: reserved bits of MXCSR and of the XSAVE header.
    pub(crate) fn sanitize(&mut self) {
        let enabled = xcr0();
        let bytes = self.bytes_mut();
        let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let mxcsr = word(&bytes[24..28]) & 0xffff;
        bytes[24..28].copy_from_slice(&mxcsr.to_le_bytes());
        if bytes.len() > LEGACY_BYTES {
            let header = &mut bytes[LEGACY_BYTES..LEGACY_BYTES + HEADER_BYTES];
            let present = (u64::from(word(&header[4..8])) << 32 | u64::from(word(&header[..4]))) & enabled;
            header[..8].copy_from_slice(&present.to_le_bytes());
            header[8..].fill(0);
        }
    }
}

impl Drop for FpuArea {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.image.as_ptr(), layout()) };
    }
}

/// Saves the registers into `area`.
///
/// # Safety
/// Preemption is off and the registers hold the state that `area` is for.
#[inline]
pub(crate) unsafe fn fpu_save(area: &mut FpuArea) {
    let image = area.image.as_ptr();
    // SAFETY: the area is big enough and aligned. XSAVEOPT may skip unchanged parts: a thread's area is written by
    // nothing but this and loaded by XRSTOR before, as it requires.
    unsafe {
        if has(Features::XSAVE) {
            asm!("xsave64 [{}]", in(reg) image, in("eax") -1i32, in("edx") -1i32, options(nostack));
        } else {
            asm!("fxsave64 [{}]", in(reg) image, options(nostack));
        }
    }
}

/// Loads the registers from `area`.
///
/// # Safety
/// Preemption is off and the registers' old contents are saved or not needed.
#[inline]
pub(crate) unsafe fn fpu_restore(area: &FpuArea) {
    let image = area.image.as_ptr();
    // SAFETY: the invariant of `FpuArea`.
    unsafe {
        if has(Features::XSAVE) {
            asm!("xrstor64 [{}]", in(reg) image, in("eax") -1i32, in("edx") -1i32, options(nostack));
        } else {
            asm!("fxrstor64 [{}]", in(reg) image, options(nostack));
        }
    }
}
