//! Virtio: devices of virtual machines, whatever they hang on.
//!
//! Key types: [`Virtio`] (a device, for its driver), [`Driver`] (what a driver implements), [`Transport`] (what it hangs on: [`pci`], [`mmio`]),
//! [`Queue`]. A driver's probe negotiates features, makes queues, and starts the device with a handler for each queue:
//!
//! 1. [`Virtio::negotiate`] says which features both sides know;
//! 2. [`Queue::new`] makes rings;
//! 3. [`Virtio::start`] gives the rings to the device and lets it work.
//!
//! Reference: Virtual I/O Device (VIRTIO) 1.2, chapters 2 to 4. Locks: none here; a queue has its own.

pub mod mmio;
mod packed;
pub mod pci;
mod queue;
mod split;
#[cfg(test)]
mod tests;

pub use queue::{Addresses, Direction, MAX_PARTS, Part, Queue, QueueGuard};

use crate::model::{self, Attribute, Device, Instance};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use machine::cpu::CpuId;
use machine::irq::Handler;
use machine::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use machine::sync::{WaitKind, WaitQueue};

/// The bus's name.
pub const BUS: &str = "virtio";

bitflags! {
    /// Features that do not depend on the kind of device; a kind's own are the bits below 24, and kept.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u64 {
        /// A buffer may be a table of its own.
        const INDIRECT_DESCRIPTORS = 1 << 28;
        /// Each side says when it wants to be told.
        const EVENT_INDEX = 1 << 29;
        /// Not a device of the time before the standard.
        const VERSION_1 = 1 << 32;
        /// Addresses go through an IOMMU if there is one.
        const ACCESS_PLATFORM = 1 << 33;
        /// Rings are packed.
        const RING_PACKED = 1 << 34;
        const _ = !0;
    }
}

/// What every driver can do.
const COMMON: u64 = Features::INDIRECT_DESCRIPTORS.bits()
    | Features::EVENT_INDEX.bits()
    | Features::VERSION_1.bits()
    | Features::ACCESS_PLATFORM.bits()
    | Features::RING_PACKED.bits();

/// Bits of the device's status.
mod status {
    pub const ACKNOWLEDGE: u8 = 1;
    pub const DRIVER: u8 = 2;
    pub const DRIVER_OK: u8 = 4;
    pub const FEATURES_OK: u8 = 8;
    pub const NEEDS_RESET: u8 = 64;
    pub const FAILED: u8 = 128;
    /// What is read where no device is.
    pub const NOBODY: u8 = 0xff;
}

/// The device does not keep the rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

impl From<Broken> for Errno {
    fn from(_: Broken) -> Errno {
        Errno::EIO
    }
}

/// What a queue is started with.
pub struct Start {
    /// Its number.
    pub index: u16,
    /// Its length.
    pub size: u16,
    /// Where its ring is.
    pub addresses: Addresses,
    /// Which CPU is to be interrupted.
    pub cpu: CpuId,
    /// What is called then.
    pub handler: Handler,
}

/// What a virtio device hangs on. Thread context, unless it says otherwise.
pub trait Transport: Send + Sync {
    /// The status, and setting it.
    fn status(&self) -> u8;
    /// Sets the status; 0 resets the device.
    fn set_status(&self, status: u8);
    /// The features that the device has.
    fn features(&self) -> u64;
    /// Says which of them the driver wants.
    fn accept_features(&self, features: u64);
    /// How long a queue can be; 0 if there is none of this number.
    fn queue_size(&self, index: u16) -> u16;
    /// Sets up interrupts and gives the queues to the device. Errors: `ENODEV`: the device refuses; `ENOSPC`: no interrupts left.
    fn start(&self, config_changed: Handler, queues: Vec<Start>) -> Result<()>;
    /// Tells the device that a queue has something new. Any context.
    fn notify(&self, index: u16);
    /// Takes interrupts back; the device has been reset. No handler runs any more afterwards. May sleep.
    fn stop(&self);
    /// `width` (1, 2 or 4) bytes of the kind's own configuration; 0 beyond its end.
    fn config(&self, offset: usize, width: usize) -> u32;
    /// A number that changes with the configuration.
    fn config_generation(&self) -> u32;
    /// Writes 32 bits of the kind's own configuration; does nothing beyond its end. Any context.
    fn set_config(&self, offset: usize, value: u32) {
        let _ = (offset, value);
    }
}

/// A virtio device.
pub struct Virtio {
    transport: Box<dyn Transport>,
    kind: u32,
    vendor: u32,
    features: AtomicU64,
    broken: AtomicBool,
}

