//! PCI: finding functions, and their place in the tree.
//!
//! Key types: [`Function`] (registers, capabilities, memory, messages: `function`), [`Messages`] (`message`). [`probe`] walks the buses from the
//! root, through bridges whose bus numbers the firmware has set; a bridge leads to higher numbers only, so the walk ends.
//! What comes later ([`probe_behind`]) is given addresses in its bridge's windows (`place`).
//! Reference: PCI Local Bus Specification 3.0, PCI Express Base Specification. Locks: [`WALK`] (sleeping), outside all of a device's.

mod function;
mod message;
mod place;

pub use function::{CAPABILITY_EXPRESS, CAPABILITY_MESSAGES, CAPABILITY_VENDOR, Function, Ids, Memory};
pub use message::Messages;

use crate::model::{self, Attribute, Device};
use abi::errno::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use machine::sync::Mutex;

/// The bus's name.
pub const BUS: &str = "pci";

/// One walk or removal at a time.
static WALK: Mutex<()> = Mutex::new(());

/// Adds all functions that there are and that are not in the tree yet. Thread context.
pub fn probe() {
    let Some((first, last)) = machine::pci::buses() else { return };
    let _walk = WALK.lock();
    let name = format!("pci0000:{first:02x}");
    let top = model::find("", &name).or_else(|| {
        let top = Device::new(name, "", None, Arc::new(()), &[], String::new());
        model::add(top.clone()).ok().map(|()| top)
    });
    if let Some(top) = top {
        scan_bus(first, last, &top);
    }
}

/// Adds what is behind a bridge and not in the tree yet. Thread context.
pub fn probe_behind(bridge: &Arc<Device>) {
    let Some((_, last)) = machine::pci::buses() else { return };
    let _walk = WALK.lock();
    if let Some(function) = bridge.on_bus::<Function>().filter(|_| !bridge.is_removed()) {
        scan_behind(bridge, &function, last);
    }
}

/// Takes a function and what is behind it out of the tree. Thread context. Errors: `ENODEV`: it is not there.
pub fn remove(device: &Arc<Device>) -> Result<()> {
    let _walk = WALK.lock();
    model::remove(device)
}

/// Takes all that is behind a bridge out of the tree, the last first. Thread context.
pub fn remove_behind(bridge: &Arc<Device>) {
    let _walk = WALK.lock();
    for child in model::children(bridge).iter().rev().filter(|child| child.bus() == BUS) {
        let _ = model::remove(child);
    }
}

/// Looks at all places of a bus.
fn scan_bus(bus: u8, last: u8, parent: &Arc<Device>) {
    for device in 0..32 {
        let mut count = 1;
        let mut number = 0;
        while number < count {
            if let Some(device) = known_or_new(bus, device, number, parent)
                && let Some(function) = device.on_bus::<Function>()
            {
                if function.is_multifunction() {
                    count = 8;
                }
                scan_behind(&device, &function, last);
            }
            number += 1;
        }
    }
}

/// Looks behind a function if it is a bridge.
fn scan_behind(device: &Arc<Device>, function: &Function, last: u8) {
    match function.secondary_bus() {
        Some(behind) if behind > function.bus() && behind <= last => scan_bus(behind, last, device),
        Some(behind) => log::warn!("pci {}: a bridge to bus {behind}: not looked at", device.name()),
        None => {}
    }
}

/// The function at a place, if there is one; if it was not known, it is now.
fn known_or_new(bus: u8, device: u8, number: u8, parent: &Arc<Device>) -> Option<Arc<Device>> {
    if let Some(known) = model::find(BUS, &function::name(bus, device, number)) {
        return Some(known);
    }
    let mut function = Function::find(bus, device, number)?;
    if let Some(windows) = parent.on_bus::<Function>().and_then(|bridge| bridge.windows()) {
        function.place(&windows, &mut taken_behind(parent));
    }
    let (ids, name) = (function.ids(), function.name());
    let identity = format!(
        "PCI_CLASS={:X}\nPCI_ID={:04X}:{:04X}\nPCI_SUBSYS_ID={:04X}:{:04X}\nPCI_SLOT_NAME={name}\nMODALIAS={}\n",
        ids.class,
        ids.vendor,
        ids.device,
        ids.subsystem_vendor,
        ids.subsystem_device,
        modalias(&ids)
    );
    let device =
        Device::new(name.clone(), BUS, Some(parent.clone()), Arc::new(function), &ATTRIBUTES, identity);
    match model::add(device.clone()) {
        Ok(()) => Some(device),
        Err(error) => {
            log::warn!("pci {name}: {error:?}");
            None
        }
    }
}

/// The addresses that functions on the bus behind a bridge answer at, and the windows of bridges there.
fn taken_behind(bridge: &Arc<Device>) -> Vec<Range<u64>> {
    let functions = model::children(bridge);
    let functions = functions.iter().filter_map(|child| child.on_bus::<Function>());
    functions
        .flat_map(|function| function.taken().chain(function.let_through()).collect::<Vec<_>>())
        .collect()
}

fn modalias(ids: &Ids) -> String {
    format!(
        "pci:v{:08X}d{:08X}sv{:08X}sd{:08X}bc{:02X}sc{:02X}i{:02X}",
        ids.vendor,
        ids.device,
        ids.subsystem_vendor,
        ids.subsystem_device,
        ids.class >> 16,
        ids.class >> 8 & 0xff,
        ids.class & 0xff
    )
}

/// Calls `write` with the function behind a file of `/sys`.
fn show(device: &Device, write: impl FnOnce(&Function) -> core::fmt::Result) -> Result<()> {
    let function = device.on_bus::<Function>().ok_or(Errno::ENODEV)?;
    write(&function).map_err(|_| Errno::EIO)
}

macro_rules! id_attribute {
    ($name:literal, $format:literal, $field:ident) => {
        Attribute {
            name: $name,
            show: |device, out| show(device, |function| writeln!(out, $format, function.ids().$field)),
            store: None,
        }
    };
}

/// The files of a function in `/sys`.
static ATTRIBUTES: [Attribute; 9] = [
    id_attribute!("vendor", "{:#06x}", vendor),
    id_attribute!("device", "{:#06x}", device),
    id_attribute!("subsystem_vendor", "{:#06x}", subsystem_vendor),
    id_attribute!("subsystem_device", "{:#06x}", subsystem_device),
    id_attribute!("class", "{:#08x}", class),
    id_attribute!("revision", "{:#04x}", revision),
    Attribute {
        name: "modalias",
        show: |device, out| show(device, |function| writeln!(out, "{}", modalias(&function.ids()))),
        store: None,
    },
    Attribute {
        name: "resource",
        show: |device, out| show(device, |function| function.write_resources(out)),
        store: None,
    },
    Attribute {
        name: "remove",
        show: |_, _| Err(Errno::EIO),
        store: Some(|device, text| {
            if text.trim_ascii() != b"0" {
                // Not here: the file that is being written goes with the device.
                let device = device.clone();
                crate::work::later(alloc::boxed::Box::new(move || {
                    let _ = remove(&device);
                }));
            }
            Ok(())
        }),
    },
];
