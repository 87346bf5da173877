//! A port: a line with a terminal on it (a console), or a character device `/dev/vportNpM`.
//!
//! Key types: [`Port`], [`PortFile`] (an open port). What programs see follows Linux's driver: one opener at a time (`EBUSY`); while the host has not connected reading gives the end of
//! file and writing waits (`EAGAIN` if it may not); what came before the host went is still read; once the port is gone reads and writes give `ENODEV`.
//!
//! Locks: `opening` (sleeping) is held while a port is opened, closed, or cleared of what nobody reads; `registration` (sleeping) while it is shown; `name`, a leaf.
//! `reading` and `writing` (sleeping) keep the bytes of two threads apart and are held over no wait for the host.

use crate::Console;
use crate::control::event;
use crate::pair::{BUFFERS, Pair};
use abi::errno::{Errno, Result};
use abi::poll::PollEvents;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use channel::line::{Line, User};
use device::class::{self, ClassDevice, Registration};
use machine::sync::atomic::{AtomicBool, Ordering};
use machine::sync::{Mutex, WaitKind};
use machine::{PAGE_SIZE, time};
use mm::io::{IoReader, IoWriter};
use vfs::{DeviceId, File, FileOperations, PollTable, Positioning};

/// The class of ports.
const CLASS: &str = "virtio-ports";
/// As much as one write takes, as on Linux.
const MOST_WRITTEN: usize = 32 << 10;
/// A port is called writable if so much fits at once.
const WRITABLE_PAGES: usize = BUFFERS / 2;
/// Bytes that are copied at a time through the stack.
const CHUNK: usize = 512;
/// How long last words may take to reach the host.
const LAST_WORDS_NS: u64 = 50_000_000;

/// A port.
pub struct Port {
    console: Arc<Console>,
    id: u32,
    pair: Arc<Pair>,
    is_console: AtomicBool,
    is_host_connected: AtomicBool,
    is_open: AtomicBool,
    is_removed: AtomicBool,
    opening: Mutex<()>,
    reading: Mutex<()>,
    writing: Mutex<()>,
    registration: Mutex<Option<Registration>>,
}

impl Port {
    /// Makes port `id` and shows it. Thread context. Errors: `ENOMEM`, `EEXIST`.
    pub fn new(console: &Arc<Console>, id: u32, pair: Arc<Pair>) -> Result<Arc<Port>> {
        pair.fill()?;
        let port = Arc::new(Port {
            console: console.clone(),
            id,
            pair,
            is_console: AtomicBool::new(false),
            is_host_connected: AtomicBool::new(false),
            is_open: AtomicBool::new(false),
            is_removed: AtomicBool::new(false),
            opening: Mutex::new(()),
            reading: Mutex::new(()),
            writing: Mutex::new(()),
            registration: Mutex::new(None),
        });
        let name = format!("vport{}p{id}", console.number());
        let (parent, number) = (Some(console.place().clone()), (console.major(), id));
        let device = ClassDevice { name, class: CLASS, parent, number };
        *port.registration.lock() = Some(class::register(device)?);
        Ok(port)
    }

    fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Acquire)
    }

    fn is_host_connected(&self) -> bool {
        self.is_host_connected.load(Ordering::Acquire)
    }

    /// Whether it is a terminal's.
    pub fn is_console(&self) -> bool {
        self.is_console.load(Ordering::Acquire)
    }

    fn say(&self, event: u16, value: u16) {
        self.console.say(self.id, event, value);
    }

    /// Puts a terminal on it. Thread context. Errors: those of [`channel::line::attach`]; `ENOMEM`.
    pub fn make_console(self: &Arc<Self>) -> Result<()> {
        self.pair.prepare_output()?;
        if self.is_console.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // What came before is for nobody.
        self.pair.discard();
        self.pair.is_wanted.store(true, Ordering::Release);
        let user = channel::line::attach(self.clone())?;
        self.pair.set_user(Some(user.clone()));
        // What has happened before it was known as the user.
        user.input();
        user.room();
        self.say(event::PORT_OPEN, 1);
        Ok(())
    }

    /// The terminal on it.
    fn user(&self) -> Option<Arc<dyn User>> {
        self.pair.user().filter(|_| !self.is_removed())
    }

    /// The window at the host has this size. Thread context.
    pub fn resize(&self, rows: u16, columns: u16) {
        if let Some(user) = self.user() {
            user.resized(rows, columns);
        }
    }

    /// The host calls it so. Thread context. Only the first name counts, as on Linux.
    pub fn set_name(&self, name: String) {
        let show = move |out: &mut dyn core::fmt::Write| writeln!(out, "{name}").map_err(|_| Errno::ENOMEM);
        if let Some(registration) = &*self.registration.lock() {
            match registration.add_file("name", alloc::boxed::Box::new(show)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => log::warn!("virtio_console: the name of port {}: {error:?}", self.id),
            }
        }
    }

    /// Somebody at the host has connected, or gone.
    pub fn set_host_connected(&self, connected: bool) {
        self.is_host_connected.store(connected, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        self.pair.readable.wake_all();
        self.pair.writable.wake_all();
    }

    /// Drops what has come in if nobody is there for it. Thread context.
    pub fn clear(&self) {
        let _opening = self.opening.lock();
        if !self.pair.is_wanted.load(Ordering::Acquire) {
            self.pair.discard();
        }
    }

    /// It is there no more. Thread context.
    pub fn remove(&self) {
        self.is_removed.store(true, Ordering::Release);
        self.pair.is_wanted.store(false, Ordering::Release);
        self.set_host_connected(false);
        if let Some(user) = self.pair.set_user(None) {
            user.gone();
        }
        let shown = self.registration.lock().take();
        drop(shown);
        self.clear();
    }

    /// Opens it for a program. Errors: `ENXIO`: it is a console's, or gone; `EBUSY`: somebody has it; `ENOMEM`.
    pub fn open(self: &Arc<Self>) -> Result<Arc<PortFile>> {
        let _opening = self.opening.lock();
        if self.is_console() || self.is_removed() {
            return Err(Errno::ENXIO);
        }
        if self.is_open.load(Ordering::Acquire) {
            return Err(Errno::EBUSY);
        }
        self.pair.fill()?;
        self.pair.prepare_output()?;
        // What came while nobody had it open.
        self.pair.discard();
        self.is_open.store(true, Ordering::Release);
        self.pair.is_wanted.store(true, Ordering::Release);
        self.say(event::PORT_OPEN, 1);
        Ok(Arc::new(PortFile(self.clone())))
    }

    fn close(&self) {
        let _opening = self.opening.lock();
        self.is_open.store(false, Ordering::Release);
        if self.is_removed() {
            return;
        }
        self.pair.is_wanted.store(false, Ordering::Release);
        self.say(event::PORT_OPEN, 0);
        self.pair.discard();
    }

    /// Does a read give something, or an end, or an error?
    fn is_readable(&self) -> bool {
        self.is_removed() || !self.is_host_connected() || self.pair.has_input()
    }

    /// Copies what has come in.
    fn take(&self, to: &mut dyn IoWriter) -> Result<usize> {
        let _reading = self.reading.lock();
        let mut chunk = [0; CHUNK];
        let mut done = 0;
        while to.remaining() > 0 {
            let wanted = to.remaining().min(CHUNK);
            let count = self.pair.peek(chunk.get_mut(..wanted).unwrap_or_default());
            if count == 0 {
                break;
            }
            match to.write_bytes(chunk.get(..count).unwrap_or_default()) {
                Ok(count) => {
                    self.pair.consume(count);
                    done += count;
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Sends as much as there is room for, at most `most` bytes.
    fn put(&self, from: &mut dyn IoReader, most: usize) -> Result<usize> {
        let _writing = self.writing.lock();
        let mut done = 0;
        while done < most && self.pair.spare() > 0 {
            let mut page = match self.pair.take_spare() {
                Some(page) => page,
                None => break,
            };
            let copied = page.fill_from(from, (most - done).min(PAGE_SIZE));
            let count = *copied.as_ref().unwrap_or(&0);
            if !self.pair.send_page(page) {
                return Err(Errno::EIO);
            }
            done += count;
            match copied {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn can_write(&self) -> bool {
        self.is_removed() || self.is_host_connected() && self.pair.spare() > 0
    }
}

impl Line for Port {
    fn send(&self, bytes: &[u8]) -> usize {
        if self.is_removed() { bytes.len() } else { self.pair.send(bytes) }
    }

    fn send_message(&self, bytes: &[u8]) -> bool {
        self.is_removed() || self.pair.send_message(bytes)
    }

    fn send_last_words(&self, bytes: &[u8]) {
        if self.is_removed() || self.console.write_emergency(bytes) {
            return;
        }
        let deadline_ns = time::now_ns().saturating_add(LAST_WORDS_NS);
        let mut is_sent = false;
        while time::now_ns() < deadline_ns {
            is_sent = is_sent || self.pair.send_message(bytes);
            self.pair.poll_sent();
            if is_sent && self.pair.unsent() == 0 {
                return;
            }
            core::hint::spin_loop();
        }
    }

    fn unsent(&self) -> usize {
        if self.is_removed() { 0 } else { self.pair.unsent() }
    }

    fn peek(&self, into: &mut [u8]) -> usize {
        if !self.is_removed() && self.pair.has_input() { self.pair.peek(into) } else { 0 }
    }

    fn consume(&self, count: usize) {
        self.pair.consume(count);
    }

    fn has_input(&self) -> bool {
        !self.is_removed() && self.pair.has_input()
    }
}

/// An open port.
pub struct PortFile(Arc<Port>);

impl Drop for PortFile {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl FileOperations for PortFile {
    fn read(&self, file: &File, to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        self.read_from(to, file.is_nonblocking())
    }

    fn write(&self, file: &File, from: &mut dyn IoReader, _offset: u64) -> Result<usize> {
        self.write_to(from, file.is_nonblocking())
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.register(&self.0.pair.readable);
        table.register(&self.0.pair.writable);
        self.readiness()
    }
}

impl PortFile {
    /// Reads. Errors: `EAGAIN`, `ERESTARTSYS`, `ENODEV` (it is gone), `EFAULT`.
    pub fn read_from(&self, to: &mut dyn IoWriter, nonblocking: bool) -> Result<usize> {
        let port = &self.0;
        loop {
            if port.is_removed() {
                return Err(Errno::ENODEV);
            }
            // Looked at before: what the host has sent before it went is there then.
            let is_connected = port.is_host_connected();
            let done = port.take(to)?;
            if done > 0 || to.remaining() == 0 || !is_connected {
                return Ok(done);
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            let ready = || port.is_readable().then_some(());
            port.pair
                .readable
                .wait_until(WaitKind::Interruptible, None, ready)
                .map_err(|_| Errno::ERESTARTSYS)?;
        }
    }

    /// Writes at most 32 KiB. Errors: `EAGAIN`, `ERESTARTSYS`, `ENODEV` (it is gone), `EIO` (the device is broken), `EFAULT`.
    pub fn write_to(&self, from: &mut dyn IoReader, nonblocking: bool) -> Result<usize> {
        let port = &self.0;
        let wanted = from.remaining().min(MOST_WRITTEN);
        let mut done = 0;
        while done < wanted {
            if port.is_removed() {
                return if done > 0 { Ok(done) } else { Err(Errno::ENODEV) };
            }
            if port.is_host_connected() {
                match port.put(from, wanted - done) {
                    Ok(count) => done += count,
                    Err(_) if done > 0 => break,
                    Err(error) => return Err(error),
                }
            }
            if done == wanted {
                break;
            }
            if nonblocking {
                return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN) };
            }
            let ready = || port.can_write().then_some(());
            if port.pair.writable.wait_until(WaitKind::Interruptible, None, ready).is_err() {
                return if done > 0 { Ok(done) } else { Err(Errno::ERESTARTSYS) };
            }
        }
        Ok(done)
    }

    /// What it is ready for.
    pub fn readiness(&self) -> PollEvents {
        let port = &self.0;
        if port.is_removed() {
            return PollEvents::HUP;
        }
        let is_connected = port.is_host_connected();
        let mut events = PollEvents::empty();
        events.set(PollEvents::READABLE, port.is_readable());
        events.set(PollEvents::WRITABLE, is_connected && port.pair.is_roomy(WRITABLE_PAGES));
        events.set(PollEvents::HUP, !is_connected);
        events
    }
}

/// The numbers of ports of one device.
pub struct Numbers(pub alloc::sync::Weak<Console>);

impl vfs::chardev::Device for Numbers {
    fn name(&self) -> &str {
        "virtio-portsdev"
    }

    fn open(&self, id: DeviceId, _file: &File) -> Result<Arc<dyn FileOperations>> {
        let console = self.0.upgrade().ok_or(Errno::ENXIO)?;
        let port = console.port(id.minor).ok_or(Errno::ENXIO)?;
        Ok(port.open()?)
    }
}