impl Virtio {
    /// A device of this kind, not reset yet.
    pub fn new(transport: Box<dyn Transport>, kind: u32, vendor: u32) -> Arc<Virtio> {
        let (features, broken) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Virtio { transport, kind, vendor, features, broken })
    }

    /// The kind: 2 is a disk (Virtual I/O Device 1.2, 5).
    pub fn kind(&self) -> u32 {
        self.kind
    }

    pub(crate) fn transport(&self) -> &dyn Transport {
        &*self.transport
    }

    /// What was negotiated.
    pub fn features(&self) -> Features {
        Features::from_bits_retain(self.features.load(Ordering::Acquire))
    }

    /// Whether both sides know bit `bit` of the kind's own features.
    pub fn has_feature(&self, bit: u32) -> bool {
        self.features().bits() >> bit & 1 != 0
    }

    fn add_status(&self, bits: u8) {
        self.transport.set_status(self.transport.status() | bits);
    }

    /// Resets the device and agrees on features: what it has of `wanted` (the kind's own bits) and of what this crate can do.
    ///
    /// Errors: `EIO`: it does not reset; `ENODEV`: it refuses.
    pub fn negotiate(&self, wanted: u64) -> Result<()> {
        self.reset()?;
        self.broken.store(false, Ordering::Release);
        self.add_status(status::ACKNOWLEDGE | status::DRIVER);
        let features = self.transport.features() & (wanted | COMMON);
        self.transport.accept_features(features);
        self.features.store(features, Ordering::Release);
        // Devices from before the standard do not know that step.
        if self.features().contains(Features::VERSION_1) {
            self.add_status(status::FEATURES_OK);
            if self.transport.status() & status::FEATURES_OK == 0 {
                self.add_status(status::FAILED);
                return Err(Errno::ENODEV);
            }
        }
        Ok(())
    }

    /// Gives queues to the device, each with the CPU that it interrupts and the handler there (interrupt context), and lets it work.
    /// `config_changed` is called when the device's configuration has (interrupt context).
    ///
    /// Errors: `ENODEV`, `ENOSPC`.
    pub fn start<T: Send + 'static>(
        &self,
        config_changed: Handler,
        queues: Vec<(&Queue<T>, CpuId, Handler)>,
    ) -> Result<()> {
        let start = |(queue, cpu, handler): (&Queue<T>, CpuId, Handler)| Start {
            index: queue.index(),
            size: queue.size(),
            addresses: queue.addresses(),
            cpu,
            handler,
        };
        self.transport.start(config_changed, queues.into_iter().map(start).collect())?;
        self.add_status(status::DRIVER_OK);
        Ok(())
    }

    /// Stops the device: it uses no memory of the driver's any more. May sleep.
    ///
    /// Errors: `EIO`: it does not stop within a second. What it may still use must never be freed then. One that was pulled out has stopped.
    pub fn reset(&self) -> Result<()> {
        const PATIENCE_NS: u64 = 1_000_000_000;
        const STEP_NS: u64 = 1_000_000;
        self.transport.set_status(0);
        let nobody = WaitQueue::new();
        let deadline = machine::time::now_ns() + PATIENCE_NS;
        let mut result = Ok(());
        while !matches!(self.transport.status(), 0 | status::NOBODY) {
            let now = machine::time::now_ns();
            if now >= deadline {
                result = Err(Errno::EIO);
                break;
            }
            let _ = nobody.wait_until(WaitKind::Uninterruptible, Some(now + STEP_NS), || None::<()>);
        }
        self.transport.stop();
        result
    }

    /// Whether it broke the rules, or said that it needs a reset. Any context.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Whether it is there and has not forgotten that it works for us. Thread context.
    pub fn is_running(&self) -> bool {
        let status = self.transport.status();
        status != status::NOBODY && status & status::DRIVER_OK != 0
    }

    /// Nothing is told to it any more. Any context.
    pub fn mark_broken(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// Whether the device itself says that it has failed.
    pub fn needs_reset(&self) -> bool {
        self.transport.status() & status::NEEDS_RESET != 0
    }

    /// A byte of the kind's own configuration. What lies beyond its end reads as zeros.
    pub fn config_u8(&self, offset: usize) -> u8 {
        self.transport.config(offset, 1) as u8
    }

    /// A 16-bit number of the configuration.
    pub fn config_u16(&self, offset: usize) -> u16 {
        self.transport.config(offset, 2) as u16
    }

    /// A 32-bit number of the configuration.
    pub fn config_u32(&self, offset: usize) -> u32 {
        self.transport.config(offset, 4)
    }

    /// Writes a 32-bit number of the configuration. Any context.
    pub fn set_config_u32(&self, offset: usize, value: u32) {
        self.transport.set_config(offset, value);
    }

    /// A 64-bit number of the configuration, both halves of one moment. It is read in halves, as the standard demands.
    pub fn config_u64(&self, offset: usize) -> u64 {
        /// A device that changes without end is read as it is.
        const ATTEMPTS: usize = 16;
        let mut value = 0;
        for _ in 0..ATTEMPTS {
            let before = self.transport.config_generation();
            let (low, high) = (self.transport.config(offset, 4), self.transport.config(offset + 4, 4));
            value = u64::from(low) | u64::from(high) << 32;
            if self.transport.config_generation() == before {
                break;
            }
        }
        value
    }
}

