//! The kernel half of the address space, and the instructions of the MMU.
//!
//! Boot builds it once: the image with a permission per section, all RAM at [`direct_map_base`] (never executable), and
//! two areas that grow page by page: kernel stacks ([`super::stack`]) and device memory ([`map_device`]). The root's upper
//! half is complete after [`init`], so that every user root can copy it.
//!
//! Locks: [`LOCK`] guards changes of the two growing areas; it is a leaf.

use super::boot::{BootMemory, IMAGE_DIRECTORY, IMAGE_POINTERS, NO_REGION, PHYSICAL_BASE};
use super::cpu::{self, has};
use super::entry::BootTable;
use super::features::Features;
use super::hooks::MemoryRegion;
use super::lock::RawLock;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The entry is valid.
pub(crate) const PTE_PRESENT: u64 = 1;
/// Writable.
pub(crate) const PTE_WRITE: u64 = 1 << 1;
/// Reachable from user mode.
pub(crate) const PTE_USER: u64 = 1 << 2;
/// Written through; with [`PTE_NO_CACHE`] the type is "uncached" whatever the MTRRs say.
const PTE_WRITE_THROUGH: u64 = 1 << 3;
/// Not cached.
pub(crate) const PTE_NO_CACHE: u64 = 1 << 4;
/// The processor has used the entry.
pub(crate) const PTE_ACCESSED: u64 = 1 << 5;
/// The processor has written through the entry.
pub(crate) const PTE_DIRTY: u64 = 1 << 6;
/// The entry maps a large page.
pub(crate) const PTE_LARGE: u64 = 1 << 7;
/// The same in every address space.
pub(crate) const PTE_GLOBAL: u64 = 1 << 8;
/// Not executable.
pub(crate) const PTE_NO_EXEC: u64 = 1 << 63;
/// The physical address in an entry.
pub(crate) const PTE_ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;
/// An entry that points to a table of the kernel half.
pub(super) const TABLE: u64 = PTE_PRESENT | PTE_WRITE;

const READ_ONLY: u64 = PTE_PRESENT | PTE_GLOBAL | PTE_NO_EXEC | PTE_ACCESSED;
const READ_EXECUTE: u64 = PTE_PRESENT | PTE_GLOBAL | PTE_ACCESSED;
const READ_WRITE: u64 = READ_ONLY | PTE_WRITE | PTE_DIRTY;

const DIRECT_MAP_START: usize = 0xffff_8800_0000_0000;
const DIRECT_MAP_SLOTS: u64 = 8192;
const GIB: u64 = 1 << 30;
const LARGE: u64 = 1 << 21;
/// Start of the area of kernel stacks.
pub(super) const STACK_AREA: usize = 0xffff_c900_0000_0000;
const DEVICE_AREA: usize = 0xffff_d000_0000_0000;
const DEVICE_AREA_END: usize = DEVICE_AREA + (64 << 30);

static mut ROOT: BootTable = BootTable([0; 512]);
/// Physical address of the kernel's root; the entry code of secondary CPUs reads it.
#[unsafe(no_mangle)]
static ROOT_PHYSICAL: AtomicU64 = AtomicU64::new(0);
static DIRECT_MAP: AtomicUsize = AtomicUsize::new(0);
static IMAGE_DELTA: AtomicU64 = AtomicU64::new(0);
static mut REGIONS: [MemoryRegion; 160] = [NO_REGION; 160];
static LOCK: RawLock<usize> = RawLock::new(DEVICE_AREA);
/// Pages for the first tables of the device area, which is needed before the frame allocator; zero when used up.
static RESERVE: RawLock<[u64; 6]> = RawLock::new([0; 6]);

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __boot_stack_guard: u8;
    static __symbols_start: u64;
    static __image_end: u8;
}

/// Where physical address 0 is mapped. RAM at physical `p` is at this plus `p`.
#[inline(always)]
pub(crate) fn direct_map_base() -> usize {
    DIRECT_MAP.load(Ordering::Relaxed)
}

/// Physical address of the kernel's own root table.
pub(crate) fn kernel_root() -> u64 {
    ROOT_PHYSICAL.load(Ordering::Relaxed)
}

/// Virtual minus physical address of the image.
pub(super) fn image_delta() -> u64 {
    IMAGE_DELTA.load(Ordering::Relaxed)
}

