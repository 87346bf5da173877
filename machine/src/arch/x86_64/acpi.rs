//! What ACPI says: CPUs, interrupt controllers, timers, how to switch the machine off.
//!
//! Key types: [`Facts`], read once at boot through the `acpi` crate. The AML byte code is not run: of it only `\_S5` is
//! looked up, by its encoding. Without ACPI: one CPU, the PC's standard addresses.

use super::paging::{Caching, map_device};
use crate::irq::{IrqLine, LineTrigger};
use crate::platform::PlatformDevice;
use crate::sync::Once;
use acpi::address::{AddressSpace, GenericAddress};
use acpi::fadt::Fadt;
use acpi::hpet::HpetInfo;
use acpi::madt::{Madt, MadtEntry};
use acpi::mcfg::Mcfg;
use acpi::{AcpiHandler, AcpiTables, PhysicalMapping};
use core::ptr::NonNull;

const MAX_CPUS: usize = super::cpu::MAX_CPUS;
/// QEMU's microvm has 24 places for them.
const MAX_VIRTIO: usize = 32;

/// A register of the platform.
#[derive(Clone, Copy, Debug)]
pub(super) enum Register {
    /// An I/O port.
    Port(u16),
    /// A physical address.
    Memory(u64),
}

/// What the tables say. Constant after boot.
pub(super) struct Facts {
    /// APIC numbers of all usable CPUs.
    pub(super) apic_ids: [u32; MAX_CPUS],
    pub(super) cpu_count: usize,
    pub(super) local_apic: u64,
    /// Physical address and first line of each I/O APIC.
    pub(super) io_apics: [Option<(u64, u32)>; 8],
    overrides: [Option<(u8, u32, LineTrigger)>; 16],
    pub(super) hpet: Option<u64>,
    /// Port of the ACPI timer and whether it has 32 bits.
    pub(super) pm_timer: Option<(u16, bool)>,
    /// PM1a and PM1b control ports.
    pub(super) pm1_control: [Option<u16>; 2],
    /// SLP_TYPa and SLP_TYPb of S5.
    pub(super) sleep_types: [u8; 2],
    /// The sleep control register of hardware-reduced ACPI.
    pub(super) sleep_control: Option<Register>,
    /// The reset register and what to write.
    pub(super) reset: Option<(Register, u8)>,
    /// SMI command port and the value that switches ACPI mode on.
    pub(super) enable: Option<(u16, u8)>,
    /// Virtio devices with registers in memory.
    virtio_mmio: [Option<PlatformDevice>; MAX_VIRTIO],
    /// PCI configuration space: base, first and last bus.
    pub(super) pci_config: Option<(u64, u8, u8)>,
    /// The CMOS register of the century.
    pub(super) century: u8,
}

impl Facts {
    const fn new() -> Facts {
        Facts {
            apic_ids: [0; MAX_CPUS],
            cpu_count: 0,
            local_apic: 0xfee0_0000,
            io_apics: [None; 8],
            overrides: [None; 16],
            hpet: None,
            pm_timer: None,
            pm1_control: [None; 2],
            sleep_types: [0; 2],
            sleep_control: None,
            reset: None,
            enable: None,
            virtio_mmio: [None; MAX_VIRTIO],
            pci_config: None,
            century: 0,
        }
    }
}

static FACTS: Once<Facts> = Once::new();
static NOTHING: Facts = Facts::new();

/// What the tables said.
pub(super) fn facts() -> &'static Facts {
    FACTS.get().unwrap_or(&NOTHING)
}

/// The line of an ISA interrupt number, and how it signals.
pub(crate) fn isa_to_gsi(irq: u8) -> (u32, LineTrigger) {
    let found = facts().overrides.iter().flatten().find(|(source, ..)| *source == irq);
    found.map_or((u32::from(irq), LineTrigger::Edge), |&(_, line, trigger)| (line, trigger))
}

/// The virtio devices with registers in memory.
pub(crate) fn virtio_mmio_devices() -> impl Iterator<Item = PlatformDevice> {
    facts().virtio_mmio.iter().flatten().copied()
}

/// Whether some of the machine's own registers are in a range: interrupt controllers (and where messages to them are sent), timers,
/// configuration space.
pub(super) fn is_own(start: u64, end: u64) -> bool {
    const MESSAGES: (u64, u64) = (0xfee0_0000, 0xfef0_0000);
    let facts = facts();
    let page = |address: u64| (address, address.saturating_add(4096));
    let io_apics = facts.io_apics.iter().flatten().map(|&(address, _)| page(address));
    let config = facts
        .pci_config
        .map(|(base, first, last)| (base, base.saturating_add((u64::from(last - first) + 1) << 20)));
    let others = [Some(MESSAGES), Some(page(facts.local_apic)), facts.hpet.map(page), config];
    io_apics.chain(others.into_iter().flatten()).any(|(from, to)| from < end && start < to)
}

