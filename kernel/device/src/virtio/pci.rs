//! Virtio devices that are PCI functions (Virtual I/O Device 1.2, 4.1), through the registers of the standard; transitional devices
//! have them too.
//!
//! Key types: [`PciTransport`], [`PciDriver`] (`virtio-pci`: the PCI driver whose service of a function is the virtio device below it).
//! Each queue has a message of its own if the function can send so many, else queues share. Locks: one around the selected queue,
//! a leaf; the messages (sleeping) while they are set up.

use super::{Start, Transport, Virtio};
use crate::model::{self, Device, Instance};
use crate::pci::{self, Function, Messages};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::cpu::CpuId;
use machine::irq::Handler;
use machine::mmio::MmioWindow;
use machine::sync::atomic::{AtomicU32, Ordering};
use machine::sync::{Mutex, SpinLock, rcu};

/// Red Hat's number, which all virtio devices have.
const VENDOR: u16 = 0x1af4;
/// Functions of the standard: this and the kind. Below: transitional ones.
const MODERN: u16 = 0x1040;
const TRANSITIONAL: u16 = 0x1000;
/// "No message".
const NO_VECTOR: u16 = 0xffff;
/// A queue whose doorbell is not known.
const NO_DOORBELL: u32 = u32::MAX;
/// More queues than that are not started.
const MAX_QUEUES: usize = 257;

/// The structure of common registers.
mod common {
    pub const FEATURES_SELECT: usize = 0;
    pub const FEATURES: usize = 4;
    pub const ACCEPTED_SELECT: usize = 8;
    pub const ACCEPTED: usize = 12;
    pub const CONFIG_VECTOR: usize = 16;
    pub const STATUS: usize = 20;
    pub const GENERATION: usize = 21;
    pub const QUEUE_SELECT: usize = 22;
    pub const QUEUE_SIZE: usize = 24;
    pub const QUEUE_VECTOR: usize = 26;
    pub const QUEUE_ENABLE: usize = 28;
    pub const QUEUE_NOTIFY: usize = 30;
    pub const QUEUE_DESCRIPTORS: usize = 32;
    pub const QUEUE_DRIVER: usize = 40;
    pub const QUEUE_DEVICE: usize = 48;
    /// Bytes of all of them.
    pub const LENGTH: usize = 56;
}

/// Kinds of structures that capabilities tell of.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const DEVICE: u8 = 4;

/// The three windows of a device.
pub(super) struct Windows {
    pub(super) common: MmioWindow,
    pub(super) notify: MmioWindow,
    /// Doorbells are this many bytes apart.
    pub(super) notify_multiplier: u32,
    pub(super) device: Option<MmioWindow>,
}

/// A source of interrupts: handlers in, a number for each out. The function's messages; in tests, the tests'.
pub(super) type Wire = Box<dyn Fn(Vec<(CpuId, Handler)>) -> Result<Option<Messages>> + Send + Sync>;

/// The registers of one device.
pub(super) struct PciTransport {
    windows: Windows,
    selected: SpinLock<()>,
    doorbells: Vec<AtomicU32>,
    vectors: usize,
    wire: Wire,
    messages: Mutex<Option<Messages>>,
}

impl PciTransport {
    /// A device with these windows and so many messages. Errors: `ENODEV`: the windows are too small.
    pub(super) fn new(windows: Windows, vectors: usize, wire: Wire) -> Result<PciTransport> {
        if !windows.common.contains(0, common::LENGTH) || vectors == 0 {
            return Err(Errno::ENODEV);
        }
        let doorbells = (0..MAX_QUEUES).map(|_| AtomicU32::new(NO_DOORBELL)).collect();
        let (selected, messages) = (SpinLock::new(()), Mutex::new(None));
        Ok(PciTransport { windows, selected, doorbells, vectors, wire, messages })
    }

    fn common(&self) -> &MmioWindow {
        &self.windows.common
    }

    fn write_address(&self, offset: usize, address: u64) {
        self.common().write(offset, address as u32);
        self.common().write(offset + 4, (address >> 32) as u32);
    }

