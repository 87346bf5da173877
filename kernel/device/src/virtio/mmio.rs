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
        if self.shared.handlers.swap(None).is_some() {
            rcu::synchronize();
        }
    }

    fn config(&self, offset: usize, width: usize) -> u32 {
        let (window, at) = (self.window(), register::CONFIG + offset);
        match width {
            _ if !window.contains(at, width) || !at.is_multiple_of(width) => 0,
            1 => u32::from(window.read::<u8>(at)),
            2 => u32::from(window.read::<u16>(at)),
            _ => window.read::<u32>(at),
        }
    }

    fn set_config(&self, offset: usize, value: u32) {
        let at = register::CONFIG + offset;
        if self.window().contains(at, 4) && at.is_multiple_of(4) {
            self.window().write(at, value);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::Queue;
    use alloc::collections::BTreeMap;
    use machine::cpu::CpuId;
    use machine::mmio::Emulated;
    use machine::sync::atomic::{AtomicU32, Ordering};

    /// Registers that keep what is written.
    struct Registers(SpinLock<BTreeMap<usize, u32>>);

    impl Emulated for Registers {
        fn read(&self, offset: usize, width: usize) -> u64 {
            let all = self.0.lock();
            let word = all.get(&(offset & !3)).copied().unwrap_or(0);
            u64::from(word >> (8 * (offset & 3))) & ((1 << (8 * width)) - 1)
        }

        fn write(&self, offset: usize, width: usize, value: u64) {
            assert_eq!(width, 4, "registers are of 32 bits");
            self.0.lock().insert(offset, value as u32);
        }
    }

    fn registers(version: u32) -> Arc<Registers> {
        let preset = [
            (register::MAGIC, MAGIC),
            (register::VERSION, version),
            (register::KIND, 2),
            (register::QUEUE_SIZE_MAX, 1000),
            (register::CONFIG, 0x0403_0201),
        ];
        Arc::new(Registers(SpinLock::new(preset.into_iter().collect())))
    }

    fn transport(registers: &Arc<Registers>) -> Option<Mmio> {
        Mmio::new(MmioWindow::emulated(registers.clone(), 0x104)).map(|(transport, ..)| transport)
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for (register, value) in [(register::MAGIC, 0), (register::VERSION, 3), (register::KIND, 0)] {
            let registers = registers(2);
            registers.0.lock().insert(register, value);
            assert!(transport(&registers).is_none());
        }
        assert!(Mmio::new(MmioWindow::emulated(registers(2), 0xfc)).is_none(), "too small");
        assert_eq!(transport(&registers(2)).unwrap().config(2, 2), 0x0403);
        assert_eq!(transport(&registers(2)).unwrap().config(4, 1), 0, "beyond its end");
    }

    #[test]
    fn both_generations_are_given_their_rings_and_interrupt() {
        for version in [1, 2] {
            let registers = registers(version);
            let transport = transport(&registers).unwrap();
            let shared = transport.shared();
            let device = Virtio::new(Box::new(transport), 2, 0);
            let queue = Queue::<()>::new(&device, 3, 1).unwrap();
            assert_eq!(queue.size(), 256, "ours is the shorter one");
            let count = Arc::new(AtomicU32::new(0));
            let (used, changed) = (count.clone(), count.clone());
            let used: Handler = Box::new(move || {
                used.fetch_add(1, Ordering::Relaxed);
            });
            let changed: Handler = Box::new(move || {
                changed.fetch_add(100, Ordering::Relaxed);
            });
            device.start(changed, alloc::vec![(&queue, CpuId::default(), used)]).unwrap();
            let read = |register: usize| registers.0.lock().get(&register).copied().unwrap_or(0);
            let ring = queue.addresses().descriptors.0;
            assert_eq!((read(register::QUEUE_SELECT), read(register::QUEUE_SIZE)), (3, 256));
            if version == 1 {
                assert_eq!(u64::from(read(register::LEGACY_QUEUE_PAGE)) * PAGE_SIZE as u64, ring);
            } else {
                assert_eq!(read(register::QUEUE_DESCRIPTORS), ring as u32);
            }
            for (status, total) in [(QUEUE_INTERRUPT, 1), (CONFIG_INTERRUPT, 101), (0, 101), (3, 202)] {
                registers.0.lock().insert(register::INTERRUPT_STATUS, status);
                shared.interrupt();
                assert_eq!(count.load(Ordering::Relaxed), total);
            }
            assert_eq!(read(register::INTERRUPT_ACKNOWLEDGE), 3);
            device.transport().notify(3);
            assert_eq!(read(register::NOTIFY), 3);
        }
    }
}
