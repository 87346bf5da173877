//! From the entry stub to the kernel's main function: relocation, memory map, page tables, then the devices in order.
//!
//! Key items: [`early_relocate`] (runs before relocation, at the physical address), [`boot_main`]. Reference: Xen
//! `public/arch-x86/hvm/start_info.h`. Everything here runs on the boot CPU alone; what it stores is constant later.

use super::entry::BootTable;
use super::features::Features;
use super::hooks::MemoryRegion;
use super::{acpi, apic, clock, cpu, descriptors, fpu, paging, serial, traps};
use crate::sync::Once;
use core::sync::atomic::{AtomicU64, Ordering};

/// Where the image is loaded (`image/linker.ld` says the same).
pub(super) const PHYSICAL_BASE: u64 = 0x20_0000;
/// Where the image is linked; boot adds the slide.
pub(super) const LINK_BASE: u64 = 0xffff_ffff_8000_0000;
const LARGE_PAGE: u64 = 0x20_0000;
const START_INFO_MAGIC: u32 = 0x336e_c578;
const MAX_REGIONS: usize = 128;
pub(super) const NO_REGION: MemoryRegion = MemoryRegion { start: 0, end: 0 };

/// `struct hvm_start_info`, version 1.
#[repr(C)]
#[derive(Clone, Copy)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ModuleEntry {
    address: u64,
    size: u64,
    command_line: u64,
    reserved: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct MemoryMapEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Relocation {
    offset: u64,
    info: u64,
    addend: u64,
}

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
    static __symbols_start: u64;
}

/// Page tables of the kernel image's gigabyte; set up by [`early_relocate`], refined by [`paging`].
pub(super) static mut IMAGE_POINTERS: BootTable = BootTable([0; 512]);
pub(super) static mut IMAGE_DIRECTORY: BootTable = BootTable([0; 512]);

/// Chooses the slide, maps the image there and relocates it. Gives the distance from physical to virtual addresses.
///
/// # Safety
/// Called once by the entry stub, at the physical address, with the low 4 GiB mapped one to one. Nothing that needs a
/// relocation may be used in here: no `dyn`, no formatting, no tables of pointers, no exported names (they are reached
/// through the offset table, which is not relocated yet).
#[unsafe(no_mangle)]
unsafe extern "C" fn early_relocate(
    info: *const StartInfo,
    physical_base: u64,
    mut relocation: *const Relocation,
    relocations_end: *const Relocation,
    image_end: u64,
    root: *mut BootTable,
) -> u64 {
    let pages = (image_end - physical_base).div_ceil(LARGE_PAGE) + 1;
    let slots = 512 - pages;
    // SAFETY: the boot loader's structures are in the low 4 GiB, which is mapped.
    let slot = if unsafe { has_word((*info).command_line as *const u8, b"nokaslr") } {
        0
    } else {
        cpu::early_random() % slots
    };
    let slide = slot * LARGE_PAGE;
    let pointers = &raw mut IMAGE_POINTERS;
    let directory = &raw mut IMAGE_DIRECTORY;
    // SAFETY: only this CPU runs and nothing else uses the three tables yet; addresses are physical = virtual here.
    unsafe {
        (*root).0[511] = pointers as u64 | paging::TABLE;
        (*pointers).0[510] = directory as u64 | paging::TABLE;
        let mut page = 0;
        while page < pages {
            let entry = (physical_base + page * LARGE_PAGE)
                | paging::PTE_PRESENT
                | paging::PTE_WRITE
                | paging::PTE_LARGE;
            (*directory).0[(slot + page) as usize & 511] = entry;
            page += 1;
        }
        while relocation < relocations_end {
            let Relocation { offset, addend, .. } = *relocation;
            let place = (offset - LINK_BASE + physical_base) as *mut u64;
            place.write_unaligned(addend.wrapping_add(slide));
            relocation = relocation.add(1);
        }
    }
    (LINK_BASE + slide).wrapping_sub(physical_base)
}

/// Whether the NUL-terminated text at `text` has `word` in it, standing alone.
///
/// # Safety
/// `text` is null or points to mapped NUL-terminated bytes.
unsafe fn has_word(mut text: *const u8, word: &[u8; 7]) -> bool {
    if text.is_null() {
        return false;
    }
    let mut matched = 0;
    let mut fits = true;
    loop {
        // SAFETY: within the text: the loop ends at its NUL.
        let byte = unsafe { *text };
        if byte == 0 || byte == b' ' {
            if fits && matched == word.len() {
                return true;
            }
            if byte == 0 {
                return false;
            }
            matched = 0;
            fits = true;
        } else {
            fits = fits && matched < word.len() && byte == word[matched];
            matched += 1;
        }
        // SAFETY: not past the NUL.
        text = unsafe { text.add(1) };
    }
}

/// What boot found out; constant afterwards.
struct BootFacts {
    /// All ranges that the loader's memory map has, of whatever kind; `None` if it had too many to keep.
    map: Option<([MemoryRegion; MAX_REGIONS], usize)>,
    command_line: &'static str,
    initramfs: Option<(u64, u64)>,
    initramfs_ram_end: u64,
    entropy: [u8; 32],
}

