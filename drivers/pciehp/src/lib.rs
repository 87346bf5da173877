//! Ports of PCI Express whose cards come and go while the machine runs (PCI Express Base Specification 5.0, 6.7).
//!
//! Key types: [`PortDriver`] (finds ports that can do that), [`HotPort`] (one), [`slot::Slot`] (what is to be done when), [`registers`]. An
//! interrupt only notes what has happened; one thread for all ports does what follows, since drivers' probe and removal sleep. No ACPI
//! is needed: the port itself tells (docs/adr/0117-hot-plug-is-the-port-s.md).
//!
//! Neighbours: `device` below. Locks: a port's slot (sleeping), outside a walk of the PCI buses; [`PORTS`] is a leaf.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod registers;
mod slot;
#[cfg(test)]
mod tests;

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use device::pci::{self, Function, Messages};
use device::{Device, Driver, Instance};
use machine::cpu::CpuId;
use machine::irq::Handler;
use machine::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use machine::sync::{Mutex, SpinLock, WaitKind, WaitQueue};
use registers::{Events, Light, Registers, Switch};
use slot::Slot;

/// Bridges from PCI to PCI.
const CLASS: u32 = 0x06_0400;
/// How long a link may take to come up, and a card to answer then.
const LINK_NS: u64 = 1_000_000_000;
/// A card may do nothing for so long after its link is up (6.6.1).
const SETTLE_NS: u64 = 100_000_000;
/// So long a slot's power may take to be gone.
const DISCHARGE_NS: u64 = 1_000_000_000;
/// An interrupt looks no oftener than that whether there is more.
const LOOKS: usize = 16;

/// The ports that are served.
static PORTS: SpinLock<Vec<Weak<HotPort>>> = SpinLock::new(Vec::new());
/// Rung when something has happened to one.
static BELL: WaitQueue = WaitQueue::new();
/// The thread that [`run`]s is there: it comes with the first port.
static RUNS: AtomicBool = AtomicBool::new(false);

/// A port with a slot.
struct HotPort {
    device: Weak<Device>,
    registers: Registers,
    slot: Mutex<Slot>,
    /// What has happened and was not dealt with yet: [`Events`].
    pending: AtomicU16,
    messages: Mutex<Option<Messages>>,
}

impl HotPort {
    /// Something has happened. Interrupt context.
    fn interrupt(&self) {
        for _ in 0..LOOKS {
            let events = self.registers.take_events();
            if events.is_empty() {
                break;
            }
            self.pending.fetch_or(events.bits(), Ordering::AcqRel);
        }
        if self.pending.load(Ordering::Acquire) != 0 {
            BELL.wake_all();
        }
    }

    /// Has the port tell of events. Errors: `ENODEV`: it sends no messages; `ENOSPC`.
    fn start(self: &Arc<Self>) -> Result<()> {
        let handler = || -> (CpuId, Handler) {
            let port = Arc::downgrade(self);
            let handler = move || {
                if let Some(port) = port.upgrade() {
                    port.interrupt();
                }
            };
            (CpuId::default(), Box::new(handler))
        };
        let handlers = (0..=self.registers.message()).map(|_| handler()).collect();
        *self.messages.lock() = Some(self.registers.function().send_messages(handlers)?);
        // What was before nobody wants to know.
        let _ = self.registers.take_events();
        self.registers.start_notifying();
        Ok(())
    }

    /// Does what is to be done. Gives when to call it again at the latest.
    fn work(&self) -> Option<u64> {
        let mut slot = self.slot.lock();
        let events = Events::from_bits_truncate(self.pending.swap(0, Ordering::AcqRel));
        slot.handle(self, events, machine::time::now_ns());
        slot.expire(self, machine::time::now_ns());
        slot.deadline()
    }
}

impl slot::Port for HotPort {
    fn is_occupied(&self) -> bool {
        self.registers.is_occupied() || self.registers.link_is_active() == Some(true)
    }

    fn set_lights(&self, power: Light, attention: Light) {
        self.registers.set_lights(power, attention);
    }

