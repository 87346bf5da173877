//! The kernel's log as syslog(2) and `/proc/kmsg` tell it: one place that all who consume it share, and where it was cleared.
//!
//! Key functions: [`consume`], [`newest`], [`unread_bytes`], [`size_bytes`], [`clear`]. Locks: `STATE`, a mutex, held over
//! copies to user memory.

use abi::errno::{Errno, Result};
use alloc::format;
use alloc::string::String;
use machine::log_buffer;
use machine::sync::{Mutex, WaitKind};

/// How often the log is looked at while somebody waits for news: it is written from any context, even with a run queue
/// locked, so that writing cannot wake anybody.
const LOOK_AGAIN_NS: u64 = 50_000_000;

struct State {
    /// The next record for who consumes.
    read: u64,
    /// The first record after the last clearing.
    clear: u64,
}

static STATE: Mutex<State> = Mutex::new(State { read: 0, clear: 0 });

/// The log's lines from a record on, as `dmesg` expects them, each with the number after it.
fn lines_from(sequence: u64) -> impl Iterator<Item = (String, u64)> {
    let mut next = sequence;
    core::iter::from_fn(move || {
        let record = log_buffer::read(next)?;
        next = record.sequence + 1;
        let microseconds = record.time_ns / 1000;
        let (seconds, rest) = (microseconds / 1_000_000, microseconds % 1_000_000);
        Some((format!("<{}>[{seconds:5}.{rest:06}] {}\n", record.level, record.text), next))
    })
}

/// Whether there is something to consume.
pub fn has_unread() -> bool {
    log_buffer::next_sequence() > STATE.lock().read
}

/// Hands lines that nobody has consumed yet to `take`, as many as fit into `len` bytes; waits for the first. The bytes.
///
/// # Errors
/// ERESTARTSYS; those of `take`.
pub fn consume(len: usize, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<usize> {
    loop {
        let mut state = STATE.lock();
        let mut done = 0;
        for (line, next) in lines_from(state.read) {
            if done + line.len() > len {
                return Ok(done);
            }
            take(line.as_bytes())?;
            done += line.len();
            state.read = next;
        }
        drop(state);
        if done > 0 || len == 0 {
            return Ok(done);
        }
        let again = machine::time::now_ns() + LOOK_AGAIN_NS;
        sched::sleep_until(again, WaitKind::Interruptible).map_err(|_| Errno::ERESTARTSYS)?;
    }
}

/// What becomes of the log after [`newest`].
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Afterwards {
    /// It stays.
    Keep,
    /// What was in it is not shown again.
    Clear,
}

/// Hands the newest lines that fit into `len` bytes to `take`; the bytes.
///
/// # Errors
/// Those of `take`.
pub fn newest(
    len: usize,
    afterwards: Afterwards,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<usize> {
    let mut state = STATE.lock();
    let mut size: usize = lines_from(state.clear).map(|(line, _)| line.len()).sum();
    let mut done = 0;
    for (line, _) in lines_from(state.clear) {
        if size > len {
            size -= line.len();
            continue;
        }
        if done + line.len() > len {
            break;
        }
        take(line.as_bytes())?;
        done += line.len();
    }
    if afterwards == Afterwards::Clear {
        state.clear = log_buffer::next_sequence();
    }
    Ok(done)
}

/// Forgets what is in the log now, for [`newest`].
pub fn clear() {
    STATE.lock().clear = log_buffer::next_sequence();
}

/// Bytes that nobody has consumed yet.
pub fn unread_bytes() -> usize {
    let read = STATE.lock().read;
    lines_from(read).map(|(line, _)| line.len()).sum()
}

/// Bytes of all lines that the log still has.
pub fn size_bytes() -> usize {
    lines_from(0).map(|(line, _)| line.len()).sum()
}
