//! Consoles and ports to the host: virtio-console (Virtual I/O Device 1.2, 5.3).
//!
//! Key types: [`ConsoleDriver`] (finds devices), [`Console`] (one device), `port::Port` (one port: a terminal's line or a character device),
//! `pair::Pair` (its two queues), `control::Control` (who says what of ports, if a device has several). A device without `F_MULTIPORT` is one
//! console. Otherwise its thread does what the device says: ports come and go, are consoles, have names, are connected.
//!
//! The device is not trusted: a port whose number it does not have, and messages that are too short or unknown, are passed over and told a few times;
//! nothing that it sends makes more memory be used than its queues have pages. A device that breaks the rules of queues is reset: consoles hang up, ports are
//! gone.
//!
//! Neighbours: `device` below; `channel::line`, through which `drivers/tty` puts terminals on consoles; `vfs` for the ports' nodes.
//! Locks: `Console::changing` (sleeping) is held while ports come, change and go, outside all of theirs; `Console::ports` is a leaf.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod control;
mod pair;
mod port;
#[cfg(test)]
mod tests;

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use control::{Control, Message, event};
use device::virtio::{self, Queue, Virtio};
use device::{Device, Instance};
use machine::cpu::{self, CpuId};
use machine::irq::Handler;
use machine::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use machine::sync::{Mutex, SpinLock, WaitKind, WaitQueue};
use pair::{Buffer, Pair};
use port::{Numbers, Port};
use vfs::{FileKind, chardev};

/// The kind of virtio device.
const KIND: u32 = 3;
/// Features: the configuration has the size of the window; there are several ports; it has a place for bytes to be shown at once.
const SIZE: u32 = 0;
const MULTIPORT: u32 = 1;
const EMERGENCY_WRITE: u32 = 2;
/// The configuration: columns and rows, the most ports, the place.
const COLUMNS: usize = 0;
const ROWS: usize = 2;
const PORTS: usize = 4;
const EMERGENCY: usize = 8;
/// More ports than that are not used (QEMU has 31 unless it is told otherwise).
const MOST_PORTS: u32 = 64;
/// The port that a message to the device itself names.
const NO_PORT: u32 = u32::MAX;
/// The longest name of a port that is believed, bytes.
const LONGEST_NAME: usize = 255;
/// So much nonsense is told of each device.
const MOST_TOLD: u32 = 8;

/// One device.
pub(crate) struct Console {
    device: Arc<Virtio>,
    place: Arc<Device>,
    /// N of `virtioN`.
    number: u32,
    major: u32,
    /// By number of the port.
    pairs: Vec<Arc<Pair>>,
    control: Option<Control>,
    ports: SpinLock<BTreeMap<u32, Arc<Port>>>,
    /// Whether it is gone.
    changing: Mutex<bool>,
    /// The thread is to look.
    is_due: AtomicBool,
    is_config_changed: AtomicBool,
    is_broken: AtomicBool,
    is_stopped: AtomicBool,
    work: WaitQueue,
    told: AtomicU32,
}

impl Console {
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn place(&self) -> &Arc<Device> {
        &self.place
    }

    pub(crate) fn major(&self) -> u32 {
        self.major
    }

    /// The port of that number, if there is one.
    pub(crate) fn port(&self, id: u32) -> Option<Arc<Port>> {
        self.ports.lock().get(&id).cloned()
    }

    /// Says something of a port, if the device listens to such.
    pub(crate) fn say(&self, id: u32, event: u16, value: u16) {
        if let Some(control) = &self.control
            && control.say(Message { id, event, value }).is_err()
        {
            self.tell(format_args!("takes no messages; one of port {id} is lost"));
        }
    }

    /// Shows bytes at once, past all queues. Any context. Gives `false` if the device has no place for that.
    pub(crate) fn write_emergency(&self, bytes: &[u8]) -> bool {
        let has_place = self.device.has_feature(EMERGENCY_WRITE);
        if has_place {
            bytes.iter().for_each(|byte| self.device.set_config_u32(EMERGENCY, u32::from(*byte)));
        }
        has_place
    }

