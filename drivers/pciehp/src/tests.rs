//! The driver with a port in software, under the simulator's clock.

use crate::PortDriver;
use crate::registers::Light;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use device::pci::{self, Function};
use device::{Device, Driver, Instance};
use machine::irq::Message;
use machine::mmio::{Emulated, MmioWindow};
use machine::sync::SpinLock;
use machine::sync::atomic::{AtomicUsize, Ordering};

const SECOND: u64 = 1_000_000_000;
/// Where the fake has its capabilities.
const MESSAGE: usize = 0x40;
const EXPRESS: usize = 0x60;
const CONTROL: usize = EXPRESS + 0x18;
const STATUS: usize = EXPRESS + 0x1a;
const POWER_OFF: u16 = 1 << 10;
const NOTIFY: u16 = 1 << 5;
const COMMAND_COMPLETED: u16 = 1 << 4;
const OCCUPIED: u16 = 1 << 6;
const BUTTON: u16 = 1;
const PRESENCE: u16 = 1 << 3;

/// A root port with a slot that has everything, as QEMU's: a card goes when its power is switched off.
struct Fake(SpinLock<[u8; 4096]>);

impl Fake {
    fn new(status: u16) -> Arc<Fake> {
        let mut bytes = [0; 4096];
        bytes[..4].copy_from_slice(&[0x36, 0x1b, 0x0c, 0]);
        bytes[6] = 1 << 4;
        bytes[0x08..0x0c].copy_from_slice(&[0, 0, 4, 6]);
        bytes[0x0e] = 1;
        bytes[0x34] = MESSAGE as u8;
        bytes[MESSAGE..MESSAGE + 4].copy_from_slice(&[5, EXPRESS as u8, 0x80, 0]);
        // A root port with a slot that can be plugged into: button, power, both lights.
        bytes[EXPRESS..EXPRESS + 4].copy_from_slice(&[0x10, 0, 0x42, 1]);
        bytes[EXPRESS + 0x14] = 1 | 2 | 8 | 16 | 64;
        bytes[STATUS..STATUS + 2].copy_from_slice(&status.to_le_bytes());
        Arc::new(Fake(SpinLock::new(bytes)))
    }

    fn word(&self, at: usize) -> u16 {
        let bytes = self.0.lock();
        u16::from_le_bytes([bytes[at], bytes[at + 1]])
    }

    fn lights(&self) -> (u16, u16) {
        let control = self.word(CONTROL);
        (control >> 8 & 3, control >> 6 & 3)
    }

    fn set_status(&self, change: impl FnOnce(u16) -> u16) {
        let status = change(self.word(STATUS));
        self.0.lock()[STATUS..STATUS + 2].copy_from_slice(&status.to_le_bytes());
    }

    /// Something happens: tells the driver, if it wants to know.
    fn happen(&self, change: impl FnOnce(u16) -> u16) {
        self.set_status(change);
        let enabled = self.word(MESSAGE + 2) & 1 != 0 && self.word(CONTROL) & NOTIFY != 0;
        assert!(enabled, "nobody listens");
        let low = u64::from(self.word(MESSAGE + 4)) | u64::from(self.word(MESSAGE + 6)) << 16;
        machine::host::raise(Message { address: low, data: u32::from(self.word(MESSAGE + 12)) });
    }
}

impl Emulated for Fake {
    fn read(&self, offset: usize, width: usize) -> u64 {
        let bytes = self.0.lock();
        bytes[offset..offset + width].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
    }

    fn write(&self, offset: usize, width: usize, value: u64) {
        match offset {
            // Base address registers: none.
            0x10..0x18 => {}
            STATUS => self.set_status(|status| status & !(value as u16 & 0x11f)),
            _ => {
                let was_on = self.word(CONTROL) & POWER_OFF == 0;
                self.0.lock()[offset..offset + width].copy_from_slice(&value.to_le_bytes()[..width]);
                if offset == CONTROL {
                    let left = if was_on && value as u16 & POWER_OFF != 0 { !OCCUPIED } else { !0 };
                    self.set_status(|status| status & left | COMMAND_COMPLETED);
                }
            }
        }
    }
}

/// A card's driver, which counts what it lost.
struct Card;

static REMOVED: AtomicUsize = AtomicUsize::new(0);

