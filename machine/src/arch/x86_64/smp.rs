//! Starting the other CPUs.
//!
//! All are started at once by INIT and STARTUP interrupts. Each runs the trampoline (one page below 1 MiB), finds its
//! block and stack by its APIC number, and reports. Reference: Intel SDM volume 3, 9.4.

use super::cpu::{self, CpuArea};
use super::entry::BOOT_ROOT;
use super::paging;
use super::stack::Stack;
use super::{acpi, apic, clock, descriptors, fpu};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Where the trampoline is copied: a page below 1 MiB that boot keeps out of the allocator.
pub(super) const TRAMPOLINE: u64 = 0x8000;

/// What the entry code looks up: APIC number, block, stack. Ends with an APIC number of -1.
#[repr(C)]
#[derive(Clone, Copy)]
struct SecondaryEntry {
    apic_id: u64,
    area: *mut CpuArea,
    stack_top: usize,
}

#[unsafe(no_mangle)]
static mut SECONDARY_TABLE: [SecondaryEntry; cpu::MAX_CPUS + 1] =
    [SecondaryEntry { apic_id: u64::MAX, area: core::ptr::null_mut(), stack_top: 0 }; cpu::MAX_CPUS + 1];

static ENTRY: AtomicUsize = AtomicUsize::new(0);
static ARRIVED: AtomicU32 = AtomicU32::new(1);
static RELEASED: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_offsets: [u32; 10];
    static secondary_entry: u8;
}

/// Starts all other CPUs and gives the number online. Each calls `entry` with its number on its own stack, interrupts
/// off; it must not return.
pub(crate) fn start_secondary_cpus(entry: fn(u32)) -> usize {
    ENTRY.store(entry as usize, Ordering::Release);
    let facts = acpi::facts();
    // SAFETY: the boot CPU alone runs; the page is reserved.
    let prepared = unsafe {
        give_guarded_stacks(cpu::area());
        write_trampoline();
        prepare(&facts.apic_ids[1..facts.cpu_count.max(1)])
    };
    let ids = &facts.apic_ids[1..1 + prepared];
    for &apic_id in ids {
        apic::send_init(apic_id);
    }
    wait_until(if needs_init_delay() { 10_000_000 } else { 10_000 }, || false);
    for _ in 0..2 {
        for &apic_id in ids {
            apic::send_startup(apic_id, (TRAMPOLINE >> 12) as u8);
        }
        if wait_until(200_000_000, || arrived() > prepared) {
            break;
        }
    }
    if !wait_until(5_000_000_000, || arrived() > prepared) {
        panic!("{} of {} CPUs did not start", prepared + 1 - arrived(), prepared + 1);
    }
    cpu::set_online(arrived() as u32);
    cpu::report_protections();
    paging::check_protections();
    RELEASED.store(1, Ordering::Release);
    arrived()
}

/// Whether a processor needs the 10 ms between INIT and STARTUP that the MP specification wants: none since the Pentium 4.
fn needs_init_delay() -> bool {
    const NETBURST: u32 = 15;
    let vendor = cpu::cpuid(0, 0);
    let family = cpu::cpuid(1, 0).eax >> 8 & 15;
    // "GenuineIntel": AMD's processors of family 15 and later do without.
    vendor.ebx == u32::from_le_bytes(*b"Genu") && family == NETBURST
}

fn arrived() -> usize {
    ARRIVED.load(Ordering::Acquire) as usize
}

/// Waits until `condition` or the time is up; says whether the condition came true.
fn wait_until(nanoseconds: u64, mut condition: impl FnMut() -> bool) -> bool {
    let end = clock::now_ns() + nanoseconds;
    loop {
        if condition() {
            return true;
        }
        if clock::now_ns() > end {
            return false;
        }
        cpu::relax();
    }
}

/// # Safety
/// On `area`'s CPU or before it starts, not inside an NMI.
unsafe fn give_guarded_stacks(area: &'static CpuArea) -> bool {
    let stacks = [Stack::new(), Stack::new(), Stack::new()];
    if stacks.iter().any(Option::is_none) {
        return false;
    }
    let tops = stacks.each_ref().map(|stack| stack.as_ref().map_or(0, |stack| stack.top() as u64));
    core::mem::forget(stacks);
    // SAFETY: the stacks are new and never freed.
    unsafe { descriptors::set_interrupt_stacks(area, tops) };
    true
}

/// Fills the table for as many CPUs as memory allows; gives how many.
///
/// # Safety
/// No other CPU runs.
unsafe fn prepare(apic_ids: &[u32]) -> usize {
    let table = &raw mut SECONDARY_TABLE;
    let mut count = 0;
    for (index, &apic_id) in apic_ids.iter().enumerate() {
        let layout = alloc::alloc::Layout::new::<CpuArea>();
        // SAFETY: the layout is not empty.
        let area = unsafe { alloc::alloc::alloc(layout) }.cast::<CpuArea>();
        let Some(stack) = Stack::new().filter(|_| !area.is_null()) else { break };
        // SAFETY: fresh memory that is never freed; the table is read only by CPUs started later.
        unsafe {
            area.write(CpuArea::new());
            (*area).apic_id = apic_id;
            if !give_guarded_stacks(&*area) {
                break;
            }
            (*table)[index] = SecondaryEntry { apic_id: u64::from(apic_id), area, stack_top: stack.top() };
            (*area).id = index as u32 + 1;
        }
        core::mem::forget(stack);
        count += 1;
    }
    count
}

/// # Safety
/// The trampoline's page is nobody else's and in the direct map.
unsafe fn write_trampoline() {
    let base = paging::direct_map_base() as u64 + TRAMPOLINE;
    // SAFETY: the page is ours; offsets are inside the code that is copied.
    unsafe {
        let offsets = (&raw const trampoline_offsets).read_unaligned();
        let length = offsets[9] as usize;
        core::ptr::copy_nonoverlapping(&raw const trampoline_start, base as *mut u8, length);
        let put32 = |offset: u32, value: u32| ((base + u64::from(offset)) as *mut u32).write_unaligned(value);
        let put64 = |offset: u32, value: u64| ((base + u64::from(offset)) as *mut u64).write_unaligned(value);
        let linear = TRAMPOLINE as u32;
        put32(offsets[1], linear + offsets[0]);
        put32(offsets[3], linear + offsets[2]);
        put32(offsets[5], linear + offsets[4]);
        put64(offsets[6], (&raw const BOOT_ROOT as u64).wrapping_sub(paging::image_delta()));
        put64(offsets[7], &raw const secondary_entry as u64);
        put32(offsets[8], 0x900); // EFER: LME, NXE: the kernel's entries have the NX bit
    }
}

/// First Rust code of a secondary CPU.
///
/// # Safety
/// Called by the entry code with this CPU's block, on its stack.
#[unsafe(no_mangle)]
unsafe extern "C" fn secondary_main(area: *mut CpuArea) -> ! {
    // SAFETY: the block was made for this CPU; the features and tables are those of the boot CPU.
    unsafe {
        let id = (*area).id;
        cpu::install_area(area, id);
        cpu::enable_features();
        paging::load_root(paging::kernel_root(), 0, false);
        paging::flush_all();
        descriptors::init_cpu(&*area);
        apic::init_cpu();
        fpu::init_cpu();
        clock::init_cpu();
        ARRIVED.fetch_add(1, Ordering::AcqRel);
        while RELEASED.load(Ordering::Acquire) == 0 {
            cpu::relax();
        }
        let entry: fn(u32) = core::mem::transmute(ENTRY.load(Ordering::Acquire));
        entry(id);
    }
    super::power::halt()
}
