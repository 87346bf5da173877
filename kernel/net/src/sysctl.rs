//! `/proc/sys/net/core`: the limits of socket buffers and backlogs.
//!
//! Locks: none, atomics. Global as on Linux, where only the initial namespace may change them.

use abi::errno::{Errno, Result};
use machine::sync::atomic::{AtomicUsize, Ordering};

/// The least send buffer (`SOCK_MIN_SNDBUF`).
pub const SEND_BUFFER_MIN: usize = 4608;
/// The least receive buffer (`SOCK_MIN_RCVBUF`).
pub const RECEIVE_BUFFER_MIN: usize = 2304;
/// The default of both: what 256 messages of 256 bytes cost.
const BUFFER_DEFAULT: usize = 212_992;
/// How large an unprivileged program may make them.
const BUFFER_MAX: usize = 4 << 20;

/// A setting with a least value.
pub struct Setting {
    value: AtomicUsize,
    least: usize,
}

impl Setting {
    const fn new(value: usize, least: usize) -> Setting {
        Setting { value: AtomicUsize::new(value), least }
    }

    /// Its value.
    pub fn get(&self) -> usize {
        self.value.load(Ordering::Relaxed)
    }

    /// Sets it. `EINVAL`: below the least, or beyond an `int`.
    pub fn set(&self, value: usize) -> Result<()> {
        if value < self.least || value > i32::MAX as usize {
            return Err(Errno::EINVAL);
        }
        self.value.store(value, Ordering::Relaxed);
        Ok(())
    }
}

/// `wmem_default`.
pub static SEND_BUFFER_DEFAULT: Setting = Setting::new(BUFFER_DEFAULT, SEND_BUFFER_MIN);
/// `wmem_max`.
pub static SEND_BUFFER_MAX: Setting = Setting::new(BUFFER_MAX, SEND_BUFFER_MIN);
/// `rmem_default`.
pub static RECEIVE_BUFFER_DEFAULT: Setting = Setting::new(BUFFER_DEFAULT, RECEIVE_BUFFER_MIN);
/// `rmem_max`.
pub static RECEIVE_BUFFER_MAX: Setting = Setting::new(BUFFER_MAX, RECEIVE_BUFFER_MIN);
/// `optmem_max`: bytes of control messages and options of one socket.
pub static OPTION_MEMORY_MAX: Setting = Setting::new(128 << 10, 0);
/// `somaxconn`: the longest backlog.
pub static BACKLOG_MAX: Setting = Setting::new(4096, 0);
