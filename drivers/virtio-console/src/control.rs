//! The control queues of a device with several ports (Virtual I/O Device 1.2, 5.3.6.2): who says what about which port.
//!
//! Key types: [`Message`], [`Control`]. What the device says waits here, in the pages it was given, for the device's thread; what the driver says goes out as soon as
//! there is a page for it.
//!
//! Locks, interrupt-safe: `inbox`, `outbox`, each outside its queue's.

use crate::pair::{BUFFERS, Buffer};
use abi::errno::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use device::virtio::{Broken, Queue, Virtio};
use machine::PAGE_SIZE;
use machine::sync::IrqSpinLock;

/// The queue from the device; that to the device follows.
const RECEIVE: u16 = 2;
/// Bytes of a message without what may follow.
pub const HEADER: usize = 8;
/// Messages of ours that may wait for the device to take others. Each port has two or three at a time.
const MOST_WAITING: usize = 256;

/// What is said.
pub mod event {
    pub const DEVICE_READY: u16 = 0;
    pub const DEVICE_ADD: u16 = 1;
    pub const DEVICE_REMOVE: u16 = 2;
    pub const PORT_READY: u16 = 3;
    pub const CONSOLE_PORT: u16 = 4;
    pub const RESIZE: u16 = 5;
    pub const PORT_OPEN: u16 = 6;
    pub const PORT_NAME: u16 = 7;
}

/// A message's fixed part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Which port.
    pub id: u32,
    /// What.
    pub event: u16,
    /// More of it.
    pub value: u16,
}

impl Message {
    /// Takes it from the front of what the device has written. `None`: it is too short.
    pub fn parse(bytes: &[u8]) -> Option<Message> {
        let (id, rest) = bytes.split_first_chunk::<4>()?;
        let (event, rest) = rest.split_first_chunk::<2>()?;
        let value = rest.first_chunk::<2>()?;
        Some(Message {
            id: u32::from_le_bytes(*id),
            event: u16::from_le_bytes(*event),
            value: u16::from_le_bytes(*value),
        })
    }

    fn bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&self.id.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.event.to_le_bytes());
        bytes[6..].copy_from_slice(&self.value.to_le_bytes());
        bytes
    }
}

#[derive(Default)]
struct Outbox {
    waiting: VecDeque<Message>,
    spare: Vec<Buffer>,
}

/// The queues.
pub struct Control {
    /// From the device.
    pub receive: Queue<Buffer>,
    /// To the device.
    pub transmit: Queue<Buffer>,
    inbox: IrqSpinLock<VecDeque<Buffer>>,
    outbox: IrqSpinLock<Outbox>,
}

impl Control {
    /// Makes the rings, and memory for messages of ours. Errors: `ENODEV`: the device has no such queues; `ENOMEM`.
    pub fn new(device: &Arc<Virtio>) -> Result<Control> {
        let (receive, transmit) = (Queue::new(device, RECEIVE, 1)?, Queue::new(device, RECEIVE + 1, 1)?);
        let mut outbox = Outbox::default();
        let sends = BUFFERS.min(usize::from(transmit.size()));
        outbox.waiting.try_reserve_exact(MOST_WAITING).map_err(|_| Errno::ENOMEM)?;
        outbox.spare.try_reserve_exact(sends).map_err(|_| Errno::ENOMEM)?;
        for _ in 0..sends {
            outbox.spare.push(Buffer::new()?);
        }
        let mut inbox = VecDeque::new();
        inbox.try_reserve_exact(usize::from(receive.size()).min(BUFFERS)).map_err(|_| Errno::ENOMEM)?;
        let (inbox, outbox) = (IrqSpinLock::new(inbox), IrqSpinLock::new(outbox));
        Ok(Control { receive, transmit, inbox, outbox })
    }

    /// Gives the device pages for its messages. Once, when it works. Errors: `ENOMEM`: not even one.
    pub fn fill(&self) -> Result<()> {
        let wanted = BUFFERS.min(usize::from(self.receive.size()));
        for count in 0..wanted {
            match Buffer::new() {
                Ok(buffer) => self.give_back(buffer),
                Err(_) if count > 0 => break,
                Err(error) => return Err(error),
            }
        }
        self.receive.kick();
        Ok(())
    }

    /// Gives a page back whose message was read. Thread context.
    pub fn give_back(&self, buffer: Buffer) {
        // A broken queue takes nothing; then the page goes.
        let _ = self.receive.lock().add(&[buffer.to_fill()], buffer);
    }

    /// The device has written messages. Interrupt context. Errors: it breaks the rules.
    pub fn received(&self) -> core::result::Result<(), Broken> {
        self.receive.complete(
            |_| (),
            |mut buffer, written| {
                buffer.set_filled(written);
                // There is a place for each page.
                self.inbox.lock().push_back(buffer);
            },
        )
    }

    /// The next message's page, if there is one.
    pub fn next(&self) -> Option<Buffer> {
        self.inbox.lock().pop_front()
    }

    /// The device has taken messages. Interrupt context. Errors: it breaks the rules.
    pub fn sent(&self) -> core::result::Result<(), Broken> {
        let outcome = self.transmit.complete(|_| (), |buffer, _| self.outbox.lock().spare.push(buffer));
        self.flush();
        outcome
    }

    /// Says something, now or as soon as the device has taken what was said before. Any context but under the locks here.
    ///
    /// Errors: `ENOSPC`: the device takes nothing, and too much waits.
    pub fn say(&self, message: Message) -> Result<()> {
        {
            let mut outbox = self.outbox.lock();
            if outbox.waiting.len() >= MOST_WAITING {
                return Err(Errno::ENOSPC);
            }
            outbox.waiting.push_back(message);
        }
        self.flush();
        Ok(())
    }

    /// Gives the device what waits, as far as there are pages.
    fn flush(&self) {
        {
            let mut outbox = self.outbox.lock();
            while !outbox.waiting.is_empty() {
                let Some(mut buffer) = outbox.spare.pop() else { break };
                let Some(message) = outbox.waiting.pop_front() else { break };
                buffer.put(&message.bytes());
                // A broken queue takes nothing: nobody is there to hear it.
                if let Err(buffer) = self.transmit.lock().add(&[buffer.to_send()], buffer) {
                    outbox.spare.push(buffer);
                }
            }
        }
        self.transmit.kick();
    }
}

/// A message and what may follow fit into a page.
const _: () = assert!(HEADER < PAGE_SIZE);