    /// Gives one queue to the device.
    fn start_queue(&self, start: &Start, vector: u16) -> Result<()> {
        let common = self.common();
        let _selected = self.selected.lock();
        common.write(common::QUEUE_SELECT, start.index);
        common.write(common::QUEUE_SIZE, start.size);
        common.write(common::QUEUE_VECTOR, vector);
        if common.read::<u16>(common::QUEUE_VECTOR) != vector {
            return Err(Errno::ENOSPC);
        }
        self.write_address(common::QUEUE_DESCRIPTORS, start.addresses.descriptors.0);
        self.write_address(common::QUEUE_DRIVER, start.addresses.driver.0);
        self.write_address(common::QUEUE_DEVICE, start.addresses.device.0);
        let doorbell =
            u32::from(common.read::<u16>(common::QUEUE_NOTIFY)).checked_mul(self.windows.notify_multiplier);
        let doorbell =
            doorbell.filter(|at| at.is_multiple_of(2) && self.windows.notify.contains(*at as usize, 2));
        let place = self.doorbells.get(usize::from(start.index)).ok_or(Errno::ENODEV)?;
        place.store(doorbell.ok_or(Errno::ENODEV)?, Ordering::Release);
        common.write(common::QUEUE_ENABLE, 1u16);
        Ok(())
    }
}

/// Shares `vectors` messages, of which the first is the configuration's, between queues: handlers for each message, and the message of
/// each queue.
fn share(config: Handler, queues: &mut [Start], vectors: usize) -> (Vec<(CpuId, Handler)>, Vec<u16>) {
    let mut groups: Vec<(CpuId, Vec<Handler>)> = Vec::new();
    groups.push((CpuId::default(), alloc::vec![config]));
    let mut numbers = Vec::new();
    for (count, start) in queues.iter_mut().enumerate() {
        let handler = core::mem::replace(&mut start.handler, Box::new(|| {}));
        // With one message all share it; with more, queues go round those behind the first.
        let number = if vectors == 1 { 0 } else { 1 + count % (vectors - 1) };
        match groups.get_mut(number) {
            Some((_, handlers)) => handlers.push(handler),
            None => groups.push((start.cpu, alloc::vec![handler])),
        }
        numbers.push(number as u16);
    }
    let join = |(cpu, handlers): (CpuId, Vec<Handler>)| -> (CpuId, Handler) {
        (cpu, Box::new(move || handlers.iter().for_each(|handler| handler())))
    };
    (groups.into_iter().map(join).collect(), numbers)
}

impl Transport for PciTransport {
    fn status(&self) -> u8 {
        self.common().read(common::STATUS)
    }

    fn set_status(&self, status: u8) {
        self.common().write(common::STATUS, status);
    }

    fn features(&self) -> u64 {
        let half = |number: u32| {
            self.common().write(common::FEATURES_SELECT, number);
            u64::from(self.common().read::<u32>(common::FEATURES))
        };
        half(0) | half(1) << 32
    }

    fn accept_features(&self, features: u64) {
        for number in 0..2u32 {
            self.common().write(common::ACCEPTED_SELECT, number);
            self.common().write(common::ACCEPTED, (features >> (32 * number)) as u32);
        }
    }

    fn queue_size(&self, index: u16) -> u16 {
        let _selected = self.selected.lock();
        self.common().write(common::QUEUE_SELECT, index);
        self.common().read(common::QUEUE_SIZE)
    }

    fn start(&self, config_changed: Handler, mut queues: Vec<Start>) -> Result<()> {
        let (handlers, numbers) = share(config_changed, &mut queues, self.vectors);
        let mut messages = self.messages.lock();
        *messages = (self.wire)(handlers)?;
        self.common().write(common::CONFIG_VECTOR, 0u16);
        if self.common().read::<u16>(common::CONFIG_VECTOR) == NO_VECTOR {
            return Err(Errno::ENOSPC);
        }
        queues.iter().zip(numbers).try_for_each(|(start, number)| self.start_queue(start, number))
    }

    fn notify(&self, index: u16) {
        let doorbell = self.doorbells.get(usize::from(index)).map(|place| place.load(Ordering::Acquire));
        if let Some(doorbell) = doorbell.filter(|doorbell| *doorbell != NO_DOORBELL) {
            self.windows.notify.write(doorbell as usize, index);
        }
    }

    fn stop(&self) {
        let messages = self.messages.lock().take();
        if let Some(messages) = messages {
            drop(messages);
            rcu::synchronize();
        }
    }

    fn config(&self, offset: usize, width: usize) -> u32 {
        let at = offset;
        let Some(window) = &self.windows.device else { return 0 };
        match width {
            _ if !window.contains(at, width) || !at.is_multiple_of(width) => 0,
            1 => u32::from(window.read::<u8>(at)),
            2 => u32::from(window.read::<u16>(at)),
            _ => window.read::<u32>(at),
        }
    }

    fn set_config(&self, offset: usize, value: u32) {
        if let Some(window) = &self.windows.device
            && window.contains(offset, 4)
            && offset.is_multiple_of(4)
        {
            window.write(offset, value);
        }
    }

