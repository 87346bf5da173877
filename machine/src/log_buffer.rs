//! The kernel's log: records in a ring, in order, for `dmesg` and `/dev/kmsg`; the `log` facade writes here.
//!
//! Any context may write. Old records are overwritten. Consoles are two kinds: the first serial port is written by whoever writes a record, after
//! the ring's lock is released; the others hear of it ([`set_notify`]) and read the lines themselves ([`console_line`]).
//!
//! Locks: the ring's spin lock is a leaf (interrupts off).

use alloc::string::String;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::sync::{IrqSpinLock, Once};

const TEXT_BYTES: usize = 256;
const RECORDS: usize = 1024;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Number of the record, from 0, without gaps.
    pub sequence: u64,
    /// When it was written ([`crate::time::now_ns`]).
    pub time_ns: u64,
    /// Severity as in `syslog(3)`: 0 emergency to 7 debug.
    pub level: u8,
    /// The text, without a newline.
    pub text: String,
}

#[derive(Clone, Copy)]
struct Slot {
    time_ns: u64,
    level: u8,
    length: u16,
    text: [u8; TEXT_BYTES],
}

struct Ring {
    next: u64,
    slots: [Slot; RECORDS],
}

static RING: IrqSpinLock<Ring> = IrqSpinLock::new(Ring {
    next: 0,
    slots: [Slot { time_ns: 0, level: 0, length: 0, text: [0; TEXT_BYTES] }; RECORDS],
});
static CONSOLE_LEVEL: AtomicU8 = AtomicU8::new(7);
static NOTIFY: Once<fn()> = Once::new();
/// Whether records go to the first serial port, as they do unless `console=` names others only.
static SERIAL_IS_CONSOLE: AtomicBool = AtomicBool::new(true);

/// The oldest record with a number of at least `sequence`, or `None` if there is none yet. Its number is larger than
/// asked when records were lost.
pub fn read(sequence: u64) -> Option<Record> {
    let (sequence, slot) = {
        let ring = RING.lock();
        let sequence = sequence.max(ring.next.saturating_sub(RECORDS as u64));
        if sequence >= ring.next {
            return None;
        }
        (sequence, ring.slots[sequence as usize % RECORDS])
    };
    let text = String::from_utf8_lossy(&slot.text[..usize::from(slot.length)]).into_owned();
    Some(Record { sequence, time_ns: slot.time_ns, level: slot.level, text })
}

/// The number that the next record will have.
pub fn next_sequence() -> u64 {
    RING.lock().next
}

/// A record's level without its facility, as consoles go by it: what programs write has one (`LOG_USER`).
fn severity(level: u8) -> u8 {
    level & 7
}

/// Bytes of a record as a console shows it: the time and the end of the line besides.
const CONSOLE_LINE_BYTES: usize = TEXT_BYTES + 64;

/// A record as a console shows it.
pub struct ConsoleLine(Line<CONSOLE_LINE_BYTES>);

impl ConsoleLine {
    fn of(time_ns: u64, text: &[u8]) -> ConsoleLine {
        let mut line = Line { bytes: [0; CONSOLE_LINE_BYTES], length: 0 };
        let (seconds, microseconds) = (time_ns / 1_000_000_000, time_ns / 1000 % 1_000_000);
        // A record's text is cut between characters only.
        let text = core::str::from_utf8(text).unwrap_or_default();
        let _ = core::fmt::write(&mut line, format_args!("[{seconds:5}.{microseconds:06}] {text}\r\n"));
        ConsoleLine(line)
    }

    /// A line that says that records were overwritten before this console could show them.
    fn of_lost(count: u64) -> ConsoleLine {
        let mut line = Line { bytes: [0; CONSOLE_LINE_BYTES], length: 0 };
        let _ = core::fmt::write(&mut line, format_args!("** {count} printk messages dropped **\r\n"));
        ConsoleLine(line)
    }

    /// What is to be sent.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes.get(..self.0.length).unwrap_or_default()
    }
}

/// The next line for a console that has shown everything before record `next`, and where to go on once it is shown. `None`: there is nothing to
/// show. Any context; allocates nothing.
pub fn console_line(next: u64) -> Option<(ConsoleLine, u64)> {
    let level = CONSOLE_LEVEL.load(Ordering::Relaxed);
    let (number, slot) = {
        let ring = RING.lock();
        let oldest = ring.next.saturating_sub(RECORDS as u64);
        if next < oldest {
            return Some((ConsoleLine::of_lost(oldest - next), oldest));
        }
        // At most as many as the ring has.
        let number = (next..ring.next)
            .find(|number| severity(ring.slots[*number as usize % RECORDS].level) < level)?;
        (number, ring.slots[number as usize % RECORDS])
    };
    Some((ConsoleLine::of(slot.time_ns, &slot.text[..usize::from(slot.length)]), number + 1))
}

