//! What drivers may reach: which physical addresses can be a device's, and PCI configuration space.
//!
//! Locks: [`BUSES`] is a leaf but for the page tables' own.

use super::lock::RawLock;
use super::paging::{Caching, map_device};
use super::{acpi, boot, cpu};
use crate::mmio::MmioWindow;
use crate::pci::CONFIG_BYTES;

/// Where the megabyte of each bus is mapped; 0: nobody has asked yet.
static BUSES: RawLock<[usize; 256]> = RawLock::new([0; 256]);

/// Whether a range can be a device's registers: the processor can address it, and it is nobody else's.
pub(crate) fn may_be_device(start: u64, end: u64) -> bool {
    let bits = match cpu::cpuid_words(0x8000_0008, 0)[0] & 0xff {
        bits @ 32..=52 => bits,
        _ => 36,
    };
    start < end && end <= 1 << bits && boot::is_unmentioned(start, end) && !acpi::is_own(start, end)
}

/// Maps whole pages of registers, for good.
pub(crate) fn map_registers(start: u64, length: usize) -> Option<usize> {
    map_device(start, length, Caching::Uncached)
}

/// The first and the last PCI bus.
pub(crate) fn pci_buses() -> Option<(u8, u8)> {
    acpi::facts().pci_config.map(|(_, first, last)| (first, last))
}

/// A function's configuration space.
pub(crate) fn pci_function(bus: u8, device: u8, function: u8) -> Option<MmioWindow> {
    const BUS_BYTES: usize = 1 << 20;
    let (base, first, last) = acpi::facts().pci_config?;
    if !(first..=last).contains(&bus) || device >= 32 || function >= 8 {
        return None;
    }
    let mut buses = BUSES.lock();
    let mapped = buses.get_mut(usize::from(bus))?;
    if *mapped == 0 {
        let start = base + u64::from(bus - first) * BUS_BYTES as u64;
        *mapped = map_device(start, BUS_BYTES, Caching::Uncached)?;
    }
    let offset = (usize::from(device) << 3 | usize::from(function)) * CONFIG_BYTES;
    // SAFETY: within the bus's megabyte, which is mapped for good; its registers change no memory of the kernel's.
    Some(unsafe { MmioWindow::mapped(*mapped + offset, CONFIG_BYTES) })
}
