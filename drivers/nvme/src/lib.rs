//! NVMe: disks on PCI Express (NVM Express Base Specification 1.4).
//!
//! Key types: [`NvmeDriver`] (finds controllers), [`Controller`] (its registers and admin commands), [`Namespace`] (one disk: the block layer's
//! driver of it). A controller has a pair of queues for each CPU, which interrupts that CPU, as far as it has so many. Requests whose
//! memory cannot be said in one list of pages become several commands.
//!
//! A controller that breaks the rules is disabled; what it had then fails with `EIO`, and what comes later too. One that does not answer is
//! reset, and disabled if that does not help.
//! Neighbours: `device` below, `block` above. Locks: see `controller` and `pair`.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod admin;
mod command;
mod controller;
mod namespace;
mod pair;
#[cfg(test)]
mod tests;

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use controller::{Controller, Place};
use device::pci::{self, Function};
use device::{Device, Driver, Instance};
use machine::sync::SpinLock;
use namespace::{Namespace, Shown};

/// Mass storage, NVM, by this interface.
const CLASS: u32 = 0x01_0802;
/// More controllers get no name.
const MAX_CONTROLLERS: u32 = 64;

/// Which numbers controllers have, as bits.
static NUMBERS: SpinLock<u64> = SpinLock::new(0);

/// A controller's number, free again when this is dropped.
struct Number(u32);

impl Number {
    fn take() -> Result<Number> {
        let mut taken = NUMBERS.lock();
        let number = taken.trailing_ones();
        if number >= MAX_CONTROLLERS {
            return Err(Errno::ENOSPC);
        }
        *taken |= 1 << number;
        Ok(Number(number))
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        *NUMBERS.lock() &= !(1 << self.0);
    }
}

/// The service of one controller.
struct Served {
    controller: Arc<Controller>,
    disks: alloc::vec::Vec<Shown>,
    _number: Number,
}

impl Instance for Served {
    fn remove(&self) {
        self.disks.iter().for_each(Shown::unregister);
        self.controller.shut_off();
    }
}

/// Finds controllers.
struct NvmeDriver;

impl Driver for NvmeDriver {
    fn name(&self) -> &'static str {
        "nvme"
    }

    fn bus(&self) -> &'static str {
        pci::BUS
    }

    fn matches(&self, device: &Device) -> bool {
        device.on_bus::<Function>().is_some_and(|function| function.ids().class == CLASS)
    }

    fn probe(&self, device: &Arc<Device>) -> Result<Box<dyn Instance>> {
        let function = device.on_bus::<Function>().ok_or(Errno::ENODEV)?;
        let number = Number::take()?;
        let controller = Controller::start(Place::of(&function)?)?;
        log::info!("nvme nvme{}: {}: {} queues", number.0, device.name(), controller.pairs().len());
        let disks = Namespace::publish_all(&controller, number.0, &device.path());
        Ok(Box::new(Served { controller, disks, _number: number }))
    }
}

/// Makes the driver known. Thread context.
pub fn register() {
    device::register_driver(&NvmeDriver);
}