static FACTS: Once<BootFacts> = Once::new();
static ENTRY_CYCLES: AtomicU64 = AtomicU64::new(0);

/// The kernel command line.
pub(crate) fn command_line() -> &'static str {
    FACTS.get().map_or("", |facts| facts.command_line)
}

/// Physical address and length of the first boot module.
pub(crate) fn initramfs() -> Option<(u64, u64)> {
    FACTS.get().and_then(|facts| facts.initramfs)
}

/// Where the RAM ends that the first boot module begins in: the loader may put it over what the firmware keeps.
pub(crate) fn initramfs_ram_end() -> u64 {
    FACTS.get().map_or(0, |facts| facts.initramfs_ram_end)
}

/// Whether the loader's memory map says nothing of a range, so that it is neither RAM nor the firmware's.
pub(super) fn is_unmentioned(start: u64, end: u64) -> bool {
    let Some((map, count)) = FACTS.get().and_then(|facts| facts.map.as_ref()) else { return false };
    map[..*count].iter().all(|known| known.end <= start || end <= known.start)
}

/// Seed material from the processor.
pub(crate) fn boot_entropy() -> [u8; 32] {
    FACTS.get().map_or([0; 32], |facts| facts.entropy)
}

/// Cycle counter at kernel entry.
pub(super) fn entry_cycles() -> u64 {
    ENTRY_CYCLES.load(Ordering::Relaxed)
}

/// The first Rust code at the final virtual address. `delta` is virtual minus physical address of the image.
///
/// # Safety
/// Called once by the entry stub.
#[unsafe(no_mangle)]
unsafe extern "C" fn boot_main(info: u64, delta: u64) -> ! {
    ENTRY_CYCLES.store(cpu::cycles(), Ordering::Relaxed);
    // SAFETY: one call, on the boot CPU, before anything else runs.
    unsafe {
        cpu::init_boot_cpu();
        descriptors::init_boot_cpu();
        cpu::enable_features();
        super::string::init();
        if !cpu::has(Features::SMAP) {
            traps::remove_smap_instructions();
        }
    }
    serial::init_early();
    // SAFETY: `info` comes from the boot loader through the entry stub; the low 4 GiB is mapped one to one.
    let map = unsafe { BootMemory::read(info as *const StartInfo, delta) };
    let rsdp = map.rsdp;
    // SAFETY: the map describes the machine's memory; nothing else uses the free part yet.
    let regions = unsafe { paging::init(&map, delta) };
    let _ = FACTS.set(BootFacts {
        map: map.complete.then_some((map.all, map.all_count)),
        command_line: map.command_line(),
        initramfs: map.initramfs,
        initramfs_ram_end: map.initramfs_ram_end(),
        entropy: cpu::gather_entropy(),
    });
    acpi::init(rsdp);
    // SAFETY: the ranges are RAM in the direct map that nothing uses.
    unsafe { crate::boot::init_memory(regions) };
    crate::log_buffer::init();
    crate::oops::init(command_line());
    log::info!("Linnet {}: {} MiB of memory", env!("CARGO_PKG_VERSION"), map.total() >> 20);
    report_layout();
    apic::init_boot_cpu();
    clock::start_calibration();
    fpu::init();
    clock::init();
    serial::init_interrupts();
    super::irq_enable();
    unsafe extern "Rust" {
        safe fn linnet_main() -> !;
    }
    linnet_main()
}

/// Says where KASLR has put things, for whoever debugs with `debug` on the command line: programs must not learn it, so it
/// goes to the console only, never into the log that they can read.
fn report_layout() {
    if command_line().split_ascii_whitespace().any(|word| word == "debug") {
        super::console_print(format_args!(
            "kernel image at {:#x}, direct map at {:#x}\n",
            LINK_BASE + paging::slide(),
            paging::direct_map_base(),
        ));
    }
}

/// The memory map and what lies in it, copied out of the boot loader's structures.
pub(super) struct BootMemory {
    /// Usable ranges, as the loader gave them.
    pub(super) usable: [MemoryRegion; MAX_REGIONS],
    pub(super) usable_count: usize,
    /// All ranges, of whatever kind.
    all: [MemoryRegion; MAX_REGIONS],
    all_count: usize,
    /// Whether `all` has all of them.
    complete: bool,
    /// Physical ranges that are in use although the map says usable.
    pub(super) taken: [MemoryRegion; 8],
    rsdp: u64,
    initramfs: Option<(u64, u64)>,
    line: &'static [u8],
}

/// The command line is copied here: the loader's memory is given to the allocator.
static mut COMMAND_LINE: [u8; 2048] = [0; 2048];