    fn connect(&self) -> Result<()> {
        self.registers.check_latch()?;
        self.registers.switch_power(Switch::On);
        if !registers::wait_for(LINK_NS, || self.registers.link_is_active() == Some(true))
            && self.registers.link_is_active().is_some()
        {
            return Err(Errno::EIO);
        }
        registers::sleep(SETTLE_NS);
        let failed = Events::from_bits_truncate(self.pending.load(Ordering::Acquire));
        if failed.contains(Events::POWER_FAULT) { Err(Errno::EIO) } else { Ok(()) }
    }

    fn disconnect(&self) {
        if self.registers.has_power_switch() {
            self.registers.switch_power(Switch::Off);
            registers::sleep(DISCHARGE_NS);
        }
        self.interrupt();
        self.pending.fetch_and(!(Events::PRESENCE | Events::LINK).bits(), Ordering::AcqRel);
    }

    fn add(&self) -> Result<()> {
        let device = self.device.upgrade().ok_or(Errno::ENODEV)?;
        let answers = || {
            pci::probe_behind(&device);
            !device::children(&device).is_empty()
        };
        if registers::wait_for(LINK_NS, answers) { Ok(()) } else { Err(Errno::ENODEV) }
    }

    fn remove(&self) {
        if let Some(device) = self.device.upgrade() {
            pci::remove_behind(&device);
        }
    }

    fn tell(&self, what: &str) {
        log::info!("pcieport {}: {what}", self.registers.function().name());
    }
}

/// Serves all ports, for ever.
fn run() {
    let mut again = None;
    loop {
        let happened = || {
            let ports = PORTS.lock();
            let has_news = |port: &Arc<HotPort>| port.pending.load(Ordering::Acquire) != 0;
            ports.iter().filter_map(Weak::upgrade).any(|port| has_news(&port)).then_some(())
        };
        let _ = BELL.wait_until(WaitKind::Uninterruptible, again, happened);
        let ports: Vec<Arc<HotPort>> = PORTS.lock().iter().filter_map(Weak::upgrade).collect();
        again = ports.iter().filter_map(|port| port.work()).min();
    }
}

/// The service of one port.
struct Served(Arc<HotPort>);

impl Instance for Served {
    fn remove(&self) {
        PORTS.lock().retain(|port| !core::ptr::eq(port.as_ptr(), Arc::as_ptr(&self.0)));
        self.0.registers.stop_notifying();
        drop(self.0.messages.lock().take());
        machine::sync::rcu::synchronize();
    }
}

/// Finds ports.
struct PortDriver;

impl Driver for PortDriver {
    fn name(&self) -> &'static str {
        "pcieport"
    }

    fn bus(&self) -> &'static str {
        pci::BUS
    }

    fn matches(&self, device: &Device) -> bool {
        let is_port =
            |function: Arc<Function>| function.ids().class == CLASS && Registers::find(&function).is_some();
        device.on_bus::<Function>().is_some_and(is_port)
    }

    fn probe(&self, device: &Arc<Device>) -> Result<Box<dyn Instance>> {
        let function = device.on_bus::<Function>().ok_or(Errno::ENODEV)?;
        let registers = Registers::find(&function).ok_or(Errno::ENODEV)?;
        function.enable();
        let is_on = registers.is_occupied() && registers.is_powered();
        if !registers.is_occupied() {
            registers.switch_power(Switch::Off);
        }
        registers.set_lights(if is_on { Light::On } else { Light::Off }, Light::Off);
        let port = Arc::new(HotPort {
            device: Arc::downgrade(device),
            registers,
            slot: Mutex::new(Slot::new(is_on)),
            pending: AtomicU16::new(0),
            messages: Mutex::new(None),
        });
        if !RUNS.swap(true, Ordering::AcqRel)
            && let Err(error) = sched::spawn("pciehp", sched::SpawnOptions::default(), run)
        {
            RUNS.store(false, Ordering::Release);
            return Err(error);
        }
        port.start()?;
        PORTS.lock().push(Arc::downgrade(&port));
        log::info!(
            "pcieport {}: cards can come and go; there is {}",
            device.name(),
            if is_on { "one" } else { "none" }
        );
        Ok(Box::new(Served(port)))
    }
}

/// Makes the driver known. Before the buses are looked through, so that it knows of a port before what is behind it is found. Thread context.
pub fn register() {
    device::register_driver(&PortDriver);
}
