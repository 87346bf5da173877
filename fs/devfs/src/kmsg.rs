//! `kmsg`: the kernel's log, read record by record and written line by line (Linux's `Documentation/ABI/testing/dev-kmsg`).
//!
//! Every open file has its own place in the log. Locks: that place, a mutex.

use abi::poll::PollEvents;
use abi::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use machine::log_buffer::{self, Record};
use machine::sync::atomic::{AtomicBool, Ordering};
use machine::sync::{Lazy, Mutex, WaitKind, WaitQueue};
use mm::io::{IoReader, IoWriter};
use vfs::chardev::{self, Device};
use vfs::{DeviceId, File, FileKind, FileOperations, PollTable, SeekFrom};

/// Longest line that can be written.
const LINE_MAX: usize = 992;
/// syslog(3)'s facility of programs; the kernel's is 0.
const FACILITY_USER: u32 = 1;
/// Level of a line that names none.
const DEFAULT_LEVEL: u32 = 4;
/// How often the log is looked at while somebody waits for news.
const LOOK_AGAIN_NS: u64 = 50_000_000;
/// After so many looks with nobody waiting the looking ends.
const IDLE_ROUNDS: u32 = 20;

/// An open log.
struct Kmsg {
    /// Number of the next record to read.
    next: Mutex<u64>,
}

/// Woken when there may be new records. The log is written from any context, even with a run queue locked, so that writing
/// cannot wake anybody: [`watch`] does, while somebody polls.
static NEWS: Lazy<Arc<WaitQueue>> = Lazy::new(|| Arc::new(WaitQueue::new()));
static WATCHING: AtomicBool = AtomicBool::new(false);

/// Makes sure that [`NEWS`] is woken as long as somebody is on it.
fn start_watching() {
    if WATCHING.swap(true, Ordering::AcqRel) {
        return;
    }
    if sched::spawn("kmsg", sched::SpawnOptions::default(), watch).is_err() {
        WATCHING.store(false, Ordering::Release);
    }
}

/// Looks at the log from time to time until nobody waits any more.
fn watch() {
    let mut seen = log_buffer::next_sequence();
    let mut idle_rounds = 0;
    while idle_rounds < IDLE_ROUNDS {
        // A kernel thread gets no signals.
        let _ = sched::sleep_until(machine::time::now_ns() + LOOK_AGAIN_NS, WaitKind::Uninterruptible);
        let now = log_buffer::next_sequence();
        if now != seen {
            seen = now;
            NEWS.wake_all();
        }
        idle_rounds = if NEWS.is_empty() { idle_rounds + 1 } else { 0 };
    }
    WATCHING.store(false, Ordering::Release);
    // Somebody may have come between the last look and the store.
    if !NEWS.is_empty() {
        start_watching();
    }
}

impl Kmsg {
    /// The next record. Errors: `EPIPE` if some were overwritten meanwhile (the next read goes on after them).
    fn take(&self, next: &mut u64) -> Result<Option<Record>> {
        let Some(record) = log_buffer::read(*next) else { return Ok(None) };
        if record.sequence != *next && *next != 0 {
            *next = record.sequence;
            return Err(Errno::EPIPE);
        }
        Ok(Some(record))
    }

    fn wait(&self, next: u64) -> Result<()> {
        start_watching();
        let there = || (log_buffer::next_sequence() > next).then_some(());
        NEWS.wait_until(WaitKind::Interruptible, None, there).map_err(|_| Errno::ERESTARTSYS)
    }
}

/// A record as it is read: `level,sequence,microseconds,-;text`, control bytes as `\xNN`, further lines indented.
fn format_record(record: &Record) -> String {
    let (level, sequence, us) = (record.level, record.sequence, record.time_ns / 1000);
    let mut line = format!("{level},{sequence},{us},-;");
    for character in record.text.chars() {
        match character {
            '\n' => line.push_str("\n "),
            '\\' => line.push_str("\\x5c"),
            c if c.is_ascii_control() => line.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => line.push(c),
        }
    }
    line.push('\n');
    line
}

