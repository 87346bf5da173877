//! The serial ports: COM1 is the console, COM2 is for whoever opens it (the test runner).
//!
//! Early and in a panic output is polled. After [`init_interrupts`] bytes that come in go to the input hook, and
//! buffered output drains by interrupt. Reference: National Semiconductor PC16550D.
//!
//! Locks: each port's [`RawLock`] is a leaf.

use super::apic;
use super::cpu::{in8, out8};
use super::lock::RawLock;
use crate::serial::{self, SerialPort};
use core::sync::atomic::{AtomicBool, Ordering};

const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const INTERRUPT_ID: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const SCRATCH: u16 = 7;

const STATUS_RECEIVED: u8 = 1;
const STATUS_TRANSMIT_EMPTY: u8 = 0x20;
const FIFO_BYTES: usize = 16;
const RING_BYTES: usize = 4096;

struct Uart {
    base: u16,
    present: bool,
    interrupts: bool,
    ring: [u8; RING_BYTES],
    head: usize,
    length: usize,
}

impl Uart {
    const fn new(base: u16) -> Uart {
        Uart { base, present: false, interrupts: false, ring: [0; RING_BYTES], head: 0, length: 0 }
    }

    fn read(&self, register: u16) -> u8 {
        // SAFETY: the registers of a UART have no effect on memory.
        unsafe { in8(self.base + register) }
    }

    fn write(&self, register: u16, value: u8) {
        // SAFETY: as in `read`.
        unsafe { out8(self.base + register, value) }
    }

    fn init(&mut self) {
        self.write(SCRATCH, 0x5a);
        if self.read(SCRATCH) != 0x5a {
            return;
        }
        self.write(INTERRUPT_ENABLE, 0);
        self.write(LINE_CONTROL, 0x80); // divisor latch: 115200 baud
        self.write(DATA, 1);
        self.write(INTERRUPT_ENABLE, 0);
        self.write(LINE_CONTROL, 3); // 8 bits, no parity
        self.write(FIFO_CONTROL, 0x07); // FIFOs on and empty, interrupt at one byte
        self.write(MODEM_CONTROL, 0x0b); // DTR, RTS, OUT2 (interrupts reach the bus)
        self.present = true;
    }

    /// Sends, waiting for the port. Flushes what the ring holds first, to keep the order.
    fn send_polled(&mut self, bytes: &[u8]) {
        if !self.present {
            return;
        }
        while self.length > 0 {
            self.wait_empty();
            self.fill_fifo();
        }
        for chunk in bytes.chunks(FIFO_BYTES) {
            self.wait_empty();
            for &byte in chunk {
                self.write(DATA, byte);
            }
        }
    }

    fn wait_empty(&self) {
        let mut patience = 1_000_000;
        while self.read(LINE_STATUS) & STATUS_TRANSMIT_EMPTY == 0 && patience > 0 {
            patience -= 1;
        }
    }

    /// Moves bytes from the ring into the FIFO, which is empty.
    fn fill_fifo(&mut self) {
        for _ in 0..FIFO_BYTES.min(self.length) {
            self.write(DATA, self.ring[self.head]);
            self.head = (self.head + 1) % RING_BYTES;
            self.length -= 1;
        }
        if self.interrupts {
            self.write(INTERRUPT_ENABLE, if self.length > 0 { 3 } else { 1 });
        }
    }

    fn send_buffered(&mut self, bytes: &[u8]) -> usize {
        if !self.present {
            return bytes.len();
        }
        if !self.interrupts {
            self.send_polled(bytes);
            return bytes.len();
        }
        let was_empty = self.length == 0;
        let taken = bytes.len().min(RING_BYTES - self.length);
        for &byte in &bytes[..taken] {
            let tail = (self.head + self.length) % RING_BYTES;
            self.ring[tail] = byte;
            self.length += 1;
        }
        // What is in the ring already has its interrupt coming.
        if was_empty && self.length > 0 {
            self.write(INTERRUPT_ENABLE, 3);
            if self.read(LINE_STATUS) & STATUS_TRANSMIT_EMPTY != 0 {
                self.fill_fifo();
            }
        }
        taken
    }
}

const COM1_BASE: u16 = 0x3f8;
static COM1: RawLock<Uart> = RawLock::new(Uart::new(COM1_BASE));
static COM2: RawLock<Uart> = RawLock::new(Uart::new(0x2f8));
static PANICKING: AtomicBool = AtomicBool::new(false);