impl BootMemory {
    /// # Safety
    /// `info` is the loader's start info, and the low 4 GiB is mapped one to one. Called once.
    unsafe fn read(info: *const StartInfo, delta: u64) -> BootMemory {
        // SAFETY: the caller's contract.
        let info = unsafe { info.read() };
        let mut map = BootMemory {
            usable: [NO_REGION; MAX_REGIONS],
            usable_count: 0,
            all: [NO_REGION; MAX_REGIONS],
            all_count: 0,
            complete: true,
            taken: [NO_REGION; 8],
            rsdp: info.rsdp,
            initramfs: None,
            line: &[],
        };
        if info.magic != START_INFO_MAGIC || info.version == 0 {
            panic!("boot loader gave no PVH memory map");
        }
        for index in 0..info.memory_map_entries as usize {
            // SAFETY: the loader says that so many entries are there.
            let entry = unsafe { (info.memory_map as *const MemoryMapEntry).add(index).read() };
            map.note(entry.address, entry.address.saturating_add(entry.size));
            if entry.kind == 1 {
                map.add_usable(entry.address, entry.address.saturating_add(entry.size));
            }
        }
        if info.module_count > 0 {
            // SAFETY: as above, for the modules.
            let module = unsafe { (info.modules as *const ModuleEntry).read() };
            map.initramfs = (module.size > 0).then_some((module.address, module.size));
        }
        // SAFETY: as above; nothing else touches COMMAND_LINE before this function has returned.
        map.line = unsafe { copy_command_line(info.command_line as *const u8) };
        map.mark_taken(delta);
        map
    }

    fn note(&mut self, start: u64, end: u64) {
        match self.all.get_mut(self.all_count) {
            Some(place) => {
                *place = MemoryRegion { start, end };
                self.all_count += 1;
            }
            None => self.complete = false,
        }
    }

    fn add_usable(&mut self, start: u64, end: u64) {
        let (start, end) = (start.next_multiple_of(4096), end & !4095);
        if start < end && self.usable_count < MAX_REGIONS {
            self.usable[self.usable_count] = MemoryRegion { start, end };
            self.usable_count += 1;
        }
    }

    fn mark_taken(&mut self, delta: u64) {
        let image = (&raw const __image_start as u64).wrapping_sub(delta);
        let end = (&raw const __image_end as u64).wrapping_sub(delta) + super::symbols::extra_bytes();
        // The first page (real-mode vectors, null) and the trampoline's page; the image; the initramfs.
        self.taken[0] = MemoryRegion { start: 0, end: 4096 };
        self.taken[1] = MemoryRegion { start: super::smp::TRAMPOLINE, end: super::smp::TRAMPOLINE + 4096 };
        self.taken[2] = MemoryRegion { start: image, end: end.next_multiple_of(4096) };
        if let Some((start, length)) = self.initramfs {
            self.taken[3] =
                MemoryRegion { start: start & !4095, end: (start + length).next_multiple_of(4096) };
        }
    }

    /// Bytes of usable memory.
    pub(super) fn total(&self) -> u64 {
        self.usable[..self.usable_count].iter().map(|region| region.end - region.start).sum()
    }

    /// The end of the usable memory that the initramfs begins in; its beginning if that is in none.
    fn initramfs_ram_end(&self) -> u64 {
        let mut end = self.taken[3].start;
        let usable = &self.usable[..self.usable_count];
        while let Some(region) = usable.iter().find(|region| (region.start..region.end).contains(&end)) {
            end = region.end;
        }
        end
    }

    /// What of the initramfs is beyond the usable memory that it begins in. QEMU puts it at the end of memory, where the firmware may have
    /// taken more for itself than QEMU thought.
    pub(super) fn initramfs_rest(&self) -> Option<MemoryRegion> {
        let start = self.initramfs_ram_end();
        let usable = self.usable[..self.usable_count].iter();
        let next = usable.map(|region| region.start).filter(|next| *next > start).min().unwrap_or(u64::MAX);
        let end = self.taken[3].end.min(next);
        (start < end).then_some(MemoryRegion { start, end })
    }

    fn command_line(&self) -> &'static str {
        core::str::from_utf8(self.line).unwrap_or("").trim()
    }

    /// Calls `each` with every free range: usable and not taken, by rising address within a usable range.
    pub(super) fn for_each_free(&self, mut each: impl FnMut(MemoryRegion)) {
        for region in &self.usable[..self.usable_count] {
            let mut start = region.start;
            while start < region.end {
                let hit = self
                    .taken
                    .iter()
                    .filter(|taken| taken.end > start && taken.start < region.end)
                    .min_by_key(|taken| taken.start);
                let end = hit.map_or(region.end, |taken| taken.start.max(start));
                if start < end {
                    each(MemoryRegion { start, end });
                }
                start = hit.map_or(region.end, |taken| taken.end);
            }
        }
    }
}

/// # Safety
/// `text` is null or NUL-terminated mapped bytes; called once, before others read `COMMAND_LINE`.
unsafe fn copy_command_line(text: *const u8) -> &'static [u8] {
    let buffer = &raw mut COMMAND_LINE;
    let mut length = 0;
    // SAFETY: the caller's contract; `length` stays inside both texts.
    unsafe {
        while !text.is_null() && length < 2047 && *text.add(length) != 0 {
            (*buffer)[length] = *text.add(length);
            length += 1;
        }
        core::slice::from_raw_parts(buffer.cast::<u8>(), length)
    }
}
