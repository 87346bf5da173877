//! Per-CPU data behind GS, the processor's features, and the instructions that have no safe name.
//!
//! Key types: [`CpuArea`] (one per CPU; its first fields are at fixed offsets from GS), [`Features`]. While kernel code
//! runs, the GS base is the CPU's area; entry and exit stubs swap it with the user's.

use super::features::{self, Features, Leaf};
use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, CpuidResult};
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// The most CPUs supported.
pub(crate) const MAX_CPUS: usize = 256;

/// One CPU's block. Only its own CPU touches it, through GS; fields that others may read are atomic.
#[repr(C, align(64))]
pub(super) struct CpuArea {
    this: *const CpuArea,
    pub(super) id: u32,
    preempt_count: u32,
    need_resched: u32,
    pub(super) apic_id: u32,
    current_thread: *const (),
    pub(super) kernel_stack: u64,
    pub(super) user_registers: u64,
    pub(super) scratch: u64,
    pub(super) interrupts: AtomicU64,
    pub(super) tables: UnsafeCell<super::descriptors::CpuTables>,
    /// Where the processor pushes the frame of an exception or interrupt from user mode.
    pub(super) entry_stack: UnsafeCell<[u128; 32]>,
}

// SAFETY: each field is either written before other CPUs see the area, atomic, or used only by its own CPU.
unsafe impl Sync for CpuArea {}

impl CpuArea {
    pub(super) const fn new() -> CpuArea {
        CpuArea {
            this: core::ptr::null(),
            id: 0,
            preempt_count: 0,
            need_resched: 0,
            apic_id: 0,
            current_thread: core::ptr::null(),
            kernel_stack: 0,
            user_registers: 0,
            scratch: 0,
            interrupts: AtomicU64::new(0),
            tables: UnsafeCell::new(super::descriptors::CpuTables::new()),
            entry_stack: UnsafeCell::new([0; 32]),
        }
    }

    /// Top of the entry stack.
    pub(super) fn entry_stack_top(&self) -> u64 {
        self.entry_stack.get() as u64 + size_of::<[u128; 32]>() as u64
    }
}

/// Offset of the saved kernel stack pointer from GS.
pub(super) const KERNEL_STACK: usize = offset_of!(CpuArea, kernel_stack);
/// Offset of the pointer to the running program's registers from GS.
pub(super) const USER_REGISTERS: usize = offset_of!(CpuArea, user_registers);
/// Offset of a word that entry stubs use from GS.
pub(super) const SCRATCH: usize = offset_of!(CpuArea, scratch);

static mut BOOT_AREA: CpuArea = CpuArea::new();
static AREAS: [AtomicPtr<CpuArea>; MAX_CPUS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];
static ONLINE: AtomicU32 = AtomicU32::new(1);

/// How many CPUs are online.
#[inline]
pub(crate) fn cpu_count() -> usize {
    ONLINE.load(Ordering::Relaxed) as usize
}

pub(super) fn set_online(count: u32) {
    ONLINE.store(count, Ordering::Release);
}

/// The block of a CPU that is online or about to be.
pub(super) fn area_of(cpu: u32) -> Option<&'static CpuArea> {
    let area = AREAS.get(cpu as usize)?.load(Ordering::Acquire);
    // SAFETY: areas are published once, fully made, and never freed.
    unsafe { area.as_ref() }
}

/// Makes `area` this CPU's block.
///
/// # Safety
/// `area` is for this CPU alone and lives forever; no reference into it exists.
pub(super) unsafe fn install_area(area: *mut CpuArea, id: u32) {
    // SAFETY: the caller owns the area; the GS base belongs to the kernel while in the kernel.
    unsafe {
        (*area).this = area;
        (*area).id = id;
        AREAS[id as usize].store(area, Ordering::Release);
        write_msr(MSR_GS_BASE, area as u64);
        write_msr(MSR_KERNEL_GS_BASE, 0);
        write_msr(MSR_FS_BASE, 0);
    }
}

/// # Safety
/// Once, on the boot CPU, first of all.
pub(super) unsafe fn init_boot_cpu() {
    // SAFETY: the boot area belongs to the boot CPU.
    unsafe {
        let area = &raw mut BOOT_AREA;
        (*area).apic_id = boot_apic_id();
        install_area(area, 0);
    }
}

/// The APIC number of the CPU that runs this, by CPUID.
pub(super) fn boot_apic_id() -> u32 {
    let topology = cpuid(11, 0);
    if topology.ebx != 0 { topology.edx } else { cpuid(1, 0).ebx >> 24 }
}

