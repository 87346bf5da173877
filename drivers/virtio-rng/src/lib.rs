//! Random numbers from the host (Virtual I/O Device 1.2, 5.4): the example of a driver, explained in `docs/drivers.md`.
//!
//! Key types: [`RngDriver`] (finds devices), [`Source`] (one device). A thread asks the device for bytes at its start and then once a
//! minute; what comes goes into the kernel's own generator.
//!
//! Neighbours: `device` below; nobody above: `machine::random` is fed. Locks: the queue's.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use device::virtio::{self, Direction, Part, Queue, Virtio};
use device::{Device, Instance};
use machine::cpu::CpuId;
use machine::dma::DmaRegion;
use machine::random;
use machine::sync::atomic::{AtomicBool, Ordering};
use machine::sync::{WaitKind, WaitQueue};

/// The kind of virtio device.
const KIND: u32 = 4;
/// The one queue.
const REQUESTS: u16 = 0;
/// Bytes asked for at a time.
const BYTES: usize = 64;
/// Between two questions.
const PAUSE_NS: u64 = 60_000_000_000;

/// One device. The token of its queue is the memory that the device fills.
struct Source {
    device: Arc<Virtio>,
    queue: Queue<DmaRegion>,
    is_waiting: AtomicBool,
    is_stopped: AtomicBool,
    changed: WaitQueue,
}

impl Source {
    /// Asks for bytes. Errors: `ENOMEM`; `EIO`: the device is broken.
    fn ask(&self) -> Result<()> {
        let memory = DmaRegion::alloc(BYTES)?;
        let part = Part { address: memory.address(), length: BYTES as u32, direction: Direction::FromDevice };
        self.is_waiting.store(true, Ordering::Release);
        self.queue.lock().add(&[part], memory).map_err(|_| Errno::EIO)?;
        self.queue.kick();
        Ok(())
    }

    /// The device has filled a buffer. Interrupt context.
    fn filled(&self) {
        let outcome = self.queue.complete(
            |_| (),
            |memory, written| {
                let mut bytes = [0; BYTES];
                let count = (written as usize).min(BYTES);
                memory.copy_out(0, &mut bytes[..count]);
                random::add_entropy(&bytes[..count]);
                self.is_waiting.store(false, Ordering::Release);
            },
        );
        if outcome.is_err() {
            // It breaks the rules: it is asked for nothing more.
            self.is_stopped.store(true, Ordering::Release);
        }
        self.changed.wake_all();
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// The thread: asks, waits, pauses, until the device goes.
    fn feed(&self) {
        let has_answered = || (self.is_stopped() || !self.is_waiting.load(Ordering::Acquire)).then_some(());
        while !self.is_stopped() && self.ask().is_ok() {
            let _ = self.changed.wait_until(WaitKind::Uninterruptible, None, has_answered);
            let pause = machine::time::now_ns() + PAUSE_NS;
            let _ = self
                .changed
                .wait_until(WaitKind::Uninterruptible, Some(pause), || self.is_stopped().then_some(()));
        }
    }
}

/// The service of one device.
struct Served(Arc<Source>);

impl Instance for Served {
    fn remove(&self) {
        let source = &self.0;
        source.is_stopped.store(true, Ordering::Release);
        source.changed.wake_all();
        if source.device.reset().is_ok() {
            source.queue.drain();
        } else {
            // The device has not stopped: it may still write to its memory, which stays.
            core::mem::forget(source.clone());
        }
    }
}

/// Finds devices.
struct RngDriver;

impl virtio::Driver for RngDriver {
    fn name(&self) -> &'static str {
        "virtio_rng"
    }

    fn kind(&self) -> u32 {
        KIND
    }

    fn probe(&self, device: Arc<Virtio>, _place: &Arc<Device>) -> Result<Box<dyn Instance>> {
        device.negotiate(0)?;
        let queue = Queue::new(&device, REQUESTS, 1)?;
        let source = Arc::new(Source {
            device,
            queue,
            is_waiting: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            changed: WaitQueue::new(),
        });
        let weak = Arc::downgrade(&source);
        let filled = Box::new(move || {
            if let Some(source) = weak.upgrade() {
                source.filled();
            }
        });
        source.device.start(Box::new(|| {}), alloc::vec![(&source.queue, CpuId::default(), filled)])?;
        let feeder = source.clone();
        sched::spawn("hwrng", sched::SpawnOptions::default(), move || feeder.feed())?;
        Ok(Box::new(Served(source)))
    }
}

/// Makes the driver known. Thread context.
pub fn register() {
    virtio::register_driver(&RngDriver);
}
