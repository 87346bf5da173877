//! One mounted tmpfs: its limits, what is used of them, and the mount options (tmpfs(5)).
//!
//! Key types: [`Instance`] (the superblock's operations), [`Options`], [`Charge`] (the pager of its files, which counts
//! their pages). Counters are atomics; no lock.

use abi::errno::{Errno, Result};
use abi::fs::Statfs;
use abi::mount::MountFlags;
use alloc::sync::Arc;
use core::fmt;
use machine::PAGE_SIZE;
use machine::sync::atomic::{AtomicU64, Ordering};
use mm::page_cache::Pager;
use vfs::{SuperBlock, SuperBlockOperations};

/// No limit.
const UNLIMITED: u64 = u64::MAX;

/// What `-o` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Pages of file contents at most.
    pub max_pages: Option<u64>,
    /// Inodes at most.
    pub max_inodes: Option<u64>,
    /// Permissions of the root.
    pub mode: u32,
    /// Owner of the root.
    pub uid: u32,
    /// Group of the root.
    pub gid: u32,
}

impl Options {
    /// What an instance has without options: half of the memory, half as many inodes as there are pages.
    pub fn defaults(total_pages: u64) -> Options {
        let half = Some(total_pages / 2);
        Options { max_pages: half, max_inodes: half, mode: 0o1777, uid: 0, gid: 0 }
    }

    /// Applies the comma-separated options of mount(2) to these. Errors: `EINVAL` for one unknown or ill-formed.
    pub fn parse(mut self, data: &[u8], total_pages: u64) -> Result<Options> {
        let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "size" => self.max_pages = limit(size(value, total_pages)?.div_ceil(PAGE_SIZE as u64)),
                "nr_blocks" => self.max_pages = limit(size(value, total_pages)?),
                "nr_inodes" => self.max_inodes = limit(size(value, total_pages)?),
                "mode" => self.mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)? & 0o7777,
                "uid" => self.uid = value.parse().map_err(|_| Errno::EINVAL)?,
                "gid" => self.gid = value.parse().map_err(|_| Errno::EINVAL)?,
                // Hints about huge pages and the width of inode numbers, which have no effect here as on a Linux
                // without huge pages in tmpfs.
                "huge" if value == "never" => {}
                "inode64" | "inode32" if value.is_empty() => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(self)
    }
}

/// Zero means no limit.
fn limit(value: u64) -> Option<u64> {
    (value != 0).then_some(value)
}

/// A number with an optional `k`, `m`, `g`, `t` (powers of 1024) or `%` (of the memory, in bytes).
fn size(text: &str, total_pages: u64) -> Result<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    let scaled = match unit {
        "" => Some(number),
        "k" | "K" => number.checked_mul(1 << 10),
        "m" | "M" => number.checked_mul(1 << 20),
        "g" | "G" => number.checked_mul(1 << 30),
        "t" | "T" => number.checked_mul(1 << 40),
        "%" => total_pages.checked_mul(PAGE_SIZE as u64).and_then(|all| (all / 100).checked_mul(number)),
        _ => None,
    };
    scaled.ok_or(Errno::EINVAL)
}

/// A counter with a limit.
struct Quota {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Quota {
    fn new(limit: Option<u64>) -> Quota {
        Quota { used: AtomicU64::new(0), limit: AtomicU64::new(limit.unwrap_or(UNLIMITED)) }
    }

    fn take(&self, count: u64) -> Result<()> {
        let limit = self.limit.load(Ordering::Relaxed);
        let add = |used: u64| used.checked_add(count).filter(|sum| *sum <= limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map_err(|_| Errno::ENOSPC)?;
        Ok(())
    }

    fn give_back(&self, count: u64) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }

    fn limited(&self) -> Option<u64> {
        let limit = self.limit.load(Ordering::Relaxed);
        (limit != UNLIMITED).then_some(limit)
    }

    fn set_limit(&self, limit: Option<u64>) -> Result<()> {
        let limit = limit.unwrap_or(UNLIMITED);
        if limit < self.used.load(Ordering::Relaxed) {
            return Err(Errno::EINVAL);
        }
        self.limit.store(limit, Ordering::Relaxed);
        Ok(())
    }
}

/// What is counted; shared by the superblock, the inodes and the pagers of their files.
pub struct Usage {
    pages: Quota,
    inodes: Quota,
    next_inode_number: AtomicU64,
}

impl Usage {
    /// Nothing used yet.
    pub fn new(options: &Options) -> Arc<Usage> {
        Arc::new(Usage {
            pages: Quota::new(options.max_pages),
            inodes: Quota::new(options.max_inodes),
            next_inode_number: AtomicU64::new(1),
        })
    }

