//! `vm.dirty_*`: how much may be dirty, and for how long (proc_sys_vm(5)).
//!
//! Each of the two limits is either a share of the memory that pages of files could have, or a number of bytes: setting one way
//! makes the other read 0, as on Linux. Locks: none.

use crate::stats;
use abi::errno::{Errno, Result};
use core::sync::atomic::{AtomicU64, Ordering};
use machine::PAGE_SIZE;

/// The ratio in percent, or, with this bit, bytes.
const IN_BYTES: u64 = 1 << 63;

/// One of the two limits.
pub struct Limit(AtomicU64);

/// Above this the flushers write (`dirty_background_ratio`, `dirty_background_bytes`).
pub static BACKGROUND: Limit = Limit(AtomicU64::new(10));
/// Above this, writers wait (`dirty_ratio`, `dirty_bytes`).
pub static FOREGROUND: Limit = Limit(AtomicU64::new(20));
/// How old dirty pages become before they are written, hundredths of seconds.
static EXPIRE_CENTISECONDS: AtomicU64 = AtomicU64::new(3000);
/// How often the flushers look, hundredths of seconds; 0 = never.
static WRITE_BACK_CENTISECONDS: AtomicU64 = AtomicU64::new(500);

const CENTISECOND_NS: u64 = 10_000_000;

impl Limit {
    /// Percent; 0 if it is in bytes.
    pub fn ratio(&self) -> u64 {
        let value = self.0.load(Ordering::Relaxed);
        if value & IN_BYTES == 0 { value } else { 0 }
    }

    /// Sets it in percent. Errors: `EINVAL` above 100.
    pub fn set_ratio(&self, percent: u64) -> Result<()> {
        if percent > 100 {
            return Err(Errno::EINVAL);
        }
        self.0.store(percent, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes; 0 if it is in percent.
    pub fn bytes(&self) -> u64 {
        let value = self.0.load(Ordering::Relaxed);
        if value & IN_BYTES == 0 { 0 } else { value & !IN_BYTES }
    }

    /// Sets it in bytes. Errors: `EINVAL` below `least` pages.
    pub fn set_bytes(&self, bytes: u64, least_pages: u64) -> Result<()> {
        if bytes < least_pages * PAGE_SIZE as u64 || bytes & IN_BYTES != 0 {
            return Err(Errno::EINVAL);
        }
        self.0.store(bytes | IN_BYTES, Ordering::Relaxed);
        Ok(())
    }

    fn pages(&self, dirtyable: u64) -> u64 {
        let value = self.0.load(Ordering::Relaxed);
        if value & IN_BYTES == 0 { dirtyable * value / 100 } else { (value & !IN_BYTES) / PAGE_SIZE as u64 }
    }
}

/// `dirty_expire_centisecs`.
pub fn expire_centiseconds() -> u64 {
    EXPIRE_CENTISECONDS.load(Ordering::Relaxed)
}

/// Sets it. Errors: none; the flushers find out when they look next.
pub fn set_expire_centiseconds(value: u64) -> Result<()> {
    EXPIRE_CENTISECONDS.store(value.min(u64::from(u32::MAX)), Ordering::Relaxed);
    Ok(())
}

/// `dirty_writeback_centisecs`.
pub fn write_back_centiseconds() -> u64 {
    WRITE_BACK_CENTISECONDS.load(Ordering::Relaxed)
}

/// Sets it, and wakes the flushers. Errors: none.
pub fn set_write_back_centiseconds(value: u64) -> Result<()> {
    WRITE_BACK_CENTISECONDS.store(value.min(u64::from(u32::MAX)), Ordering::Relaxed);
    super::devices().iter().for_each(|device| device.wake_flusher());
    Ok(())
}

/// The same, ns.
pub(super) fn expire_ns() -> u64 {
    expire_centiseconds() * CENTISECOND_NS
}

/// The same, ns; `None`: never.
pub(super) fn interval_ns() -> Option<u64> {
    Some(write_back_centiseconds() * CENTISECOND_NS).filter(|interval| *interval > 0)
}

/// Both limits now, in pages.
#[derive(Copy, Clone, Debug)]
pub struct Thresholds {
    /// Above it the flushers write.
    pub background: u64,
    /// Above it writers wait.
    pub foreground: u64,
}

impl Thresholds {
    /// Computes them: shares of what is free or holds pages of files.
    pub fn now() -> Thresholds {
        let memory = machine::memory::stats();
        let free = memory.free_pages.saturating_sub(memory.reserve_pages) as u64;
        let dirtyable = free + stats::FILE_PAGES.get();
        let foreground = FOREGROUND.pages(dirtyable).max(1);
        let background = BACKGROUND.pages(dirtyable);
        let background = if background >= foreground { foreground / 2 } else { background };
        Thresholds { background, foreground }
    }

    /// Up to here nobody waits: the middle of the two.
    pub(crate) fn free_run(&self) -> u64 {
        self.background.midpoint(self.foreground)
    }
}

/// Pages that are dirty or being written, of all devices.
pub(crate) fn dirty_pages() -> u64 {
    stats::DIRTY_PAGES.get() + stats::WRITEBACK_PAGES.get()
}