    /// Tells of nonsense, a few times.
    fn tell(&self, what: core::fmt::Arguments<'_>) {
        match self.told.fetch_add(1, Ordering::Relaxed) {
            count if count < MOST_TOLD => log::warn!("virtio_console: {}: {what}", self.place.name()),
            // It stays there however often it is asked.
            count if count > u32::MAX / 2 => self.told.store(MOST_TOLD, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Has the thread look. Any context.
    fn wake(&self) {
        self.is_due.store(true, Ordering::Release);
        self.work.wake_all();
    }

    /// What an interrupt has found.
    fn note(&self, outcome: core::result::Result<(), virtio::Broken>) {
        if outcome.is_err() {
            self.is_broken.store(true, Ordering::Release);
            self.wake();
        }
    }

    /// A pair of queues has something in it. Interrupt context.
    fn received(&self, pair: &Pair) {
        self.note(pair.received());
        if !pair.is_wanted.load(Ordering::Acquire) {
            self.wake();
        }
    }

    /// The thread: does what the device says until it is gone.
    fn serve(self: &Arc<Self>) {
        while !self.is_stopped.load(Ordering::Acquire) {
            let due = || self.is_due.swap(false, Ordering::AcqRel).then_some(());
            // A kernel thread gets no signals.
            let _ = self.work.wait_until(WaitKind::Uninterruptible, None, due);
            if self.is_config_changed.swap(false, Ordering::AcqRel) {
                self.look_at_config();
            }
            if self.is_broken.load(Ordering::Acquire) {
                log::error!("virtio_console: {}: it breaks the rules and is shut off", self.place.name());
                self.shut_off();
            }
            self.hear();
            let ports: Vec<Arc<Port>> = self.ports.lock().values().cloned().collect();
            ports.iter().for_each(|port| port.clear());
        }
    }

    /// The configuration has changed: the window, or the device is at its end.
    fn look_at_config(&self) {
        if self.device.needs_reset() {
            self.is_broken.store(true, Ordering::Release);
        }
        // With several ports sizes come in messages.
        if self.control.is_none()
            && let Some(port) = self.port(0)
        {
            self.take_size(&port);
        }
    }

    fn take_size(&self, port: &Port) {
        if self.device.has_feature(SIZE) {
            port.resize(self.device.config_u16(ROWS), self.device.config_u16(COLUMNS));
        }
    }

    /// Does what the messages say that there are.
    fn hear(self: &Arc<Self>) {
        let Some(control) = &self.control else { return };
        while let Some(buffer) = control.next() {
            let is_gone = self.changing.lock();
            if *is_gone {
                return;
            }
            self.obey(&buffer);
            drop(is_gone);
            control.give_back(buffer);
            control.receive.kick();
        }
    }

    /// Does what one message says.
    fn obey(self: &Arc<Self>, buffer: &Buffer) {
        // A name is the longest that may follow.
        let mut bytes = [0; control::HEADER + LONGEST_NAME];
        let length = buffer.peek(&mut bytes);
        let bytes = bytes.get(..length).unwrap_or_default();
        let Some(message) = Message::parse(bytes) else {
            return self.tell(format_args!("a message of {length} bytes"));
        };
        let rest = bytes.get(control::HEADER..).unwrap_or_default();
        let port = self.port(message.id);
        match (message.event, port) {
            (event::DEVICE_ADD, port) => self.add_asked(message.id, port.is_some()),
            (_, None) => self.tell(format_args!("{message:?} of a port that is not there")),
            (event::DEVICE_REMOVE, Some(port)) => {
                self.ports.lock().remove(&message.id);
                port.remove();
            }
            (event::CONSOLE_PORT, Some(port)) if message.value == 1 => self.make_console(&port),
            (event::RESIZE, Some(port)) => match *rest {
                [low_columns, high_columns, low_rows, high_rows, ..] if port.is_console() => {
                    let number = |low, high| u16::from_le_bytes([low, high]);
                    port.resize(number(low_rows, high_rows), number(low_columns, high_columns));
                }
                _ => self.tell(format_args!("{message:?}: no console, or no size")),
            },
            (event::PORT_OPEN, Some(port)) => port.set_host_connected(message.value != 0),
            (event::PORT_NAME, Some(port)) => {
                let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
                match core::str::from_utf8(name) {
                    Ok(name) if !name.is_empty() && !name.contains(char::is_control) => {
                        port.set_name(String::from(name));
                    }
                    _ => self.tell(format_args!("{message:?}: not a name")),
                }
            }
            (_, Some(_)) => self.tell(format_args!("{message:?}: not understood")),
        }
    }

    /// The device says that there is a port.
    fn add_asked(self: &Arc<Self>, id: u32, is_there: bool) {
        let added = if is_there { Ok(()) } else { self.add_port(id).map(drop) };
        if let Err(error) = added {
            self.tell(format_args!("port {id}: {error:?}"));
        }
        self.say(id, event::PORT_READY, u16::from(added.is_ok()));
    }

    /// Makes a port. `changing` is held. Errors: `EINVAL`: the device has no such; `ENOMEM`, `EEXIST`.
    fn add_port(self: &Arc<Self>, id: u32) -> Result<Arc<Port>> {
        let pair = usize::try_from(id).ok().and_then(|id| self.pairs.get(id)).ok_or(Errno::EINVAL)?;
        let port = Port::new(self, id, pair.clone())?;
        self.ports.lock().insert(id, port.clone());
        Ok(port)
    }

    fn make_console(&self, port: &Arc<Port>) {
        match port.make_console() {
            Ok(()) if self.control.is_none() => self.take_size(port),
            Ok(()) => {}
            Err(error) => self.tell(format_args!("no terminal for a console: {error:?}")),
        }
    }

    /// Resets the device and lets all ports go. Thread context; once.
    fn shut_off(self: &Arc<Self>) {
        let mut is_gone = self.changing.lock();
        if core::mem::replace(&mut *is_gone, true) {
            return;
        }
        self.device.mark_broken();
        let ports = core::mem::take(&mut *self.ports.lock());
        ports.values().for_each(|port| port.remove());
        chardev::unregister(FileKind::CharDevice, self.major, 0);
        let stopped = self.device.reset();
        if stopped.is_err() {
            // It may still write to its rings.
            core::mem::forget(self.clone());
        }
        for queue in self.queues() {
            for buffer in queue.drain() {
                if stopped.is_err() {
                    // It may still write there.
                    core::mem::forget(buffer);
                }
            }
        }
        self.is_stopped.store(true, Ordering::Release);
        drop(is_gone);
        self.wake();
    }

    fn queues(&self) -> impl Iterator<Item = &Queue<Buffer>> {
        let of_ports = self.pairs.iter().flat_map(|pair| [&pair.receive, &pair.transmit]);
        of_ports.chain(self.control.iter().flat_map(|control| [&control.receive, &control.transmit]))
    }

    /// Each queue with its CPU and its handler.
    fn handlers(self: &Arc<Self>) -> Vec<(&Queue<Buffer>, CpuId, Handler)> {
        let handler = |work: fn(&Console, usize), index: usize| -> Handler {
            let weak: Weak<Console> = Arc::downgrade(self);
            Box::new(move || {
                if let Some(console) = weak.upgrade() {
                    work(&console, index);
                }
            })
        };
        let mut all = Vec::new();
        for (index, pair) in self.pairs.iter().enumerate() {
            let cpu = CpuId::new(index % cpu::count()).unwrap_or_default();
            let received = |console: &Console, index: usize| {
                if let Some(pair) = console.pairs.get(index) {
                    console.received(pair);
                }
            };
            let sent = |console: &Console, index: usize| {
                if let Some(pair) = console.pairs.get(index) {
                    console.note(pair.sent());
                }
            };
            all.push((&pair.receive, cpu, handler(received, index)));
            all.push((&pair.transmit, cpu, handler(sent, index)));
        }
        if let Some(control) = &self.control {
            let received = |console: &Console, _: usize| {
                if let Some(control) = &console.control {
                    console.note(control.received());
                    console.wake();
                }
            };
            let sent = |console: &Console, _: usize| {
                if let Some(control) = &console.control {
                    console.note(control.sent());
                }
            };
            all.push((&control.receive, CpuId::default(), handler(received, 0)));
            all.push((&control.transmit, CpuId::default(), handler(sent, 0)));
        }
        all
    }

    /// Lets the device work, and its thread. On an error the device is shut off.
    fn start(self: &Arc<Self>) -> Result<()> {
        let weak = Arc::downgrade(self);
        let config_changed = Box::new(move || {
            if let Some(console) = weak.upgrade() {
                console.is_config_changed.store(true, Ordering::Release);
                console.wake();
            }
        });
        self.device.start(config_changed, self.handlers())?;
        let changing = self.changing.lock();
        match &self.control {
            Some(control) => {
                control.fill()?;
                self.say(NO_PORT, event::DEVICE_READY, 1);
            }
            None => {
                let port = self.add_port(0)?;
                self.make_console(&port);
            }
        }
        drop(changing);
        let server = self.clone();
        sched::spawn("virtio_console", sched::SpawnOptions::default(), move || server.serve())?;
        Ok(())
    }
}

/// The devices that tests have made.
#[cfg(test)]
static CONSOLES: SpinLock<Vec<Weak<Console>>> = SpinLock::new(Vec::new());

/// The service of one device.
struct Served(Arc<Console>);

impl Instance for Served {
    fn remove(&self) {
        self.0.shut_off();
    }
}

/// Finds devices.
struct ConsoleDriver;

/// The queue of a port's pair that comes first: those of control are between the first port's and the others'.
fn first_queue(port: u16) -> u16 {
    if port == 0 { 0 } else { 2 * port + 2 }
}

/// The pairs of a device's ports, as many as it has queues for. Errors: as [`Pair::new`], for the first.
fn pairs(device: &Arc<Virtio>, count: u32) -> Result<Vec<Arc<Pair>>> {
    let mut pairs = Vec::new();
    for port in 0..count.clamp(1, MOST_PORTS) as u16 {
        match Pair::new(device, first_queue(port)) {
            Ok(pair) => pairs.push(pair),
            Err(Errno::ENODEV) if port > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(pairs)
}

impl virtio::Driver for ConsoleDriver {
    fn name(&self) -> &'static str {
        "virtio_console"
    }

    fn kind(&self) -> u32 {
        KIND
    }

    fn probe(&self, device: Arc<Virtio>, place: &Arc<Device>) -> Result<Box<dyn Instance>> {
        device.negotiate(1 << SIZE | 1 << MULTIPORT | 1 << EMERGENCY_WRITE)?;
        let has_several = device.has_feature(MULTIPORT);
        let count = if has_several { device.config_u32(PORTS) } else { 1 };
        let control = if has_several { Some(Control::new(&device)?) } else { None };
        let pairs = pairs(&device, count)?;
        let number = place.name().trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
        let (place, changing) = (place.clone(), Mutex::new(false));
        let mut registered = Ok(0);
        let console = Arc::new_cyclic(|console| {
            registered = chardev::register_dynamic(Arc::new(Numbers(console.clone())));
            Console {
                device,
                place,
                number,
                major: *registered.as_ref().unwrap_or(&0),
                pairs,
                control,
                ports: SpinLock::new(BTreeMap::new()),
                changing,
                is_due: AtomicBool::new(false),
                is_config_changed: AtomicBool::new(false),
                is_broken: AtomicBool::new(false),
                is_stopped: AtomicBool::new(false),
                work: WaitQueue::new(),
                told: AtomicU32::new(0),
            }
        });
        registered?;
        #[cfg(test)]
        CONSOLES.lock().push(Arc::downgrade(&console));
        if let Err(error) = console.start() {
            console.shut_off();
            return Err(error);
        }
        Ok(Box::new(Served(console)))
    }
}

/// Makes the driver known. Thread context.
pub fn register() {
    virtio::register_driver(&ConsoleDriver);
}