/// This CPU's block.
#[inline]
pub(super) fn area() -> &'static CpuArea {
    let area: *const CpuArea;
    // SAFETY: GS points to this CPU's area, whose first field is its own address.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) area, options(nostack, preserves_flags, readonly, pure));
        &*area
    }
}

/// This CPU's number.
#[inline(always)]
pub(crate) fn cpu_id() -> u32 {
    let id: u32;
    // SAFETY: reads this CPU's area.
    unsafe {
        asm!("mov {0:e}, gs:[{1}]", out(reg) id, const offset_of!(CpuArea, id), options(nostack, preserves_flags, readonly));
    }
    id
}

/// This CPU's preempt count.
#[inline(always)]
pub(crate) fn preempt_count() -> u32 {
    let count: u32;
    // SAFETY: reads this CPU's area.
    unsafe {
        asm!("mov {0:e}, gs:[{1}]", out(reg) count, const offset_of!(CpuArea, preempt_count), options(nostack, preserves_flags, readonly));
    }
    count
}

/// Adds to this CPU's preempt count.
#[inline(always)]
pub(crate) fn preempt_add(n: u32) {
    // SAFETY: changes this CPU's counter in one instruction; the missing `nomem` keeps memory accesses inside.
    unsafe {
        asm!("add dword ptr gs:[{1}], {0:e}", in(reg) n, const offset_of!(CpuArea, preempt_count), options(nostack));
    }
}

/// Subtracts from this CPU's preempt count and gives the new value.
#[inline(always)]
pub(crate) fn preempt_sub(n: u32) -> u32 {
    // SAFETY: as in `preempt_add`.
    unsafe {
        asm!("sub dword ptr gs:[{1}], {0:e}", in(reg) n, const offset_of!(CpuArea, preempt_count), options(nostack));
    }
    preempt_count()
}

/// Whether this CPU should reschedule.
#[inline(always)]
pub(crate) fn need_resched() -> bool {
    let flag: u32;
    // SAFETY: reads this CPU's area.
    unsafe {
        asm!("mov {0:e}, gs:[{1}]", out(reg) flag, const offset_of!(CpuArea, need_resched), options(nostack, preserves_flags, readonly));
    }
    flag != 0
}

/// Asks this CPU to reschedule.
#[inline(always)]
pub(crate) fn set_need_resched() {
    // SAFETY: writes this CPU's area.
    unsafe {
        asm!("mov dword ptr gs:[{0}], 1", const offset_of!(CpuArea, need_resched), options(nostack, preserves_flags));
    }
}

/// Takes the request back.
#[inline(always)]
pub(crate) fn clear_need_resched() {
    // SAFETY: writes this CPU's area.
    unsafe {
        asm!("mov dword ptr gs:[{0}], 0", const offset_of!(CpuArea, need_resched), options(nostack, preserves_flags));
    }
}

/// The running thread as the generic code stored it.
#[inline(always)]
pub(crate) fn current_thread() -> *const () {
    let thread: *const ();
    // SAFETY: reads this CPU's area. The value is the same on every CPU that this thread moves to, so `pure` is right.
    unsafe {
        asm!("mov {0}, gs:[{1}]", out(reg) thread, const offset_of!(CpuArea, current_thread), options(nostack, preserves_flags, readonly));
    }
    thread
}

/// Stores the running thread.
///
/// # Safety
/// Interrupts are off and a switch to that thread is under way.
#[inline(always)]
pub(crate) unsafe fn set_current_thread(thread: *const ()) {
    // SAFETY: writes this CPU's area.
    unsafe {
        asm!("mov gs:[{1}], {0}", in(reg) thread, const offset_of!(CpuArea, current_thread), options(nostack, preserves_flags));
    }
}

/// Tells the processor that this is a spin loop.
#[inline(always)]
pub(crate) fn relax() {
    core::hint::spin_loop();
}

