//! Serial ports and the console.
//!
//! A byte that comes in (in an interrupt) goes into the port's ring; a kernel thread takes it from there to the line
//! discipline, because what that may cause (signals, wake-ups, echo) wants thread context. Output is written by whoever
//! has some, one thread at a time, with interrupts and preemption on. The one port there is now is the machine's console;
//! its flow of bytes is `machine::console`'s.

use crate::ring::Ring;
use crate::tty::{Sink, Tty};
use abi::Result;
use alloc::sync::Arc;
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

/// A port of the machine with its terminal.
struct Line {
    port: Arc<SerialPort>,
    tty: Arc<Tty>,
}

impl machine::serial::SerialHandler for Line {
    fn received(&self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.port.receive(*byte));
    }

    // Output is written by waiting for room; nobody waits for the event.
    fn has_room(&self) {}
}

/// The machine's ports: the first is the console.
static LINES: [Once<Line>; 2] = [const { Once::new() }; 2];

/// Major number of serial ports.
pub const MAJOR: u32 = 4;
/// Minor number of the first serial port.
pub const FIRST_MINOR: u32 = 64;

/// Sends through the second port, waiting for room in its buffer.
fn transmit_second(bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let count = machine::serial::SerialPort::Second.write(rest);
        rest = rest.get(count..).unwrap_or_default();
        if count == 0 {
            sched::yield_now();
        }
    }
}

/// Makes the terminals of the ports that the machine has and starts their workers. Errors: `ENOMEM`, `EAGAIN` (no thread).
pub(crate) fn init() -> Result<()> {
    start(&LINES[0], FIRST_MINOR, "ttyS0", machine::console::write_bytes)?;
    let second = machine::serial::SerialPort::Second;
    if second.is_present() {
        start(&LINES[1], FIRST_MINOR + 1, "ttyS1", transmit_second)?;
        if let Some(line) = LINES[1].get() {
            second.set_handler(line);
        }
    }
    Ok(())
}

fn start(line: &'static Once<Line>, minor: u32, name: &str, transmit: fn(&[u8])) -> Result<()> {
    let port = Arc::new(SerialPort::new(transmit)?);
    let tty = Arc::new(Tty::new(DeviceId::new(MAJOR, minor), Sink::Serial(port.clone()))?);
    let (worker_port, worker_tty) = (port.clone(), tty.clone());
    let _ = line.set(Line { port, tty });
    sched::spawn(name, sched::SpawnOptions::default(), move || worker_port.work(&worker_tty))?;
    Ok(())
}

/// The terminal of the port with this minor number.
pub(crate) fn terminal(minor: u32) -> Option<Arc<Tty>> {
    let index = usize::try_from(minor.checked_sub(FIRST_MINOR)?).ok()?;
    LINES.get(index)?.get().map(|line| line.tty.clone())
}

/// The console's terminal, once [`crate::init`] has run.
pub fn console() -> Option<Arc<Tty>> {
    terminal(FIRST_MINOR)
}

/// A byte came in on the console's line: what `machine::hooks::Hooks::serial_input` is set to. Interrupt context.
pub fn input(byte: u8) {
    if let Some(console) = LINES[0].get() {
        console.port.receive(byte);
    }
}