/// Adds a record (from user space through `/dev/kmsg`, or the kernel); long text is cut.
pub fn write(level: u8, text: &str) {
    write_record(level, format_args!("{}", text.trim_end_matches('\n')));
}

/// Adds a record of the kernel's own.
pub(crate) fn write_record(level: u8, arguments: core::fmt::Arguments<'_>) {
    let time_ns = crate::time::now_ns();
    let mut line = Line::<TEXT_BYTES> { bytes: [0; TEXT_BYTES], length: 0 };
    let _ = core::fmt::write(&mut line, arguments);
    {
        let mut ring = RING.lock();
        let place = ring.next as usize % RECORDS;
        ring.slots[place] = Slot { time_ns, level, length: line.length as u16, text: line.bytes };
        ring.next += 1;
    }
    if severity(level) < CONSOLE_LEVEL.load(Ordering::Relaxed) && SERIAL_IS_CONSOLE.load(Ordering::Relaxed) {
        crate::console::write_bytes(ConsoleLine::of(time_ns, &line.bytes[..line.length]).bytes());
    }
    if let Some(notify) = NOTIFY.get() {
        notify();
    }
}

/// A line being formatted; what does not fit is cut.
struct Line<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> core::fmt::Write for Line<N> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let mut taken = text.len().min(N - self.length);
        while !text.is_char_boundary(taken) {
            taken -= 1;
        }
        self.bytes[self.length..self.length + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.length += taken;
        Ok(())
    }
}

/// Records with a level below this go to the console too (`dmesg -n`). The default is 7, or as `loglevel=` says.
pub fn set_console_level(level: u8) {
    CONSOLE_LEVEL.store(level, Ordering::Relaxed);
}

/// See [`set_console_level`].
pub fn console_level() -> u8 {
    CONSOLE_LEVEL.load(Ordering::Relaxed)
}

#[cfg(target_os = "none")]
struct Facade;

#[cfg(target_os = "none")]
impl log::Log for Facade {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let level = match record.level() {
            log::Level::Error => 3,
            log::Level::Warn => 4,
            log::Level::Info => 6,
            log::Level::Debug | log::Level::Trace => 7,
        };
        write_record(level, *record.args());
    }
    fn flush(&self) {}
}

/// Makes the `log` crate write here. Called once by early boot; harmless again.
#[cfg(target_os = "none")]
pub(crate) fn init() {
    if log::set_logger(&Facade).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
    }
    let line = crate::boot::command_line();
    for word in line.split_ascii_whitespace() {
        match word.strip_prefix("loglevel=").map(str::parse) {
            Some(Ok(level)) => set_console_level(level),
            _ if word == "quiet" => set_console_level(4),
            _ => {}
        }
    }
    let mut named = linnet_lib::command_line::consoles(line).peekable();
    let is_named = named.peek().is_none() || named.any(|name| name == "ttyS0");
    SERIAL_IS_CONSOLE.store(is_named, Ordering::Relaxed);
}

/// Called with nothing but the fact that there is a new record (any context, irqs possibly off, a run queue possibly locked): must wake nobody.
pub fn set_notify(notify: fn()) {
    let _ = NOTIFY.set(notify);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_catches_up_and_is_told_what_it_missed() {
        let start = next_sequence();
        write(6, "first");
        write(7, "for nobody's console");
        write(1 << 3 | 7, "nor this, a program's");
        write(1 << 3 | 3, "second");
        let (line, next) = console_line(start).unwrap();
        assert!(line.bytes().ends_with(b"] first\r\n") && line.bytes().starts_with(b"["));
        let (line, next) = console_line(next).unwrap();
        assert!(line.bytes().ends_with(b"] second\r\n"));
        assert!(console_line(next).is_none());
        (0..RECORDS + 5).for_each(|number| write(4, &alloc::format!("{number}")));
        let (line, after) = console_line(next).unwrap();
        assert_eq!((line.bytes(), after), (&b"** 5 printk messages dropped **\r\n"[..], next + 5));
        assert!(console_line(after).unwrap().0.bytes().ends_with(b"] 5\r\n"));
        write(4, &"\u{e9}".repeat(300));
        let (line, _) = console_line(next_sequence() - 1).unwrap();
        assert_eq!(line.bytes().iter().filter(|byte| **byte == 0xc3).count(), TEXT_BYTES / 2);
    }
}
