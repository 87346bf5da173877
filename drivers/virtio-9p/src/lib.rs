//! The way to a 9P server of the host (kind 9: "9P transport" in Virtual I/O Device 1.2, 5; what it is like only QEMU's and Linux's headers say).
//!
//! Key types: [`NinePDriver`] (finds devices), [`Transport`] (one device: a channel named by its mount tag). Messages and answers are carried,
//! not read: what they say is `fs/9p`'s matter.
//!
//! A device that breaks the rules is reset; what it had then fails with `EIO`, and what comes later is refused.
//! Neighbours: `device` below, `channel` above. Locks: the queue's.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use channel::{Channel, Exchange, Piece, Refusal, Registration};
use device::virtio::{self, Direction, Part, Queue, Virtio};
use device::{Attribute, Device, Instance, work};
use machine::cpu::CpuId;
use machine::dma::{self, DmaAddress};
use machine::sync::WaitQueue;
use machine::sync::atomic::{AtomicBool, Ordering};

/// The kind of virtio device.
const KIND: u32 = 9;
/// The one queue.
const REQUESTS: u16 = 0;
/// The feature: the device has a mount tag.
const MOUNT_TAG: u32 = 0;
/// Where the configuration has the tag: its length, then its bytes.
const TAG_LENGTH: usize = 0;
const TAG: usize = 2;
/// The longest tag that is believed.
const MAX_TAG: usize = 255;
/// Pieces of one exchange: 128 KiB and what goes with them.
const MAX_PARTS: usize = 48;

/// One device.
struct Transport {
    device: Arc<Virtio>,
    queue: Queue<Arc<dyn Exchange>>,
    /// Nothing is given to the device any more.
    is_stopped: AtomicBool,
    room: WaitQueue,
}

/// A piece for the device.
fn part(piece: &Piece, direction: Direction) -> Part {
    let address = DmaAddress(dma::address_of(&piece.frame).0 + u64::from(piece.offset));
    Part { address, length: piece.length, direction }
}

impl Transport {
    /// The device is done with some. Interrupt context.
    fn answered(self: &Arc<Self>) {
        let outcome = self.queue.complete(|_| (), |exchange, written| exchange.complete(Ok(written)));
        self.room.wake_all();
        if outcome.is_err() {
            self.give_up();
        }
    }

    /// The device breaks the rules: shuts it off, not here. Any context.
    fn give_up(self: &Arc<Self>) {
        if !self.is_stopped.swap(true, Ordering::AcqRel) {
            let transport = self.clone();
            work::later(Box::new(move || {
                log::error!("virtio_9p: the device breaks the rules and is shut off");
                transport.shut_off();
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
        for exchange in self.queue.drain() {
            if stopped.is_err() {
                // It may still write there.
                core::mem::forget(exchange.clone());
            }
            exchange.complete(Err(Errno::EIO));
        }
        self.room.wake_all();
    }
}

impl Channel for Transport {
    fn max_pieces(&self) -> usize {
        self.queue.max_parts().min(MAX_PARTS)
    }

    fn submit(&self, exchange: Arc<dyn Exchange>) -> core::result::Result<(), Refusal> {
        let mut parts: ArrayVec<Part, MAX_PARTS> = ArrayVec::new();
        let message = exchange.message().iter().map(|piece| part(piece, Direction::ToDevice));
        let answer = exchange.answer().iter().map(|piece| part(piece, Direction::FromDevice));
        for part in message.chain(answer) {
            parts.try_push(part).map_err(|_| Refusal::Never)?;
        }
        if parts.len() > self.max_pieces() {
            return Err(Refusal::Never);
        }
        let mut ring = self.queue.lock();
        // Under the lock: what is added after the ring was drained would never be completed, and a drained ring takes nothing.
        if self.is_stopped.load(Ordering::Acquire) || self.device.is_broken() {
            return Err(Refusal::Never);
        }
        ring.add(&parts, exchange).map_err(|_| Refusal::Full)?;
        drop(ring);
        self.queue.kick();
        Ok(())
    }

    fn room(&self) -> &WaitQueue {
        &self.room
    }
}

/// The tag that the host has given a device. Errors: `EINVAL`: it has none, or none that could be one.
fn tag(device: &Virtio) -> Result<Vec<u8>> {
    let length = usize::from(device.config_u16(TAG_LENGTH));
    if !device.has_feature(MOUNT_TAG) || length == 0 || length > MAX_TAG {
        return Err(Errno::EINVAL);
    }
    let tag: Vec<u8> = (0..length).map(|index| device.config_u8(TAG + index)).collect();
    if tag.contains(&0) { Err(Errno::EINVAL) } else { Ok(tag) }
}

/// What `/sys` shows of a device: the tag and a NUL, as on Linux.
static ATTRIBUTES: [Attribute; 1] = [Attribute {
    name: "mount_tag",
    show: |device, out| {
        let tag = tag(&*device.on_bus::<Virtio>().ok_or(Errno::ENODEV)?)?;
        let text = core::str::from_utf8(&tag).map_err(|_| Errno::EINVAL)?;
        write!(out, "{text}\0").map_err(|_| Errno::EIO)
    },
    store: None,
}];

/// The service of one device.
struct Served {
    transport: Arc<Transport>,
    _registration: Registration,
}

impl Instance for Served {
    fn remove(&self) {
        self.transport.shut_off();
    }
}

/// Finds devices.
struct NinePDriver;

impl virtio::Driver for NinePDriver {
    fn name(&self) -> &'static str {
        "9pnet_virtio"
    }

    fn kind(&self) -> u32 {
        KIND
    }

    fn attributes(&self) -> &'static [Attribute] {
        &ATTRIBUTES
    }

    fn probe(&self, device: Arc<Virtio>, _place: &Arc<Device>) -> Result<Box<dyn Instance>> {
        device.negotiate(1 << MOUNT_TAG)?;
        let tag = tag(&device)?;
        let queue = Queue::new(&device, REQUESTS, MAX_PARTS)?;
        let (is_stopped, room) = (AtomicBool::new(false), WaitQueue::new());
        let transport = Arc::new(Transport { device, queue, is_stopped, room });
        let weak = Arc::downgrade(&transport);
        let answered = Box::new(move || {
            if let Some(transport) = weak.upgrade() {
                transport.answered();
            }
        });
        let queues = alloc::vec![(&transport.queue, CpuId::default(), answered as _)];
        transport.device.start(Box::new(|| {}), queues)?;
        let registration = channel::register(&tag, transport.clone())?;
        Ok(Box::new(Served { transport, _registration: registration }))
    }
}

/// Makes the driver known. Thread context.
pub fn register() {
    virtio::register_driver(&NinePDriver);
}