/// A driver of one kind of virtio device.
pub trait Driver: Send + Sync {
    /// Its name, as in `/sys/bus/virtio/drivers`.
    fn name(&self) -> &'static str;
    /// The kind.
    fn kind(&self) -> u32;
    /// Starts serving a device. Thread context. `place` is its place in the tree. Errors: whatever is wrong with it.
    fn probe(&self, device: Arc<Virtio>, place: &Arc<Device>) -> Result<Box<dyn Instance>>;
    /// The files that a device has in `/sys` as long as this driver serves it.
    fn attributes(&self) -> &'static [Attribute] {
        &[]
    }
}

/// A virtio driver as one of the model's.
struct Adapter(&'static dyn Driver);

impl model::Driver for Adapter {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn bus(&self) -> &'static str {
        BUS
    }

    fn attributes(&self) -> &'static [Attribute] {
        self.0.attributes()
    }

    fn matches(&self, device: &Device) -> bool {
        device.on_bus::<Virtio>().is_some_and(|device| device.kind == self.0.kind())
    }

    fn probe(&self, device: &Arc<Device>) -> Result<Box<dyn Instance>> {
        let virtio = device.on_bus::<Virtio>().ok_or(Errno::ENODEV)?;
        let result = self.0.probe(virtio.clone(), device);
        if result.is_err() {
            let _ = virtio.reset();
            virtio.transport.set_status(status::FAILED);
        }
        result
    }
}

/// Makes a driver known and tries it with the devices there are. Thread context.
pub fn register_driver(driver: &'static dyn Driver) {
    model::register_driver(Box::leak(Box::new(Adapter(driver))));
}

/// Calls `write` with the device behind a file of `/sys`.
fn show(device: &Device, write: impl FnOnce(&Virtio) -> core::fmt::Result) -> Result<()> {
    let virtio = device.on_bus::<Virtio>().ok_or(Errno::ENODEV)?;
    write(&virtio).map_err(|_| Errno::EIO)
}

/// The files of a device in `/sys`.
static ATTRIBUTES: [Attribute; 5] = [
    Attribute {
        name: "device",
        show: |device, out| show(device, |virtio| writeln!(out, "{:#06x}", virtio.kind)),
        store: None,
    },
    Attribute {
        name: "vendor",
        show: |device, out| show(device, |virtio| writeln!(out, "{:#06x}", virtio.vendor)),
        store: None,
    },
    Attribute {
        name: "status",
        show: |device, out| show(device, |virtio| writeln!(out, "{:#010x}", virtio.transport.status())),
        store: None,
    },
    Attribute {
        name: "features",
        show: |device, out| {
            show(device, |virtio| {
                let features = virtio.features().bits();
                (0..64).try_for_each(|bit| write!(out, "{}", features >> bit & 1))?;
                writeln!(out)
            })
        },
        store: None,
    },
    Attribute {
        name: "modalias",
        show: |device, out| show(device, |virtio| writeln!(out, "{}", modalias(virtio))),
        store: None,
    },
];

fn modalias(device: &Virtio) -> String {
    format!("virtio:d{:08X}v{:08X}", device.kind, device.vendor)
}

/// Puts a device into the tree below what it hangs on. Thread context. Errors: as [`model::add`].
pub(crate) fn add(device: Arc<Virtio>, parent: Option<Arc<Device>>) -> Result<Arc<Device>> {
    let identity = format!("MODALIAS={}\n", modalias(&device));
    let name = model::next_name(BUS, "virtio");
    let device = Device::new(name, BUS, parent, device, &ATTRIBUTES, identity);
    model::add(device.clone())?;
    Ok(device)
}
