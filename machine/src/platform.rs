//! Devices that no bus can list: what the firmware's tables say where they are.
//!
//! Key type: [`PlatformDevice`]. Constant after boot; no locks.

use crate::arch;
use crate::irq::{IrqLine, LineTrigger};

/// Registers and an interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformDevice {
    /// Physical address of the registers.
    pub address: u64,
    /// Their length in bytes.
    pub length: usize,
    /// Its interrupt.
    pub line: IrqLine,
    /// How that signals.
    pub trigger: LineTrigger,
}

/// The virtio devices (`LNRO0005`) that ACPI names.
pub fn virtio_mmio() -> impl Iterator<Item = PlatformDevice> {
    arch::virtio_mmio_devices()
}