/// Distance from the address an item was linked at to where it is.
pub(super) fn slide() -> u64 {
    image_delta().wrapping_add(PHYSICAL_BASE).wrapping_sub(super::boot::LINK_BASE)
}

/// Takes pages off the top of the highest free range below 4 GiB while boot builds its tables.
struct EarlyPages {
    range: MemoryRegion,
    next: u64,
}

impl EarlyPages {
    fn new(map: &BootMemory) -> EarlyPages {
        let mut best = NO_REGION;
        map.for_each_free(|region| {
            if region.end <= 4 * GIB && region.end - region.start > best.end - best.start {
                best = region;
            }
        });
        EarlyPages { range: best, next: best.end }
    }

    /// A zeroed page. Panics when memory is too small to boot.
    fn take(&mut self) -> u64 {
        assert!(self.next > self.range.start, "not enough memory for the kernel's page tables");
        self.next -= 4096;
        // SAFETY: the range is free, below 4 GiB and mapped one to one while boot runs.
        unsafe { (self.next as *mut BootTable).write_bytes(0, 1) };
        self.next
    }
}

/// The table that entry `index` of `table` points to, made if missing. Addresses are reached one to one.
///
/// # Safety
/// The low 4 GiB is mapped one to one and `table` is a table of the kernel half.
unsafe fn next_table(table: u64, index: u64, pages: &mut EarlyPages) -> u64 {
    // SAFETY: the caller's contract; index is below 512.
    unsafe {
        let entry = (table as *mut u64).add(index as usize & 511);
        if *entry == 0 {
            *entry = pages.take() | TABLE;
        }
        *entry & PTE_ADDRESS_MASK
    }
}

/// Builds the kernel's address space, switches to it and gives the memory that is free.
///
/// # Safety
/// Once, on the boot CPU, on the boot page tables; `map` tells the truth.
pub(super) unsafe fn init(map: &BootMemory, delta: u64) -> &'static [MemoryRegion] {
    let mut pages = EarlyPages::new(map);
    IMAGE_DELTA.store(delta, Ordering::Relaxed);
    let root = (&raw const ROOT as u64).wrapping_sub(delta);
    ROOT_PHYSICAL.store(root, Ordering::Relaxed);
    let base = DIRECT_MAP_START + (cpu::early_random() % DIRECT_MAP_SLOTS * GIB) as usize;
    // SAFETY: all tables written here are below 4 GiB, mapped one to one, and not yet in use, except the image's
    // directory, whose entries are replaced by equal translations.
    unsafe {
        let entry = |address: usize| (root as *mut u64).add(address >> 39 & 511);
        *entry(usize::MAX) = (&raw const IMAGE_POINTERS as u64).wrapping_sub(delta) | TABLE;
        *entry(STACK_AREA) = pages.take() | TABLE;
        *entry(DEVICE_AREA) = pages.take() | TABLE;
        map_image(delta, &mut pages);
        for region in &map.usable[..map.usable_count] {
            map_direct(root, base, *region, &mut pages);
        }
        if let Some(rest) = map.initramfs_rest() {
            map_direct(root, base, rest, &mut pages);
        }
        DIRECT_MAP.store(base, Ordering::Relaxed);
        RESERVE.lock().fill_with(|| pages.take());
        load_root(root, 0, false);
        flush_all();
        free_regions(map, &pages)
    }
}

/// Gives every page of the image the permissions of its section.
///
/// # Safety
/// As [`init`].
unsafe fn map_image(delta: u64, pages: &mut EarlyPages) {
    let (start, end) =
        (&raw const __image_start as u64, &raw const __image_end as u64 + super::symbols::extra_bytes());
    let guard = &raw const __boot_stack_guard as u64;
    let mut page = start;
    let mut table = 0;
    while page < end {
        let directory_index = (page >> 21 & 511) as usize;
        let index = (page >> 12 & 511) as usize;
        if table == 0 || index == 0 {
            table = pages.take();
        }
        let flags = if page < &raw const __text_end as u64 {
            READ_EXECUTE
        } else if page < &raw const __rodata_end as u64 || page >= &raw const __symbols_start as u64 {
            READ_ONLY
        } else {
            READ_WRITE
        };
        let value = if page == guard { 0 } else { page.wrapping_sub(delta) | flags };
        // SAFETY: the new table is private until the last of its 2 MiB is filled in, or the image ends.
        unsafe {
            (table as *mut u64).add(index).write(value);
            page += 4096;
            if page >= end || page & (LARGE - 1) == 0 {
                let directory = &raw mut IMAGE_DIRECTORY;
                (*directory).0[directory_index] = table | TABLE;
            }
        }
    }
    // SAFETY: clears the spare boot entry past the image, if it has one.
    unsafe {
        let directory = &raw mut IMAGE_DIRECTORY;
        for entry in (*directory).0.iter_mut().filter(|entry| **entry & PTE_LARGE != 0) {
            *entry = 0;
        }
    }
}

