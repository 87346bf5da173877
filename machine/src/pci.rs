//! PCI configuration space, by the memory window that the firmware's MCFG table tells of (ECAM).
//!
//! Key functions: [`buses`], [`function`]. A bus's megabyte is mapped when somebody first asks for one of its functions. What
//! the registers mean is `kernel/device`'s business. Reference: PCI Express Base Specification, 7.2.2.
//!
//! No locks of its own; mapping takes the page tables'.

use crate::arch;
use crate::mmio::MmioWindow;

/// Bytes of a function's configuration space.
pub const CONFIG_BYTES: usize = 4096;

/// The first and the last bus number that can be there; `None` without PCI Express.
pub fn buses() -> Option<(u8, u8)> {
    arch::pci_buses()
}

/// A window onto the registers of a function, whether or not there is one (then they read as ones). `None`: no such place,
/// or no memory for page tables.
pub fn function(bus: u8, device: u8, function: u8) -> Option<MmioWindow> {
    arch::pci_function(bus, device, function)
}
