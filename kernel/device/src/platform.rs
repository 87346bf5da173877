//! Devices that no bus lists: virtio devices with registers in memory, told of by ACPI or on the command line.
//!
//! Key function: [`probe`]. The command line is Linux's: `virtio_mmio.device=SIZE@BASE:IRQ[:ID]`, as often as there are devices; it is how
//! Firecracker and QEMU's microvm without ACPI tell of them.

use crate::virtio::mmio;
use alloc::format;
use machine::irq::{IrqLine, LineTrigger};
use machine::platform::{PlatformDevice, virtio_mmio};

/// Looks at every device that the machine tells of.
pub fn probe() {
    let line = machine::boot::command_line();
    let told = line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("virtio_mmio.device="));
    for (id, device) in virtio_mmio().enumerate() {
        mmio::probe(&format!("LNRO0005:{id:02x}"), &device);
    }
    for (number, text) in told.enumerate() {
        match parse(text) {
            Some((device, id)) => {
                mmio::probe(&format!("virtio-mmio.{}", id.unwrap_or(number as u32)), &device);
            }
            None => log::warn!("virtio_mmio: \"{text}\" is not SIZE@BASE:IRQ[:ID]"),
        }
    }
}

/// A number as Linux's `simple_strtoull` with base 0 reads it: decimal, or hexadecimal after `0x`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A size, perhaps with a suffix.
fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number(digits)?.checked_mul(1 << shift)
}

/// One device of the command line, and its id if it has one.
fn parse(text: &str) -> Option<(PlatformDevice, Option<u32>)> {
    let (length, rest) = text.split_once('@')?;
    let mut parts = rest.split(':');
    let address = number(parts.next()?)?;
    let line = u32::try_from(number(parts.next()?)?).ok()?;
    let id = match parts.next() {
        Some(id) => Some(u32::try_from(number(id)?).ok()?),
        None => None,
    };
    let length = usize::try_from(size(length)?).ok()?;
    // The lines of the ISA bus are edges, all others levels.
    let trigger = if line < 16 { LineTrigger::Edge } else { LineTrigger::LevelHigh };
    let device = PlatformDevice { address, length, line: IrqLine(line), trigger };
    parts.next().is_none().then_some((device, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_as_monitors_write_them() {
        let (device, id) = parse("4K@0xd0000000:5").unwrap();
        assert_eq!((device.address, device.length, device.line, id), (0xd000_0000, 4096, IrqLine(5), None));
        assert_eq!(parse("512@0xfeb00e00:12:3").unwrap().1, Some(3));
        assert_eq!(parse("512@0xfeb00e00:12").unwrap().0.trigger, LineTrigger::Edge);
        for bad in
            ["", "512", "512@", "512@0xfeb00e00", "x@1:2", "1@1:2:3:4", "99999999999999999999@1:2", "1@1:-1"]
        {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
