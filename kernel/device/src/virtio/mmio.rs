//! Virtio devices whose registers are in memory (Virtual I/O Device 1.2, 4.2), also those from before the standard.
//!
//! Key type: [`Mmio`]. One interrupt line serves all queues and the configuration. A line has its handler for good: such devices
//! do not go away. Locks: one around the selected queue, a leaf.

use super::{Features, Start, Transport, Virtio};
use crate::model::{self, Device};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::PAGE_SIZE;
use machine::irq::{self, Handler};
use machine::memory::PhysAddr;
use machine::mmio::MmioWindow;
use machine::platform::PlatformDevice;
use machine::sync::{RcuArc, SpinLock, rcu};

mod register {
    pub const MAGIC: usize = 0x000;
    pub const VERSION: usize = 0x004;
    pub const KIND: usize = 0x008;
    pub const VENDOR: usize = 0x00c;
    pub const FEATURES: usize = 0x010;
    pub const FEATURES_SELECT: usize = 0x014;
    pub const ACCEPTED: usize = 0x020;
    pub const ACCEPTED_SELECT: usize = 0x024;
    pub const LEGACY_PAGE_SIZE: usize = 0x028;
    pub const QUEUE_SELECT: usize = 0x030;
    pub const QUEUE_SIZE_MAX: usize = 0x034;
    pub const QUEUE_SIZE: usize = 0x038;
    pub const LEGACY_QUEUE_ALIGN: usize = 0x03c;
    pub const LEGACY_QUEUE_PAGE: usize = 0x040;
    pub const QUEUE_READY: usize = 0x044;
    pub const NOTIFY: usize = 0x050;
    pub const INTERRUPT_STATUS: usize = 0x060;
    pub const INTERRUPT_ACKNOWLEDGE: usize = 0x064;
    pub const STATUS: usize = 0x070;
    pub const QUEUE_DESCRIPTORS: usize = 0x080;
    pub const QUEUE_DRIVER: usize = 0x090;
    pub const QUEUE_DEVICE: usize = 0x0a0;
    pub const GENERATION: usize = 0x0fc;
    pub const CONFIG: usize = 0x100;
}

/// "virt".
const MAGIC: u32 = 0x7472_6976;
const QUEUE_INTERRUPT: u32 = 1;
const CONFIG_INTERRUPT: u32 = 2;

/// What an interrupt calls.
struct Handlers {
    config: Handler,
    queues: Vec<Handler>,
}

/// What the interrupt's handler shares with the device.
pub(super) struct Shared {
    window: MmioWindow,
    handlers: RcuArc<Handlers>,
}

impl Shared {
    /// The line fired.
    pub(super) fn interrupt(&self) {
        let what = self.window.read::<u32>(register::INTERRUPT_STATUS) & (QUEUE_INTERRUPT | CONFIG_INTERRUPT);
        if what == 0 {
            return;
        }
        self.window.write(register::INTERRUPT_ACKNOWLEDGE, what);
        let guard = rcu::read_lock();
        let Some(handlers) = self.handlers.load(&guard) else { return };
        if what & QUEUE_INTERRUPT != 0 {
            handlers.queues.iter().for_each(|handler| handler());
        }
        if what & CONFIG_INTERRUPT != 0 {
            (handlers.config)();
        }
    }
}

/// The registers of one device.
pub(super) struct Mmio {
    shared: Arc<Shared>,
    legacy: bool,
    selected: SpinLock<()>,
}

impl Mmio {
    /// Looks at the registers: the transport, the kind and the vendor. `None`: no device, or none that we know.
    pub(super) fn new(window: MmioWindow) -> Option<(Mmio, u32, u32)> {
        if !window.contains(0, register::CONFIG) || window.read::<u32>(register::MAGIC) != MAGIC {
            return None;
        }
        let legacy = match window.read::<u32>(register::VERSION) {
            1 => true,
            2 => false,
            _ => return None,
        };
        let (kind, vendor) = (window.read(register::KIND), window.read(register::VENDOR));
        if kind == 0 {
            return None;
        }
        let shared = Arc::new(Shared { window, handlers: RcuArc::new(None) });
        Some((Mmio { shared, legacy, selected: SpinLock::new(()) }, kind, vendor))
    }