impl Instance for Card {
    fn remove(&self) {
        REMOVED.fetch_add(1, Ordering::Relaxed);
    }
}

impl Driver for Card {
    fn name(&self) -> &'static str {
        "card"
    }
    fn bus(&self) -> &'static str {
        pci::BUS
    }
    fn matches(&self, device: &Device) -> bool {
        device.name() == "card"
    }
    fn probe(&self, _device: &Arc<Device>) -> Result<Box<dyn Instance>> {
        Ok(Box::new(Card))
    }
}

fn device(
    name: &str,
    parent: Option<Arc<Device>>,
    on_bus: Arc<dyn core::any::Any + Send + Sync>,
) -> Arc<Device> {
    Device::new(String::from(name), pci::BUS, parent, on_bus, &[], String::new())
}

/// Lets the machine run for so long.
fn wait(duration_ns: u64) {
    crate::registers::sleep(duration_ns);
}

/// A port with this status of its slot, served; and a card behind it if there is one.
fn port(status: u16) -> (Arc<Fake>, Arc<Device>) {
    REMOVED.store(0, Ordering::Relaxed);
    device::register_driver(&PortDriver);
    device::register_driver(&Card);
    let fake = Fake::new(status);
    let function = Function::emulated(MmioWindow::emulated(fake.clone(), 4096)).unwrap();
    let port = device("port", None, Arc::new(function));
    device::add(port.clone()).unwrap();
    assert_eq!(port.driver(), Some("pcieport"));
    if status & OCCUPIED != 0 {
        device::add(device("card", Some(port.clone()), Arc::new(()))).unwrap();
    }
    (fake, port)
}

const ON: u16 = Light::On as u16;
const BLINKING: u16 = Light::Blinking as u16;
const OFF: u16 = Light::Off as u16;

#[test]
fn a_button_lets_the_card_go() {
    sched::host::run(1, 2, || {
        let (fake, port) = port(OCCUPIED);
        assert_eq!(fake.lights(), (ON, OFF));
        fake.happen(|status| status | BUTTON);
        wait(SECOND);
        assert_eq!((fake.lights(), fake.word(STATUS) & BUTTON), ((BLINKING, OFF), 0));
        fake.happen(|status| status | BUTTON);
        wait(10 * SECOND);
        assert_eq!((fake.lights(), REMOVED.load(Ordering::Relaxed)), ((ON, OFF), 0), "called off");
        fake.happen(|status| status | BUTTON);
        wait(4 * SECOND);
        assert_eq!(device::children(&port).len(), 1);
        wait(4 * SECOND);
        assert_eq!((device::children(&port).len(), REMOVED.load(Ordering::Relaxed)), (0, 1));
        assert_eq!((fake.lights(), fake.word(CONTROL) & POWER_OFF), ((OFF, OFF), POWER_OFF));
    });
}

#[test]
fn a_card_that_is_torn_out_is_missed_at_once() {
    sched::host::run(1, 2, || {
        let (fake, port) = port(OCCUPIED);
        fake.happen(|status| (status | PRESENCE) & !OCCUPIED);
        wait(SECOND / 10);
        assert_eq!((device::children(&port).len(), REMOVED.load(Ordering::Relaxed)), (0, 1));
        wait(2 * SECOND);
        assert_eq!(fake.word(CONTROL) & POWER_OFF, POWER_OFF);
    });
}

#[test]
fn a_card_that_does_not_answer_is_switched_off_and_shown() {
    sched::host::run(1, 2, || {
        let (fake, port) = port(0);
        assert_eq!((fake.lights(), fake.word(CONTROL) & POWER_OFF), ((OFF, OFF), POWER_OFF), "an empty slot");
        fake.happen(|status| status | PRESENCE | OCCUPIED);
        wait(SECOND / 2);
        assert_eq!((fake.lights(), fake.word(CONTROL) & POWER_OFF), ((BLINKING, OFF), 0));
        wait(5 * SECOND);
        assert_eq!((fake.lights(), fake.word(CONTROL) & POWER_OFF), ((OFF, ON), POWER_OFF));
        // The port goes itself, and tells nothing any more.
        device::remove(&port).unwrap();
        assert_eq!((fake.word(CONTROL) & NOTIFY, fake.word(MESSAGE + 2) & 1), (0, 0));
    });
}
