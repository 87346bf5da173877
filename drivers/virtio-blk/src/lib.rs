//! Disks of virtual machines (Virtual I/O Device 1.2, 5.2).
//!
//! Key types: [`BlkDriver`] (finds devices), [`VirtioDisk`] (one disk: the block layer's driver of it). A request is one buffer: a
//! header, the pages of the request as they lie, a byte for the outcome. A disk has a queue for each CPU if the device
//! has so many, and each interrupts its own CPU.
//!
//! A device that breaks the rules is reset; what it had then fails with `EIO`, and what comes later too.
//! Neighbours: `device` below, `block` above. Locks: those of the queues; `names` has one, a leaf.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod names;
mod request;

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use block::{Disk, Driver, Limits, Request};
use config::Config;
use device::virtio::{self, Queue, Virtio};
use device::{Device, Instance, work};
use machine::cpu::{self, CpuId};
use machine::irq::Handler;
use machine::sync::Once;
use machine::sync::atomic::{AtomicBool, Ordering};
use names::Name;
use request::{Outcomes, Parts, Pending};

/// The kind of virtio device.
const KIND: u32 = 2;

/// One queue, and what its requests need besides the pages.
struct DiskQueue {
    queue: Queue<Pending>,
    outcomes: Outcomes,
    /// The block layer was told that there is no room.
    is_full: AtomicBool,
}

/// A disk.
pub struct VirtioDisk {
    device: Arc<Virtio>,
    config: Config,
    queues: Vec<DiskQueue>,
    disk: Once<Weak<Disk>>,
    /// Nothing is given to the device any more.
    is_stopped: AtomicBool,
}

impl VirtioDisk {
    /// Makes the queues of a device whose features are negotiated. Errors: `ENODEV`, `ENOMEM`.
    fn new(device: Arc<Virtio>) -> Result<VirtioDisk> {
        let config = Config::read(&device);
        let count = usize::from(config.queues).min(cpu::count()).max(1);
        let mut queues = Vec::new();
        for index in 0..count {
            let queue = Queue::new(&device, index as u16, config.max_parts())?;
            let outcomes = Outcomes::new(queue.size())?;
            queues.push(DiskQueue { queue, outcomes, is_full: AtomicBool::new(false) });
        }
        Ok(VirtioDisk { device, config, queues, disk: Once::new(), is_stopped: AtomicBool::new(false) })
    }

    fn disk(&self) -> Option<Arc<Disk>> {
        self.disk.get()?.upgrade()
    }

    /// Lets the device work. Errors: as [`Virtio::start`].
    fn start(self: &Arc<Self>) -> Result<()> {
        let handler = |index: usize| -> Handler {
            let disk = Arc::downgrade(self);
            Box::new(move || {
                if let Some(disk) = disk.upgrade() {
                    disk.interrupt(index);
                }
            })
        };
        let weak = Arc::downgrade(self);
        let changed: Handler = Box::new(move || {
            let weak = weak.clone();
            work::later(Box::new(move || {
                if let Some(disk) = weak.upgrade() {
                    disk.config_changed();
                }
            }));
        });
        let cpu_of = |index: usize| CpuId::new(index % cpu::count()).unwrap_or_default();
        let queues = self.queues.iter().enumerate();
        let queues = queues.map(|(index, queue)| (&queue.queue, cpu_of(index), handler(index))).collect();
        self.device.start(changed, queues)
    }

    /// Requests of a queue are done. Interrupt context.
    fn interrupt(self: &Arc<Self>, index: usize) {
        let Some(queue) = self.queues.get(index) else { return };
        let outcome = queue.queue.complete(
            |pending| pending.result = queue.outcomes.result(pending.id),
            |pending, _written| pending.request.complete(pending.result),
        );
        if outcome.is_err() {
            return self.give_up();
        }
        if queue.is_full.swap(false, Ordering::AcqRel)
            && let Some(disk) = self.disk()
        {
            disk.run_queue(index);
        }
    }