/// How many CPUs can come online.
pub(crate) fn possible_cpus() -> usize {
    facts().cpu_count.max(1)
}

/// Maps tables for the `acpi` crate.
#[derive(Clone, Copy)]
struct Mapper;

impl AcpiHandler for Mapper {
    unsafe fn map_physical_region<T>(&self, physical: usize, size: usize) -> PhysicalMapping<Self, T> {
        let address =
            map_device(physical as u64, size, Caching::Cached).expect("no memory to map ACPI tables");
        let pointer = NonNull::new(address as *mut T).expect("device area is not at zero");
        // SAFETY: the range is mapped and stays so.
        unsafe { PhysicalMapping::new(physical, pointer, size, size, Mapper) }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}

/// Reads the tables. `rsdp` is what the boot loader gave, or 0.
pub(super) fn init(rsdp: u64) {
    let mut facts = Facts::new();
    // SAFETY: the address comes from the boot loader, or from the firmware's area.
    let tables = unsafe {
        if rsdp != 0 {
            AcpiTables::from_rsdp(Mapper, rsdp as usize)
        } else {
            AcpiTables::search_for_rsdp_bios(Mapper)
        }
    };
    match tables {
        Ok(tables) => read_tables(&tables, &mut facts),
        Err(_) => super::console_print(format_args!("ACPI: no tables\n")),
    }
    if facts.cpu_count == 0 {
        facts.cpu_count = 1;
        facts.apic_ids[0] = super::cpu::boot_apic_id();
    }
    if facts.io_apics[0].is_none() {
        facts.io_apics[0] = Some((0xfec0_0000, 0));
    }
    put_boot_cpu_first(&mut facts);
    let _ = FACTS.set(facts);
}

fn put_boot_cpu_first(facts: &mut Facts) {
    let me = super::cpu::boot_apic_id();
    let ids = &mut facts.apic_ids[..facts.cpu_count];
    match ids.iter().position(|&id| id == me) {
        Some(place) => ids[..=place].rotate_right(1),
        None => ids[0] = me,
    }
}

fn read_tables(tables: &AcpiTables<Mapper>, facts: &mut Facts) {
    if let Ok(madt) = tables.find_table::<Madt>() {
        read_madt(&madt, facts);
    }
    if let Ok(fadt) = tables.find_table::<Fadt>() {
        read_fadt(&fadt, facts);
        if let Ok(dsdt) = tables.dsdt() {
            // SAFETY: the table says where its byte code is and how long.
            let code = unsafe { physical_bytes(dsdt.address as u64, dsdt.length as usize) };
            facts.sleep_types = find_sleep_types(code).unwrap_or([0; 2]);
            find_virtio_mmio(code, &mut facts.virtio_mmio);
        }
    }
    if let Ok(hpet) = HpetInfo::new(tables) {
        facts.hpet = Some(hpet.base_address as u64);
    }
    if let Ok(mcfg) = tables.find_table::<Mcfg>() {
        facts.pci_config = mcfg
            .entries()
            .first()
            .map(|entry| (entry.base_address, entry.bus_number_start, entry.bus_number_end))
            .filter(|(_, first, last)| first <= last);
    }
}

/// # Safety
/// The range is memory that does not change.
unsafe fn physical_bytes(physical: u64, length: usize) -> &'static [u8] {
    match map_device(physical, length, Caching::Cached) {
        // SAFETY: mapped for good.
        Some(address) => unsafe { core::slice::from_raw_parts(address as *const u8, length) },
        None => &[],
    }
}

fn read_madt(madt: &PhysicalMapping<Mapper, Madt>, facts: &mut Facts) {
    let table = madt.get();
    facts.local_apic = u64::from(table.local_apic_address);
    for entry in table.entries() {
        match entry {
            MadtEntry::LocalApic(cpu) if cpu.flags & 1 != 0 => add_cpu(facts, u32::from(cpu.apic_id)),
            MadtEntry::LocalX2Apic(cpu) if cpu.flags & 1 != 0 => add_cpu(facts, cpu.x2apic_id),
            MadtEntry::LocalApicAddressOverride(entry) => facts.local_apic = entry.local_apic_address,
            MadtEntry::IoApic(chip) => {
                let value = (u64::from(chip.io_apic_address), chip.global_system_interrupt_base);
                if let Some(place) = facts.io_apics.iter_mut().find(|place| place.is_none()) {
                    *place = Some(value);
                }
            }
            MadtEntry::InterruptSourceOverride(entry) => {
                let trigger = match (entry.flags >> 2 & 3, entry.flags & 3) {
                    (3, 3) => LineTrigger::LevelLow,
                    (3, _) => LineTrigger::LevelHigh,
                    _ => LineTrigger::Edge,
                };
                if let Some(place) = facts.overrides.iter_mut().find(|place| place.is_none()) {
                    *place = Some((entry.irq, entry.global_system_interrupt, trigger));
                }
            }
            _ => {}
        }
    }
}

