//! The driver model: devices, the buses they are on, the drivers that serve them.
//!
//! Key types: [`Device`] (a thing in the tree of things, whatever its bus), [`Driver`] and [`Instance`] (one driver, and its service of one
//! device), [`View`] (who shows the tree: `fs/sysfs`). Buses: [`pci`], [`virtio`] (whose devices hang on PCI functions or on
//! [`platform`] devices). A driver of a virtio device implements [`virtio::Driver`] and needs nothing else of this crate but the queues.
//! What a driver has that programs open is a device of a [`class`].
//!
//! Neighbours: `machine` gives windows of registers, DMA memory and interrupts; drivers are above, and `image` starts everything:
//! drivers are registered, then buses are looked through. Nothing here runs by itself but [`work::run`], a thread that `image` makes.
//!
//! A device is not trusted: what it says is checked before it is used as a size, a place or a number of something, and a device
//! that breaks the rules is shut off (docs/adr/0091-a-device-is-not-trusted.md).

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod class;
mod model;
pub mod pci;
pub mod platform;
pub mod virtio;
pub mod work;

pub use model::{
    Attribute, Device, Driver, Instance, Power, Show, Store, View, add, attach_view, children, find,
    register_driver, remove,
};