/// Maps one range of RAM with the largest pages that fit.
///
/// # Safety
/// As [`init`].
unsafe fn map_direct(root: u64, base: usize, region: MemoryRegion, pages: &mut EarlyPages) {
    let mut physical = region.start;
    while physical < region.end {
        let address = base as u64 + physical;
        let left = region.end - physical;
        let fits = |size: u64| physical & (size - 1) == 0 && left >= size;
        // SAFETY: the tables are reached one to one and belong to the direct map alone.
        unsafe {
            let pointers = next_table(root, address >> 39, pages);
            if has(Features::HUGE_PAGES) && fits(GIB) {
                (pointers as *mut u64)
                    .add((address >> 30 & 511) as usize)
                    .write(physical | READ_WRITE | PTE_LARGE);
                physical += GIB;
                continue;
            }
            let directory = next_table(pointers, address >> 30, pages);
            if fits(LARGE) {
                (directory as *mut u64)
                    .add((address >> 21 & 511) as usize)
                    .write(physical | READ_WRITE | PTE_LARGE);
                physical += LARGE;
                continue;
            }
            let table = next_table(directory, address >> 21, pages);
            (table as *mut u64).add((address >> 12 & 511) as usize).write(physical | READ_WRITE);
            physical += 4096;
        }
    }
}

/// The free ranges without the pages that the tables took, sorted.
///
/// # Safety
/// Once, on the boot CPU.
unsafe fn free_regions(map: &BootMemory, pages: &EarlyPages) -> &'static [MemoryRegion] {
    let list = &raw mut REGIONS;
    let mut count = 0;
    map.for_each_free(|mut region| {
        if region.end == pages.range.end {
            region.end = pages.next;
        }
        // SAFETY: one user, and the index is checked.
        unsafe {
            if count < (*list).len() && region.start < region.end {
                (*list)[count] = region;
                count += 1;
            }
        }
    });
    // SAFETY: the list is not changed any more.
    unsafe {
        let list = &mut (&mut *list)[..count];
        list.sort_unstable_by_key(|region| region.start);
        list
    }
}

/// Reads or writes tables of the growing areas through the direct map.
fn table_entry(table: u64, index: usize) -> *mut u64 {
    ((direct_map_base() as u64 + table) as *mut u64).wrapping_add(index & 511)
}

/// A zeroed page for a table.
fn new_table() -> Option<u64> {
    let reserved = RESERVE.lock().iter_mut().find(|page| **page != 0).map(core::mem::take);
    reserved.or_else(super::hooks::alloc_raw)
}

/// The last-level entry for an address of a growing area; missing tables are made, `None` without memory.
///
/// # Safety
/// The address is in the stack or device area and the caller holds the lock of that area.
pub(super) unsafe fn leaf_entry(address: usize) -> Option<*mut u64> {
    let mut table = kernel_root();
    for level in [39, 30, 21] {
        let entry = table_entry(table, address >> level);
        // SAFETY: walks the kernel's own tables, which are never freed.
        unsafe {
            if *entry == 0 {
                *entry = new_table()? | TABLE;
            }
            table = *entry & PTE_ADDRESS_MASK;
        }
    }
    Some(table_entry(table, address >> 12))
}

/// An entry for a page of a kernel stack.
pub(super) fn stack_entry(physical: u64) -> u64 {
    physical | READ_WRITE
}

/// Whether device memory is cached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    /// As RAM: firmware tables.
    Cached,
    /// Not cached: registers.
    Uncached,
}

