//! Serial ports.
//!
//! A byte that comes in (in an interrupt) goes into the port's ring; a kernel thread takes it from there to the line
//! discipline, because what that may cause (signals, wake-ups, echo) wants thread context. Output is written by whoever
//! has some, one thread at a time, with interrupts and preemption on. The first port is the early console and is written
//! through `machine::console`, so that the kernel's own lines and programs' output keep their order.

use crate::ring::Ring;
use crate::tty::{Sink, Tty};
use abi::Result;
use abi::termios::{B9600, CBAUD, CLOCAL, Termios2};
use alloc::sync::Arc;
use machine::serial::SerialHandler;
use machine::sync::atomic::{AtomicU64, Ordering};
use machine::sync::{IrqSpinLock, Mutex, Once, WaitKind, WaitQueue};
use vfs::DeviceId;

/// Input between interrupt and line discipline, bytes.
const INPUT_CAPACITY: usize = 8192;
/// Bytes given to the hardware at a time; between two such pieces flow control takes effect.
const PIECE: usize = 64;

/// A serial port.
pub struct SerialPort {
    input: IrqSpinLock<Ring>,
    arrived: WaitQueue,
    /// Held while output is moved, so that it stays in order.
    drain_turn: Mutex<()>,
    /// Bytes that were lost because nobody read.
    overruns: AtomicU64,
    /// Puts bytes out.
    transmit: fn(&[u8]),
}

impl SerialPort {
    /// A port that sends through `transmit`. Errors: `ENOMEM`.
    pub fn new(transmit: fn(&[u8])) -> Result<SerialPort> {
        Ok(SerialPort {
            input: IrqSpinLock::new(Ring::new(INPUT_CAPACITY)?),
            arrived: WaitQueue::new(),
            drain_turn: Mutex::new(()),
            overruns: AtomicU64::new(0),
            transmit,
        })
    }

    /// A byte came in. Any context.
    pub fn receive(&self, byte: u8) {
        let full = {
            let mut input = self.input.lock();
            let full = input.room() == 0;
            input.push(byte);
            full
        };
        if full {
            self.overruns.fetch_add(1, Ordering::Relaxed);
        }
        self.arrived.wake_all();
    }

    /// Sends the output of `tty` as long as there is some and its flow is not stopped.
    pub(crate) fn drain(&self, tty: &Tty) {
        if tty.output_len() == 0 {
            return;
        }
        let mut piece = [0; PIECE];
        let mut moved = 0;
        loop {
            let _turn = self.drain_turn.lock();
            let count = tty.take_output(&mut piece);
            if count == 0 {
                break;
            }
            (self.transmit)(piece.get(..count).unwrap_or_default());
            moved += count;
        }
        if moved > 0 {
            tty.writable.wake_all();
        }
    }

    /// Moves input to the line discipline; gives whether anything was moved.
    pub(crate) fn deliver(&self, tty: &Tty) -> bool {
        let mut piece = [0; PIECE];
        let count = self.input.lock().peek(&mut piece);
        let taken = tty.input(piece.get(..count).unwrap_or_default());
        self.input.lock().consume(taken);
        taken > 0
    }

    /// The worker: waits for input and delivers it, for ever.
    fn work(&self, tty: &Tty) {
        loop {
            let something = || (!self.input.lock().is_empty()).then_some(());
            let room = || tty.can_receive().then_some(());
            // Kernel threads get no signals; the result says nothing.
            let _ = self.arrived.wait_until(WaitKind::Uninterruptible, None, something);
            let _ = tty.input_room.wait_until(WaitKind::Uninterruptible, None, room);
            while self.deliver(tty) {}
        }
    }
}

/// A port with its terminal.
struct Line {
    port: Arc<SerialPort>,
    tty: Arc<Tty>,
}

static LINES: [Once<Line>; 2] = [const { Once::new() }; 2];

/// Major number of serial ports.
pub const MAJOR: u32 = 4;
/// Minor number of the first serial port.
pub const FIRST_MINOR: u32 = 64;

/// What comes in on the second port.
struct SecondInput;

impl SerialHandler for SecondInput {
    fn received(&self, bytes: &[u8]) {
        if let Some(line) = LINES.last().and_then(|line| line.get()) {
            bytes.iter().for_each(|byte| line.port.receive(*byte));
        }
    }

    fn has_room(&self) {
        SECOND_ROOM.wake_all();
        crate::console::show_messages();
    }
}

/// Who waits for the second port's buffer to be half empty.
static SECOND_ROOM: WaitQueue = WaitQueue::new();

/// Sends on the second port, waiting for room in its buffer.
fn transmit_second(bytes: &[u8]) {
    let port = machine::serial::SerialPort::Second;
    let mut rest = bytes.get(port.write(bytes)..).unwrap_or_default();
    while !rest.is_empty() {
        let sent = || Some(port.write(rest)).filter(|count| *count > 0);
        let count = SECOND_ROOM.wait_until(WaitKind::Uninterruptible, None, sent).unwrap_or(0);
        rest = rest.get(count..).unwrap_or_default();
    }
}

/// What a serial line starts with, as on Linux: 9600 baud, and no modem to listen for.
fn line_modes() -> Termios2 {
    let standard = Termios2::standard();
    let c_cflag = standard.c_cflag & !CBAUD | B9600 | CLOCAL;
    Termios2 { c_cflag, c_ispeed: 9600, c_ospeed: 9600, ..standard }
}

/// Makes the terminal of port `index` and starts its worker.
fn start(index: usize, name: &str, transmit: fn(&[u8])) -> Result<()> {
    let port = Arc::new(SerialPort::new(transmit)?);
    let id = DeviceId::new(MAJOR, FIRST_MINOR + index as u32);
    let tty = Arc::new(Tty::new(id, Sink::Serial(port.clone()))?);
    tty.set_termios(line_modes());
    let (worker_port, worker_tty) = (port.clone(), tty.clone());
    if let Some(place) = LINES.get(index) {
        let _ = place.set(Line { port, tty });
    }
    sched::spawn(name, sched::SpawnOptions::default(), move || worker_port.work(&worker_tty))?;
    Ok(())
}

/// Makes the terminals of the ports there are. Errors: `ENOMEM`, `EAGAIN` (no thread).
pub(crate) fn init() -> Result<()> {
    start(0, "ttyS0", machine::console::write_bytes)?;
    let second = machine::serial::SerialPort::Second;
    if second.is_present() {
        start(1, "ttyS1", transmit_second)?;
        second.set_handler(&SecondInput);
    }
    Ok(())
}

/// The terminal of a serial port, by its device number.
pub(crate) fn find(id: DeviceId) -> Option<Arc<Tty>> {
    let lines = LINES.iter().filter_map(|line| line.get());
    lines.map(|line| &line.tty).find(|tty| tty.device_id() == id).cloned()
}

/// A byte came in on the first line: what `machine::hooks::Hooks::serial_input` is set to. Interrupt context.
pub fn input(byte: u8) {
    if let Some(line) = LINES.first().and_then(|line| line.get()) {
        line.port.receive(byte);
    }
}
