//! Consoles: where the kernel's messages go, and which terminal is `/dev/console`.
//!
//! `console=` on the command line names them (`ttyS0`, `ttyS1`, `hvc0` to `hvc7`; others are passed over); without any it is `ttyS0`. All get the messages,
//! and the last one that is there is `/dev/console`. What `ttyS0` shows `machine::log_buffer` writes there itself. The others are written by
//! [`show_messages`], which a record's writer calls and whatever makes room: it gives each as many lines as it has room for, from where that one is,
//! and neither sleeps nor wakes anybody, because records are written with any lock held. A console that comes late shows the log from its beginning.
//!
//! Locks: [`PRINTERS`], interrupt-safe, only ever tried by those who write messages; who cannot have it leaves [`IS_DUE`] for its holder.

use crate::tty::Tty;
use crate::{hvc, serial};
use alloc::string::String;
use alloc::sync::Arc;
use channel::line::Line;
use linnet_lib::command_line;
use machine::log_buffer;
use machine::serial::SerialPort;
use machine::sync::atomic::{AtomicBool, Ordering};
use machine::sync::{IrqSpinLock, WaitKind, WaitQueue};
use vfs::DeviceId;

/// Lines that one call shows at most, so that interrupts are not off for long.
const BATCH: usize = 16;
/// What the second serial port may have queued before it is given another message: its buffer has 4 KiB.
const SECOND_QUEUED: usize = 3072;

/// What a console's messages go through.
enum Way {
    Line(Arc<dyn Line>),
    SecondPort,
}

impl Way {
    fn send(&self, bytes: &[u8]) -> bool {
        match self {
            Way::Line(line) => line.send_message(bytes),
            Way::SecondPort => {
                let port = SerialPort::Second;
                port.queued() <= SECOND_QUEUED && port.write(bytes) == bytes.len()
            }
        }
    }
}

/// A console that shows messages.
struct Printer {
    way: Way,
    /// The first record that it has not shown.
    next: u64,
}

impl Printer {
    /// Shows what it has room for. Gives whether that was all there was for it, as far as is known.
    fn advance(&mut self) -> bool {
        for _ in 0..BATCH {
            let Some((line, next)) = log_buffer::console_line(self.next) else { return true };
            if !self.way.send(line.bytes()) {
                return true;
            }
            self.next = next;
        }
        false
    }
}

/// Places of [`PRINTERS`]: lines, and the second serial port.
const SECOND: usize = hvc::MOST;

static PRINTERS: IrqSpinLock<[Option<Printer>; hvc::MOST + 1]> =
    IrqSpinLock::new([const { None }; hvc::MOST + 1]);
/// There may be something to show that nobody has looked at.
static IS_DUE: AtomicBool = AtomicBool::new(false);
/// Woken when a terminal comes.
static CAME: WaitQueue = WaitQueue::new();

/// Shows what there is to show, as far as there is room. Any context, any locks held; neither waits nor wakes.
pub(crate) fn show_messages() {
    IS_DUE.store(true, Ordering::SeqCst);
    for _ in 0..BATCH {
        if !IS_DUE.swap(false, Ordering::SeqCst) {
            return;
        }
        let Some(mut printers) = PRINTERS.try_lock() else {
            // Its holder looks once more when it has let go.
            IS_DUE.store(true, Ordering::SeqCst);
            return;
        };
        // Each has its turn, however far another has come.
        let unfinished =
            printers.iter_mut().flatten().filter_map(|printer| (!printer.advance()).then_some(()));
        let unfinished = unfinished.count();
        drop(printers);
        if unfinished > 0 {
            IS_DUE.store(true, Ordering::SeqCst);
        }
    }
}

/// Sends the last words of a panic.
fn last_words(bytes: &[u8]) {
    let Some(printers) = PRINTERS.try_lock() else { return };
    for printer in printers.iter().flatten() {
        match &printer.way {
            Way::Line(line) => line.send_last_words(bytes),
            Way::SecondPort => {
                let _ = SerialPort::Second.write(bytes);
            }
        }
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    command_line::consoles(machine::boot::command_line())
}

/// The terminal of that name, if it is there.
fn named(name: &str) -> Option<Arc<Tty>> {
    if let Some(index) = name.strip_prefix("hvc") {
        return hvc::find(DeviceId::new(hvc::MAJOR, index.parse().ok()?));
    }
    let index: u32 = name.strip_prefix("ttyS")?.parse().ok()?;
    serial::find(DeviceId::new(serial::MAJOR, serial::FIRST_MINOR.checked_add(index)?))
}

/// The terminal that is `/dev/console` now. `None`: those that are named are not there.
pub fn terminal() -> Option<Arc<Tty>> {
    if names().next().is_none() {
        return named("ttyS0");
    }
    names().filter_map(named).last()
}

/// The names of the consoles there are, the one that is `/dev/console` last, as in `/sys/class/tty/console/active`.
pub fn active() -> String {
    let mut text = String::new();
    let default = names().next().is_none().then_some("ttyS0");
    for name in default.into_iter().chain(names()) {
        let is_new = !text.split(' ').any(|other| other == name);
        if is_new && named(name).is_some() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(name);
        }
    }
    text
}

/// Waits until the console that is named last is there, at most until `deadline_ns`. Thread context. Gives whether there is any console.
pub fn wait(deadline_ns: u64) -> bool {
    let Some(last) = names().last() else { return true };
    let there = || named(last).map(drop);
    // A kernel thread gets no signals.
    let _ = CAME.wait_until(WaitKind::Uninterruptible, Some(deadline_ns), there);
    terminal().is_some()
}

/// Waits until all consoles have shown everything, at most until `deadline_ns`: the machine is about to end. Thread context.
pub fn settle(deadline_ns: u64) {
    const STEP_NS: u64 = 1_000_000;
    let is_behind = |printer: &Printer| {
        let unsent =
            if let Way::Line(line) = &printer.way { line.unsent() } else { SerialPort::Second.queued() };
        unsent > 0 || log_buffer::console_line(printer.next).is_some()
    };
    while PRINTERS.lock().iter().flatten().any(is_behind) && machine::time::now_ns() < deadline_ns {
        show_messages();
        let _ = sched::sleep_until(machine::time::now_ns() + STEP_NS, WaitKind::Uninterruptible);
    }
}

fn add(place: usize, way: Way) {
    if let Some(printer) = PRINTERS.lock().get_mut(place) {
        *printer = Some(Printer { way, next: 0 });
    }
    show_messages();
}

/// There is a terminal on a line.
pub(crate) fn add_line(index: usize, name: &str, line: Arc<dyn Line>) {
    if names().any(|other| other == name) {
        add(index, Way::Line(line));
        log::info!("printk: console [{name}] enabled");
    }
    CAME.wake_all();
}

/// A line is gone.
pub(crate) fn remove_line(index: usize) {
    let gone = PRINTERS.lock().get_mut(index).and_then(Option::take);
    drop(gone);
    show_messages();
}

/// Starts showing messages. Once, after the serial ports are there.
pub(crate) fn init() {
    log_buffer::set_notify(show_messages);
    machine::console::set_last_words(last_words);
    if names().any(|name| name == "ttyS1") && SerialPort::Second.is_present() {
        add(SECOND, Way::SecondPort);
    }
}