    /// The device breaks the rules: shuts it off, not here. Any context.
    fn give_up(self: &Arc<Self>) {
        if !self.is_stopped.swap(true, Ordering::AcqRel) {
            let disk = self.clone();
            work::later(Box::new(move || {
                log::error!("virtio_blk: the device breaks the rules and is shut off");
                disk.shut_off();
            }));
        }
    }

    /// Resets the device and ends what it has. Thread context.
    fn shut_off(self: &Arc<Self>) {
        self.is_stopped.store(true, Ordering::Release);
        let stopped = self.device.reset();
        if stopped.is_err() {
            // It may still write to its rings.
            core::mem::forget(self.clone());
        }
        for queue in &self.queues {
            for pending in queue.queue.drain() {
                if stopped.is_err() {
                    // It may still write there.
                    pending.request.segments().for_each(|segment| core::mem::forget(segment.frame.clone()));
                }
                pending.request.complete(Err(Errno::EIO));
            }
        }
        if let Some(disk) = self.disk() {
            (0..self.queues.len()).for_each(|index| disk.run_queue(index));
        }
    }

    /// The device says that something about it has changed: its size, if anything. Thread context.
    fn config_changed(self: &Arc<Self>) {
        if self.device.needs_reset() {
            return self.give_up();
        }
        if let Some(disk) = self.disk() {
            disk.set_sectors(config::capacity(&self.device));
        }
    }
}

impl Driver for VirtioDisk {
    fn limits(&self) -> Limits {
        self.config.limits(self.queues.first().map_or(1, |queue| queue.queue.max_parts()))
    }

    fn queues(&self) -> usize {
        self.queues.len()
    }

    fn queue(&self, index: usize, request: Request) -> core::result::Result<(), Request> {
        if self.is_stopped.load(Ordering::Acquire) || self.device.is_broken() {
            request.complete(Err(Errno::EIO));
            return Ok(());
        }
        let Some(queue) = self.queues.get(index) else {
            request.complete(Err(Errno::EIO));
            return Ok(());
        };
        let mut parts = Parts::new();
        if let Err(error) = request::list(&request, &mut parts) {
            request.complete(Err(error));
            return Ok(());
        }
        let mut ring = queue.queue.lock();
        let Some(id) = ring.next_id(parts.len()) else {
            // Under the lock: whoever makes room takes it after this.
            queue.is_full.store(true, Ordering::Release);
            return Err(request);
        };
        queue.outcomes.fill(id, &request, &mut parts);
        ring.add(&parts, Pending { id, request, result: Err(Errno::EIO) }).map_err(|pending| pending.request)
    }

    fn kick(&self, index: usize) {
        if let Some(queue) = self.queues.get(index) {
            queue.queue.kick();
        }
    }

    fn is_present(&self) -> bool {
        self.device.is_running()
    }
}

/// The service of one device.
struct Served {
    driver: Arc<VirtioDisk>,
    disk: Arc<Disk>,
    _name: Name,
}

impl Instance for Served {
    fn remove(&self) {
        self.disk.unregister();
        self.driver.shut_off();
    }
}

/// Finds disks.
struct BlkDriver;

impl virtio::Driver for BlkDriver {
    fn name(&self) -> &'static str {
        "virtio_blk"
    }

    fn kind(&self) -> u32 {
        KIND
    }

    fn probe(&self, device: Arc<Virtio>, place: &Arc<Device>) -> Result<Box<dyn Instance>> {
        device.negotiate(config::FEATURES)?;
        let driver = Arc::new(VirtioDisk::new(device)?);
        let name = Name::take();
        let (sectors, read_only) = (driver.config.capacity, driver.config.read_only);
        let disk = Disk::new(String::from(name.as_str()), driver.clone(), sectors, read_only);
        let _ = driver.disk.set(Arc::downgrade(&disk));
        driver.start()?;
        log::info!(
            "virtio_blk {}: [{}] {sectors} 512-byte logical blocks ({} MiB), {} queues",
            place.name(),
            name.as_str(),
            sectors >> 11,
            driver.queues.len()
        );
        disk.publish(&place.path())?;
        Ok(Box::new(Served { driver, disk, _name: name }))
    }
}

/// Makes the driver known. Thread context.
pub fn register() {
    virtio::register_driver(&BlkDriver);
}