    fn config_generation(&self) -> u32 {
        u32::from(self.common().read::<u8>(common::GENERATION))
    }
}

/// Finds the structures that a function's capabilities tell of. Errors: `ENODEV`: not a device of the standard, or nonsense.
fn windows(function: &Function) -> Result<Windows> {
    let (mut common, mut notify, mut device) = (None, None, None);
    let mut multiplier = 0;
    for at in function.capabilities(pci::CAPABILITY_VENDOR) {
        let kind = function.read::<u8>(at + 3);
        let (bar, offset, length) =
            (function.read::<u8>(at + 4), function.read::<u32>(at + 8), function.read::<u32>(at + 12));
        let place = match kind {
            COMMON => &mut common,
            NOTIFY => &mut notify,
            DEVICE => &mut device,
            _ => continue,
        };
        // The first that is usable counts (4.1.4.1).
        if place.is_none() && bar < 6 {
            *place = function.map(bar, u64::from(offset), length as usize).ok();
            if kind == NOTIFY {
                multiplier = function.read::<u32>(at + 16);
            }
        }
    }
    let (common, notify) = common.zip(notify).ok_or(Errno::ENODEV)?;
    Ok(Windows { common, notify, notify_multiplier: multiplier, device })
}

/// The kind of virtio device that a function is.
fn kind_of(function: &Function) -> Option<u32> {
    let id = function.ids();
    match id.device {
        _ if id.vendor != VENDOR => None,
        MODERN..0x1080 => Some(u32::from(id.device - MODERN)),
        TRANSITIONAL..MODERN => Some(u32::from(id.subsystem_device)),
        _ => None,
    }
}

/// The PCI driver of virtio devices.
struct PciDriver;

/// A function, and the virtio device below it.
struct Below {
    function: Arc<Function>,
    device: Arc<Device>,
}

impl Instance for Below {
    fn remove(&self) {
        // It may have gone before with its parent.
        let _ = model::remove(&self.device);
        self.function.disable();
    }
}

impl model::Driver for PciDriver {
    fn name(&self) -> &'static str {
        "virtio-pci"
    }

    fn bus(&self) -> &'static str {
        pci::BUS
    }

    fn matches(&self, device: &Device) -> bool {
        device.on_bus::<Function>().is_some_and(|function| kind_of(&function).is_some())
    }

    fn probe(&self, device: &Arc<Device>) -> Result<Box<dyn Instance>> {
        let function = device.on_bus::<Function>().ok_or(Errno::ENODEV)?;
        let kind = kind_of(&function).ok_or(Errno::ENODEV)?;
        function.enable();
        let windows = windows(&function)?;
        let vectors = function.message_count();
        if vectors == 0 {
            log::warn!("{}: sends no messages (MSI-X), which is all that is supported", device.name());
        }
        let vendor = u32::from(function.ids().subsystem_vendor);
        let sender = function.clone();
        let wire: Wire = Box::new(move |handlers| sender.send_messages(handlers).map(Some));
        let transport = PciTransport::new(windows, vectors, wire)?;
        let below = super::add(Virtio::new(Box::new(transport), kind, vendor), Some(device.clone()))?;
        Ok(Box::new(Below { function, device: below }))
    }
}

/// Makes the driver known. Thread context.
pub fn register() {
    model::register_driver(&PciDriver);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::Addresses;
    use machine::dma::DmaAddress;

    fn queues(count: u16) -> Vec<Start> {
        let nowhere = DmaAddress(0);
        let addresses = Addresses { descriptors: nowhere, driver: nowhere, device: nowhere };
        let start = |index: u16| Start {
            index,
            size: 4,
            addresses,
            cpu: CpuId::new(usize::from(index)).unwrap_or_default(),
            handler: Box::new(|| {}),
        };
        (0..count).map(start).collect()
    }

    #[test]
    fn messages_are_shared_when_there_are_few() {
        for (vectors, handlers, numbers) in
            [(1, 1, [0, 0, 0]), (2, 2, [1, 1, 1]), (3, 3, [1, 2, 1]), (9, 4, [1, 2, 3])]
        {
            let (made, given) = share(Box::new(|| {}), &mut queues(3), vectors);
            assert_eq!((made.len(), given.as_slice()), (handlers, numbers.as_slice()), "{vectors} messages");
        }
        let (made, _) = share(Box::new(|| {}), &mut queues(3), 9);
        let cpus: Vec<_> = made.iter().map(|(cpu, _)| cpu.index()).collect();
        assert_eq!(cpus, [0, 0, 1, 2]);
    }
}