/// Splits `<N>` off a written line: level and text.
fn parse_line(line: &str) -> (u8, &str) {
    let prefixed = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    match prefixed.and_then(|(number, text)| Some((number.parse::<u32>().ok()?, text))) {
        Some((number, text)) => {
            let facility = if number >> 3 == 0 { FACILITY_USER } else { number >> 3 };
            ((facility << 3 | number & 7).min(255) as u8, text)
        }
        None => ((FACILITY_USER << 3 | DEFAULT_LEVEL) as u8, line),
    }
}

impl FileOperations for Kmsg {
    fn read(&self, file: &File, to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        loop {
            let place = {
                let mut next = self.next.lock();
                if let Some(record) = self.take(&mut next)? {
                    let line = format_record(&record);
                    if line.len() > to.remaining() {
                        return Err(Errno::EINVAL);
                    }
                    *next = record.sequence + 1;
                    return to.write_bytes(line.as_bytes());
                }
                *next
            };
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            self.wait(place)?;
        }
    }

    fn write(&self, _file: &File, from: &mut dyn IoReader, _offset: u64) -> Result<usize> {
        let size = from.remaining();
        if size > LINE_MAX {
            return Err(Errno::EINVAL);
        }
        let mut buffer = [0; LINE_MAX];
        let bytes = buffer.get_mut(..size).unwrap_or_default();
        from.read_exact(bytes)?;
        let text = String::from_utf8_lossy(bytes);
        let (level, text) = parse_line(text.trim_end_matches('\n'));
        log_buffer::write(level, text);
        NEWS.wake_all();
        Ok(size)
    }

    /// `SEEK_SET` 0 goes to the first record, `SEEK_END` 0 behind the last, `SEEK_DATA` 0 as `SEEK_SET` (nothing tells here
    /// how far the log was cleared).
    fn seek(&self, _file: &File, from: SeekFrom, _current: u64) -> Result<u64> {
        let place = match from {
            SeekFrom::Start(0) | SeekFrom::Data(0) => 0,
            SeekFrom::End(0) => log_buffer::next_sequence(),
            SeekFrom::Start(_) | SeekFrom::Data(_) | SeekFrom::End(_) => return Err(Errno::ESPIPE),
            SeekFrom::Current(_) | SeekFrom::Hole(_) => return Err(Errno::EINVAL),
        };
        *self.next.lock() = place;
        Ok(0)
    }

    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.register(&NEWS);
        start_watching();
        let next = *self.next.lock();
        let mut events = PollEvents::WRITABLE;
        events.set(PollEvents::READABLE, log_buffer::next_sequence() > next);
        events
    }
}

/// The driver.
struct KmsgDevice;

impl Device for KmsgDevice {
    fn name(&self) -> &str {
        "mem"
    }

    fn open(&self, _id: DeviceId, _file: &File) -> Result<Arc<dyn FileOperations>> {
        Ok(Arc::new(Kmsg { next: Mutex::new(0) }))
    }
}

/// Registers 1:11. Errors: `EBUSY`.
pub fn register() -> Result<()> {
    chardev::register(FileKind::CharDevice, 1, 11..=11, Arc::new(KmsgDevice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_carry_their_level() {
        assert_eq!(parse_line("<3>bad"), (11, "bad"));
        assert_eq!(parse_line("<30>daemon"), (30, "daemon"));
        assert_eq!(parse_line("plain"), (12, "plain"));
        assert_eq!(parse_line("<x>y"), (12, "<x>y"));
    }

    #[test]
    fn records_look_as_on_linux() {
        let record = Record { sequence: 7, time_ns: 1_234_567, level: 6, text: "a\tb\nc\\".into() };
        assert_eq!(format_record(&record), "6,7,1234,-;a\\x09b\n c\\x5c\n");
    }
}