fn add_cpu(facts: &mut Facts, apic_id: u32) {
    if facts.cpu_count < MAX_CPUS && !facts.apic_ids[..facts.cpu_count].contains(&apic_id) {
        facts.apic_ids[facts.cpu_count] = apic_id;
        facts.cpu_count += 1;
    }
}

fn register_of(address: &GenericAddress) -> Option<Register> {
    match address.address_space {
        _ if address.address == 0 => None,
        AddressSpace::SystemIo => u16::try_from(address.address).ok().map(Register::Port),
        AddressSpace::SystemMemory => Some(Register::Memory(address.address)),
        _ => None,
    }
}

fn port_of(address: &GenericAddress) -> Option<u16> {
    match register_of(address) {
        Some(Register::Port(port)) => Some(port),
        _ => None,
    }
}

fn read_fadt(fadt: &Fadt, facts: &mut Facts) {
    let flags = fadt.flags;
    facts.pm1_control[0] = fadt.pm1a_control_block().ok().and_then(|block| port_of(&block));
    facts.pm1_control[1] = fadt.pm1b_control_block().ok().flatten().and_then(|block| port_of(&block));
    facts.sleep_control = fadt.sleep_control_register().ok().flatten().and_then(|block| register_of(&block));
    if let Ok(Some(block)) = fadt.pm_timer_block() {
        facts.pm_timer = port_of(&block).map(|port| (port, flags.pm_timer_is_32_bit()));
    }
    if flags.supports_system_reset_via_fadt() {
        let register = fadt.reset_register().ok().and_then(|block| register_of(&block));
        facts.reset = register.map(|register| (register, fadt.reset_value));
    }
    let (port, value) = (fadt.smi_cmd_port, fadt.acpi_enable);
    facts.enable = u16::try_from(port).ok().filter(|port| *port != 0 && value != 0).map(|port| (port, value));
    facts.century = fadt.century;
}

/// The two sleep types in `Name (\_S5, Package () { a, b, ... })`: NameOp, the name, PackageOp, length, count, then two
/// integers (ACPI 6.5, 7.4.2 and 20.2).
fn find_sleep_types(code: &[u8]) -> Option<[u8; 2]> {
    let name = code.windows(5).position(|window| window == b"_S5_\x12")?;
    let rest = code.get(name + 5..)?;
    let length_bytes = usize::from(rest.first()? >> 6) + 1;
    let mut elements = rest.get(length_bytes + 1..)?.iter();
    let mut integer = || match elements.next()? {
        0x00 => Some(0), // ZeroOp
        0x01 => Some(1), // OneOp
        0x0a => elements.next().copied(),
        _ => None,
    };
    Some([integer()?, integer().unwrap_or(0)])
}

/// Looks for devices of the kind `LNRO0005` and takes registers and interrupt from the resource template that follows each
/// (ACPI 6.5, 6.4.3.4 "32-Bit Fixed Memory Range" and 6.4.3.6 "Extended Interrupt"). Such a device has constant resources, so that
/// its byte code need not be run.
fn find_virtio_mmio(code: &[u8], into: &mut [Option<PlatformDevice>]) {
    const NAME: &[u8] = b"LNRO0005\0";
    let mut rest = code;
    for place in into {
        let Some(at) = rest.windows(NAME.len()).position(|window| window == NAME) else { return };
        rest = &rest[at + NAME.len()..];
        let next = rest.windows(NAME.len()).position(|window| window == NAME).unwrap_or(rest.len());
        *place = resources(&rest[..next]);
    }
}

/// The first memory range and interrupt among the encoded resources of one device.
fn resources(code: &[u8]) -> Option<PlatformDevice> {
    let at = code.windows(3).position(|window| window == [0x86, 9, 0])?;
    let word = |from: usize| Some(u32::from_le_bytes(code.get(from..from + 4)?.try_into().ok()?));
    let (address, length) = (word(at + 4)?, word(at + 8)?);
    // The descriptor of an interrupt follows that of the memory, whose length is 12 bytes.
    let interrupt = at + 12;
    if code.get(interrupt..interrupt + 3)? != [0x89, 6, 0] {
        return None;
    }
    let trigger = match code.get(interrupt + 3)? & 6 {
        0 => LineTrigger::LevelHigh,
        4 => LineTrigger::LevelLow,
        _ => LineTrigger::Edge,
    };
    let line = IrqLine(word(interrupt + 5)?);
    Some(PlatformDevice { address: u64::from(address), length: length as usize, line, trigger })
}