fn uart(port: SerialPort) -> &'static RawLock<Uart> {
    match port {
        SerialPort::First => &COM1,
        SerialPort::Second => &COM2,
    }
}

/// Whether the port exists.
pub(crate) fn serial_is_present(port: SerialPort) -> bool {
    uart(port).lock().present
}

/// Queues bytes for sending by interrupt and says how many fitted.
pub(crate) fn serial_write(port: SerialPort, bytes: &[u8]) -> usize {
    uart(port).lock().send_buffered(bytes)
}

/// Bytes queued and not yet sent.
pub(crate) fn serial_queued(port: SerialPort) -> usize {
    uart(port).lock().length
}

/// Forgets what is queued.
pub(crate) fn serial_discard(port: SerialPort) {
    uart(port).lock().length = 0;
}

/// Finds the ports.
pub(super) fn init_early() {
    COM1.lock().init();
    COM2.lock().init();
}

/// Writes to the console, waiting for the port. Any context.
pub(crate) fn console_write(bytes: &[u8]) {
    COM1.lock().send_polled(bytes);
}

/// Writes to the console from an NMI: without the lock if the interrupted code may hold it, perhaps in the midst of its line.
pub(super) fn print_from_nmi(text: core::fmt::Arguments<'_>) {
    struct Port;
    impl core::fmt::Write for Port {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            // SAFETY: the data register of the first serial port takes a byte at any time and has no effect on memory.
            text.bytes().for_each(|byte| unsafe { out8(COM1_BASE + DATA, byte) });
            Ok(())
        }
    }
    match COM1.try_lock() {
        Some(mut uart) => {
            let _ = core::fmt::write(&mut *uart, text);
        }
        None => {
            let _ = core::fmt::write(&mut Port, text);
        }
    }
}

impl core::fmt::Write for Uart {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.send_polled(text.as_bytes());
        Ok(())
    }
}

/// Lets the panicking CPU write even if a stopped CPU holds the lock.
pub(super) fn enter_panic() {
    if !PANICKING.swap(true, Ordering::Relaxed) {
        // SAFETY: the other CPUs are stopped.
        unsafe {
            COM1.break_open();
            COM2.break_open();
        }
    }
}

/// Switches to interrupts for input and buffered output.
pub(super) fn init_interrupts() {
    for (port, irq) in [(SerialPort::First, 4), (SerialPort::Second, 3)] {
        if serial_is_present(port) && apic::register_isa(irq, handle_interrupt) {
            let mut uart = self::uart(port).lock();
            uart.interrupts = true;
            uart.write(INTERRUPT_ENABLE, 1);
        }
    }
}

fn handle_interrupt(_line: u32) {
    for port in [SerialPort::First, SerialPort::Second] {
        if !(0..ROUNDS).any(|_| handle_one(port) == Pending::Nothing) {
            // The line is edge-triggered: leaving it up would be the end of its interrupts. Down and up again is a new edge.
            let uart = self::uart(port).lock();
            uart.write(INTERRUPT_ENABLE, 0);
            let enable = if uart.length > 0 { 3 } else { 1 };
            uart.write(INTERRUPT_ENABLE, enable);
        }
    }
}

/// So many times one interrupt looks at a port: a stuck line must not hang the machine.
const ROUNDS: u32 = 64;

#[derive(PartialEq, Eq)]
enum Pending {
    Nothing,
    Perhaps,
}

/// Sees to what one port asks for.
fn handle_one(port: SerialPort) -> Pending {
    let mut received = [0; FIFO_BYTES];
    let mut count = 0;
    let drained = {
        let mut uart = uart(port).lock();
        if !uart.present || uart.read(INTERRUPT_ID) & 1 != 0 {
            return Pending::Nothing;
        }
        while count < FIFO_BYTES && uart.read(LINE_STATUS) & STATUS_RECEIVED != 0 {
            received[count] = uart.read(DATA);
            count += 1;
        }
        let was_full = uart.length > RING_BYTES / 2;
        if uart.read(LINE_STATUS) & STATUS_TRANSMIT_EMPTY != 0 {
            uart.fill_fifo();
        }
        was_full && uart.length <= RING_BYTES / 2
    };
    if count > 0 {
        serial::received(port, &received[..count]);
    }
    if drained {
        serial::has_room(port);
    }
    Pending::Perhaps
}

/// Sends what is queued on all ports, waiting for them: before the machine is switched off.
pub(super) fn flush() {
    COM1.lock().send_polled(&[]);
    COM2.lock().send_polled(&[]);
}