    /// Counts an inode and gives its number. Errors: `ENOSPC`.
    pub fn new_inode(&self) -> Result<u64> {
        self.inodes.take(1)?;
        Ok(self.next_inode_number.fetch_add(1, Ordering::Relaxed))
    }

    /// An inode is gone.
    pub fn drop_inode(&self) {
        self.inodes.give_back(1);
    }
}

/// The pager of one file: its pages are nowhere else, and they are counted.
pub struct Charge(pub Arc<Usage>);

impl Pager for Charge {
    fn charge(&self, pages: u64) -> Result<()> {
        self.0.pages.take(pages)
    }

    fn uncharge(&self, pages: u64) {
        self.0.pages.give_back(pages);
    }
}

/// The operations of the superblock.
pub struct Instance {
    /// What is used.
    pub usage: Arc<Usage>,
    /// The options it was mounted with.
    pub options: Options,
}

impl SuperBlockOperations for Instance {
    fn statfs(&self, _superblock: &SuperBlock, status: &mut Statfs) -> Result<()> {
        if let Some(limit) = self.usage.pages.limited() {
            status.f_blocks = limit;
            status.f_bfree = limit.saturating_sub(self.usage.pages.used.load(Ordering::Relaxed));
            status.f_bavail = status.f_bfree;
        }
        if let Some(limit) = self.usage.inodes.limited() {
            status.f_files = limit;
            status.f_ffree = limit.saturating_sub(self.usage.inodes.used.load(Ordering::Relaxed));
        }
        Ok(())
    }

    fn show_options(&self, _superblock: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        let defaults = Options::defaults(machine::memory::stats().total_pages as u64);
        let (pages, inodes) = (self.usage.pages.limited(), self.usage.inodes.limited());
        if pages != defaults.max_pages {
            write!(out, ",size={}k", pages.unwrap_or(0) * (PAGE_SIZE as u64 / 1024))?;
        }
        if inodes != defaults.max_inodes {
            write!(out, ",nr_inodes={}", inodes.unwrap_or(0))?;
        }
        if self.options.mode != 0o1777 {
            write!(out, ",mode={:o}", self.options.mode)?;
        }
        if self.options.uid != 0 {
            write!(out, ",uid={}", self.options.uid)?;
        }
        if self.options.gid != 0 {
            write!(out, ",gid={}", self.options.gid)?;
        }
        Ok(())
    }

    fn remount(&self, _superblock: &Arc<SuperBlock>, _flags: MountFlags, data: &[u8]) -> Result<()> {
        let total = machine::memory::stats().total_pages;
        let now = Options {
            max_pages: self.usage.pages.limited(),
            max_inodes: self.usage.inodes.limited(),
            ..self.options
        };
        let new = now.parse(data, total as u64)?;
        self.usage.pages.set_limit(new.max_pages)?;
        self.usage.inodes.set_limit(new.max_inodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn options_as_in_tmpfs_5() {
        let defaults = Options::defaults(1000);
        let parsed = defaults.parse(b"size=64k,mode=755,nr_inodes=0,uid=5,gid=6", 1000).unwrap();
        assert_eq!(parsed, Options { max_pages: Some(16), max_inodes: None, mode: 0o755, uid: 5, gid: 6 });
        assert_eq!(defaults.parse(b"size=50%", 1000).unwrap().max_pages, Some(500));
        for wrong in
            [&b"size"[..], b"size=x", b"size=1q", b"mode=9", b"what=1", b"\xff", b"size=99999999999999t"]
        {
            assert_eq!(defaults.parse(wrong, 1000), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn quotas_refuse_what_is_too_much() {
        let usage = Usage::new(&Options { max_inodes: Some(2), ..Options::defaults(10) });
        assert_eq!(usage.new_inode(), Ok(1));
        assert_eq!(usage.new_inode(), Ok(2));
        assert_eq!(usage.new_inode(), Err(Errno::ENOSPC));
        usage.drop_inode();
        assert_eq!(usage.new_inode(), Ok(3));
    }

    proptest! {
        #[test]
        fn options_survive_noise(
            names in prop::collection::vec(prop_oneof![Just("size="), Just("nr_inodes="), Just("mode="), Just("uid="), Just(","), Just("=")], 0..6),
            value in "[0-9]{0,22}[kmgt%,=]{0,2}|\\PC{0,20}",
            pages: u64,
        ) {
            let text: alloc::string::String = names.iter().map(|name| alloc::format!("{name}{value},")).collect();
            let parsed = Options::defaults(pages).parse(text.as_bytes(), pages);
            prop_assert!(parsed.is_ok() || parsed.err() == Some(Errno::EINVAL));
        }
    }
}