/// Maps physical memory that is not RAM and gives its virtual address; stays forever. `None` without memory or space.
pub(crate) fn map_device(physical: u64, length: usize, caching: Caching) -> Option<usize> {
    let offset = (physical & 4095) as usize;
    let size = (offset + length).next_multiple_of(4096);
    let mut next = LOCK.lock();
    let start = *next;
    if size > DEVICE_AREA_END - start {
        return None;
    }
    let flags = READ_WRITE | if caching == Caching::Uncached { PTE_NO_CACHE | PTE_WRITE_THROUGH } else { 0 };
    for page in (0..size).step_by(4096) {
        // SAFETY: the range is in the device area, unused until now, and the lock is held.
        unsafe { *leaf_entry(start + page)? = ((physical & !4095) + page as u64) | flags };
    }
    *next = start + size + 4096;
    Some(start + offset)
}

/// Makes `physical` the root, with this address space number (0 when there are none). `keep_tagged` leaves the entries of
/// that number in the TLB: they are known to be right.
///
/// # Safety
/// The root has the kernel half, and its user half is valid for as long as it is loaded.
#[inline]
pub(crate) unsafe fn load_root(physical: u64, pcid: u16, keep_tagged: bool) {
    let no_flush = if keep_tagged && pcid != 0 { 1 << 63 } else { 0 };
    // SAFETY: the caller's contract.
    unsafe {
        asm!("mov cr3, {}", in(reg) physical | u64::from(pcid) | no_flush, options(nostack, preserves_flags))
    };
}

/// The highest address space number, or 0 if the processor has none.
pub(crate) fn max_pcid() -> u16 {
    if has(Features::PCID) { 4095 } else { 0 }
}

/// Forgets one page of the current address space (global or not).
#[inline]
pub(crate) fn flush_page(address: usize) {
    // SAFETY: forgetting a translation is always allowed.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// Forgets all entries of the current address space except global ones.
#[inline]
pub(crate) fn flush_user_all() {
    // SAFETY: loads the value that is there.
    unsafe {
        asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags));
    }
}

/// Forgets everything, also global entries and other address spaces.
pub(crate) fn flush_all() {
    let flags = cpu::irq_save();
    // SAFETY: toggling PGE flushes all; interrupts are off meanwhile.
    unsafe {
        asm!(
            "mov {old}, cr4", "mov {new}, {old}", "xor {new}, 0x80", "mov cr4, {new}", "mov cr4, {old}",
            old = out(reg) _, new = out(reg) _, options(nostack),
        );
    }
    cpu::irq_restore(flags);
}

/// The address of the last page fault.
#[inline]
pub(super) fn fault_address() -> usize {
    let address;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nostack, preserves_flags)) };
    address
}

/// Whether kernel code may read the 8 bytes at `address` without a fault: walks the current tables.
pub(super) fn is_readable(address: usize) -> bool {
    if !address.is_multiple_of(8) || address < usize::MAX << 47 {
        return false;
    }
    let mut table = kernel_root();
    for level in [39, 30, 21, 12] {
        // SAFETY: tables of the kernel half are RAM and never freed.
        let entry = unsafe { *table_entry(table, address >> level) };
        if entry & PTE_PRESENT == 0 {
            return false;
        }
        if level == 12 || entry & PTE_LARGE != 0 {
            return entry & PTE_NO_CACHE == 0;
        }
        table = entry & PTE_ADDRESS_MASK;
    }
    false
}

/// Looks for pages of the kernel half that are both writable and executable, and says so in the log.
pub(super) fn check_protections() {
    let found =
        (ENTRIES / 2..ENTRIES).map(|index| writable_code(kernel_root(), 39, index, true)).sum::<usize>();
    if found == 0 {
        log::info!("x86/mm: Checked W+X mappings: passed, no W+X pages found.");
    } else {
        log::error!("x86/mm: Checked W+X mappings: FAILED, {found} W+X pages found.");
    }
}

const ENTRIES: usize = 512;

/// Entries at and below one that let the kernel both write and run. `writable`: the tables above allow writing.
fn writable_code(table: u64, shift: u32, index: usize, writable: bool) -> usize {
    // SAFETY: tables of the kernel half are RAM and never freed.
    let entry = unsafe { *table_entry(table, index) };
    let writable = writable && entry & PTE_WRITE != 0;
    if entry & PTE_PRESENT == 0 || entry & PTE_NO_EXEC != 0 || !writable {
        return 0;
    }
    if shift == 12 || shift < 39 && entry & PTE_LARGE != 0 {
        return 1;
    }
    let below = entry & PTE_ADDRESS_MASK;
    (0..ENTRIES).map(|index| writable_code(below, shift - 9, index, writable)).sum()
}