/// The time-stamp counter.
#[inline(always)]
pub(crate) fn cycles() -> u64 {
    // SAFETY: every x86_64 processor has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

const INTERRUPT_FLAG: usize = 0x200;

/// Switches interrupts off and gives the flags from before.
#[inline(always)]
pub(crate) fn irq_save() -> usize {
    let flags: usize;
    // SAFETY: interrupts may be switched off at any time.
    unsafe { asm!("pushfq", "pop {}", "cli", out(reg) flags) };
    flags
}

/// Switches interrupts on again if `flags` from [`irq_save`] says so.
#[inline(always)]
pub(crate) fn irq_restore(flags: usize) {
    if flags & INTERRUPT_FLAG != 0 {
        irq_enable();
    }
}

/// Whether interrupts are on.
#[inline(always)]
pub(crate) fn irq_enabled() -> bool {
    let flags: usize;
    // SAFETY: only reads the flags.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) };
    flags & INTERRUPT_FLAG != 0
}

/// Switches interrupts off.
#[inline(always)]
pub(crate) fn irq_disable() {
    // SAFETY: interrupts may be switched off at any time.
    unsafe { asm!("cli", options(nostack)) };
}

/// Switches interrupts on.
#[inline(always)]
pub(crate) fn irq_enable() {
    // SAFETY: handlers are installed before the first call, and locks that handlers take are held with interrupts off.
    unsafe { asm!("sti", options(nostack)) };
}

/// Halts until an interrupt, without missing one that came just before; interrupts are off before and after.
#[inline]
pub(crate) fn idle_wait() {
    if !need_resched() {
        // SAFETY: `sti` takes effect after `hlt` has begun, so that the interrupt that sets need-resched ends it.
        unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
    }
}

pub(super) const MSR_APIC_BASE: u32 = 0x1b;
pub(super) const MSR_TSC_DEADLINE: u32 = 0x6e0;
pub(super) const MSR_X2APIC: u32 = 0x800;
pub(super) const MSR_EFER: u32 = 0xc000_0080;
pub(super) const MSR_STAR: u32 = 0xc000_0081;
pub(super) const MSR_LSTAR: u32 = 0xc000_0082;
pub(super) const MSR_SFMASK: u32 = 0xc000_0084;
pub(super) const MSR_FS_BASE: u32 = 0xc000_0100;
pub(super) const MSR_GS_BASE: u32 = 0xc000_0101;
pub(super) const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Reads a model-specific register.
///
/// # Safety
/// The register exists.
#[inline]
pub(super) unsafe fn read_msr(number: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller's contract.
    unsafe {
        asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high, options(nostack, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
/// The register exists and the value does not break what Rust relies on.
#[inline]
pub(super) unsafe fn write_msr(number: u32, value: u64) {
    // SAFETY: the caller's contract.
    unsafe {
        asm!("wrmsr", in("ecx") number, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags));
    }
}

/// Reads a byte from a port.
///
/// # Safety
/// Reading the port has no effect on memory.
#[inline]
pub(super) unsafe fn in8(port: u16) -> u8 {
    let value: u8;
    // SAFETY: the caller's contract.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack, preserves_flags)) };
    value
}

/// Writes a byte to a port.
///
/// # Safety
/// The device does not touch memory because of it.
#[inline]
pub(super) unsafe fn out8(port: u16, value: u8) {
    // SAFETY: the caller's contract.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) };
}

/// Reads 16 bits from a port.
///
/// # Safety
/// As [`in8`].
#[inline]
pub(super) unsafe fn in16(port: u16) -> u16 {
    let value: u16;
    // SAFETY: the caller's contract.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack, preserves_flags)) };
    value
}

/// Writes 16 bits to a port.
///
/// # Safety
/// As [`out8`].
#[inline]
pub(super) unsafe fn out16(port: u16, value: u16) {
    // SAFETY: the caller's contract.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nostack, preserves_flags)) };
}

/// Reads 32 bits from a port.
///
/// # Safety
/// As [`in8`].
#[inline]
pub(super) unsafe fn in32(port: u16) -> u32 {
    let value: u32;
    // SAFETY: the caller's contract.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack, preserves_flags)) };
    value
}

/// `cpuid` with a leaf and sub-leaf; zeros if the leaf is above what the processor has.
pub(super) fn cpuid(leaf: u32, sub_leaf: u32) -> CpuidResult {
    let highest = __cpuid_count(leaf & 0xc000_0000, 0).eax;
    if leaf > highest && leaf & 0xf000_0000 != 0x4000_0000 {
        return CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    }
    __cpuid_count(leaf, sub_leaf)
}

/// What the processor can do, as [`Features`] bits. Constant after boot.
static FEATURES: AtomicU32 = AtomicU32::new(0);
/// CR4 as the boot CPU has it; every other must have the same.
static CONTROL: AtomicU64 = AtomicU64::new(0);

/// Whether the feature is there.
#[inline]
pub(super) fn has(feature: Features) -> bool {
    FEATURES.load(Ordering::Relaxed) & feature.bits() == feature.bits()
}

/// What CPUID says; zeros for a leaf that there is not.
pub(crate) fn cpuid_words(number: u32, sub_leaf: u32) -> [u32; 4] {
    let registers = cpuid(number, sub_leaf);
    [registers.eax, registers.ebx, registers.ecx, registers.edx]
}

/// What CPUID says, as `features` takes it.
pub(super) fn leaf(number: u32, sub_leaf: u32) -> Leaf {
    let registers = __cpuid_count(number, sub_leaf);
    [registers.eax, registers.ebx, registers.ecx, registers.edx]
}

/// The protections that are on, for the log.
pub(super) fn report_protections() {
    let has_or = |feature, name| if has(feature) { name } else { "" };
    log::info!(
        "cpu: NX{}{}{}{}{}{}{}",
        has_or(Features::SMEP, " SMEP"),
        has_or(Features::SMAP, " SMAP"),
        has_or(Features::UMIP, " UMIP"),
        has_or(Features::PCID, " PCID"),
        has_or(Features::FSGSBASE, " FSGSBASE"),
        has_or(Features::XSAVE, " XSAVE"),
        has_or(Features::X2APIC, " x2APIC"),
    );
}

const CR0_WRITE_PROTECT: u64 = 1 << 16;

/// Switches on what the processor has: NX, syscall, SMEP, SMAP, UMIP, FSGSBASE, global pages, XSAVE. Panics if another CPU
/// has not what the boot CPU has.
///
/// # Safety
/// On each CPU once, in the kernel, with interrupts off.
pub(super) unsafe fn enable_features() {
    let features = features::detect(leaf);
    if cpu_id() == 0 {
        FEATURES.store(features.bits(), Ordering::Relaxed);
    }
    // SAFETY: each bit is set only when CPUID has the feature; long mode implies NX and SYSCALL here.
    unsafe {
        let mut control: u64;
        asm!("mov {}, cr4", out(reg) control, options(nostack, preserves_flags));
        control |= features::control_bits(features);
        asm!("mov cr4, {}", in(reg) control, options(nostack, preserves_flags));
        asm!("mov {}, cr4", out(reg) control, options(nostack, preserves_flags));
        let cr0: u64;
        asm!("mov {}, cr0", out(reg) cr0, options(nostack, preserves_flags));
        asm!("mov cr0, {}", in(reg) (cr0 | CR0_WRITE_PROTECT | 0x22) & !0xc, options(nostack, preserves_flags));
        write_msr(MSR_EFER, read_msr(MSR_EFER) | 1 | 1 << 11);
        if cpu_id() == 0 {
            CONTROL.store(control, Ordering::Relaxed);
        }
        let wanted = CONTROL.load(Ordering::Relaxed);
        assert!(control & wanted == wanted, "CPU {} has CR4 {control:#x}, not {wanted:#x}", cpu_id());
    }
}

/// The hardware capability words for programs: CPUID.1 EDX, and bit 1 of the second if FSGSBASE may be used.
pub(crate) fn elf_hwcap() -> (u64, u64) {
    (u64::from(cpuid(1, 0).edx), if has(Features::FSGSBASE) { 2 } else { 0 })
}

/// Random bits from RDSEED or RDRAND, if the processor has one and it delivers.
pub(crate) fn entropy_u64() -> Option<u64> {
    let attempt = |seed: bool| {
        let (value, good): (u64, u8);
        // SAFETY: called only if CPUID has the instruction.
        unsafe {
            if seed {
                asm!("rdseed {}", "setc {}", out(reg) value, out(reg_byte) good, options(nostack));
            } else {
                asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) good, options(nostack));
            }
        }
        (good != 0).then_some(value)
    };
    if has(Features::RDSEED)
        && let Some(value) = (0..8).find_map(|_| attempt(true))
    {
        return Some(value);
    }
    if has(Features::RDRAND) { (0..8).find_map(|_| attempt(false)) } else { None }
}

/// A random number before anything is set up (also before relocation: no tables of pointers in here).
pub(super) fn early_random() -> u64 {
    let mut value = cycles();
    if __cpuid_count(1, 0).ecx & 1 << 30 != 0 {
        let mut tries = 0;
        while tries < 8 {
            let (random, good): (u64, u8);
            // SAFETY: CPUID says that the instruction is there.
            unsafe { asm!("rdrand {}", "setc {}", out(reg) random, out(reg_byte) good, options(nostack)) };
            if good != 0 {
                value ^= random;
                break;
            }
            tries += 1;
        }
    }
    value ^= value >> 31;
    value = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value ^ value >> 29
}

/// 32 bytes of seed: the processor's random source mixed with counter jitter.
pub(super) fn gather_entropy() -> [u8; 32] {
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_exact_mut(8) {
        let value = entropy_u64().unwrap_or(0) ^ early_random();
        chunk.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}