    fn window(&self) -> &MmioWindow {
        &self.shared.window
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    fn write_address(&self, offset: usize, address: u64) {
        self.window().write(offset, address as u32);
        self.window().write(offset + 4, (address >> 32) as u32);
    }

    /// Gives one queue to the device.
    fn start_queue(&self, start: &Start) -> Result<()> {
        let window = self.window();
        let _selected = self.selected.lock();
        window.write(register::QUEUE_SELECT, u32::from(start.index));
        window.write(register::QUEUE_SIZE, u32::from(start.size));
        if self.legacy {
            let page = start.addresses.descriptors.0 / PAGE_SIZE as u64;
            let page = u32::try_from(page).map_err(|_| Errno::ENODEV)?;
            window.write(register::LEGACY_QUEUE_ALIGN, PAGE_SIZE as u32);
            window.write(register::LEGACY_QUEUE_PAGE, page);
            return Ok(());
        }
        self.write_address(register::QUEUE_DESCRIPTORS, start.addresses.descriptors.0);
        self.write_address(register::QUEUE_DRIVER, start.addresses.driver.0);
        self.write_address(register::QUEUE_DEVICE, start.addresses.device.0);
        window.write(register::QUEUE_READY, 1u32);
        if window.read::<u32>(register::QUEUE_READY) == 1 { Ok(()) } else { Err(Errno::ENODEV) }
    }
}

impl Transport for Mmio {
    fn status(&self) -> u8 {
        self.window().read::<u32>(register::STATUS) as u8
    }

    fn set_status(&self, status: u8) {
        self.window().write(register::STATUS, u32::from(status));
    }

    fn features(&self) -> u64 {
        let half = |number: u32| {
            self.window().write(register::FEATURES_SELECT, number);
            u64::from(self.window().read::<u32>(register::FEATURES))
        };
        if self.legacy {
            // Those have no upper half, and rings of the old kind only.
            return half(0);
        }
        half(0) | half(1) << 32
    }

    fn accept_features(&self, features: u64) {
        for number in 0..2u32 {
            self.window().write(register::ACCEPTED_SELECT, number);
            self.window().write(register::ACCEPTED, (features >> (32 * number)) as u32);
        }
        if self.legacy {
            self.window().write(register::LEGACY_PAGE_SIZE, PAGE_SIZE as u32);
        }
    }

    fn queue_size(&self, index: u16) -> u16 {
        let _selected = self.selected.lock();
        self.window().write(register::QUEUE_SELECT, u32::from(index));
        self.window().read::<u32>(register::QUEUE_SIZE_MAX).min(u32::from(u16::MAX)) as u16
    }

    fn start(&self, config_changed: Handler, queues: Vec<Start>) -> Result<()> {
        queues.iter().try_for_each(|start| self.start_queue(start))?;
        let queues = queues.into_iter().map(|start| start.handler).collect();
        self.shared.handlers.replace(Some(Arc::new(Handlers { config: config_changed, queues })));
        Ok(())
    }

    fn notify(&self, index: u16) {
        self.window().write(register::NOTIFY, u32::from(index));
    }

    fn stop(&self) {
        self.shared.handlers.replace(None);
    }

    fn config(&self, offset: usize) -> u8 {
        let offset = register::CONFIG + offset;
        if self.window().contains(offset, 1) { self.window().read(offset) } else { 0 }
    }

    fn config_generation(&self) -> u32 {
        if self.legacy { 0 } else { self.window().read(register::GENERATION) }
    }
}

/// Looks at the registers of a device that the platform tells of, and adds it if there is one. Thread context.
pub(crate) fn probe(name: &str, told: &PlatformDevice) {
    let window = match MmioWindow::claim(PhysAddr(told.address), told.length) {
        Ok(window) => window,
        Err(error) => return log::warn!("{name}: registers at {:#x}: {error:?}", told.address),
    };
    let Some((transport, kind, vendor)) = Mmio::new(window) else { return };
    let shared = transport.shared();
    if let Err(error) = irq::register(told.line, told.trigger, Box::new(move || shared.interrupt())) {
        return log::warn!("{name}: interrupt {}: {error:?}", told.line.0);
    }
    let parent =
        Device::new(name.to_string(), "platform", None, Arc::new(()), &[], alloc::string::String::new());
    let added = model::add(parent.clone());
    let added = added.and_then(|()| super::add(Virtio::new(Box::new(transport), kind, vendor), Some(parent)));
    if let Err(error) = added {
        log::warn!("{name}: {error:?}");
    }
}

/// That a device without the upper half of its features can have none of these.
const _: () =
    assert!(Features::VERSION_1.bits() > u32::MAX as u64 && Features::RING_PACKED.bits() > u32::MAX as u64);
