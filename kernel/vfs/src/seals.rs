//! Seals of files in memory: what will never be done to them again (fcntl(2), "File Sealing").
//!
//! Key type: [`Seals`], a set that only grows. The file system asks it before it writes and resizes, with the inode's lock held, under
//! which seals are added as well; `mm` asks before it maps and again when the mapping can be seen, and a seal against writes is set
//! before it is looked whether such a mapping exists: one of the two sees the other. Locks: none of its own.

use abi::errno::{Errno, Result};
use abi::fcntl::{F_SEAL_EXEC, F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE};
use machine::sync::atomic::{AtomicU32, Ordering};

use crate::inode::Inode;

const KNOWN: u32 =
    F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_EXEC;
/// Any of these forbids new writes.
const WRITES: u32 = F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
const EXECUTABLE: u32 = 0o111;

/// The seals of one file.
pub struct Seals(AtomicU32);

impl Seals {
    /// Those of an ordinary file: sealed against sealing.
    pub fn new() -> Seals {
        Seals(AtomicU32::new(F_SEAL_SEAL))
    }

    /// Lets a new file be sealed, with these seals to begin with.
    pub fn allow(&self, first: u32) {
        self.0.store(first, Ordering::Relaxed);
    }

    /// `F_GET_SEALS`.
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// `F_ADD_SEALS` on `inode`, whose seals these are, through a description that may write.
    ///
    /// Errors: `EINVAL` for an unknown seal, `EPERM` when sealed against it, `EBUSY` if a shared mapping may write.
    pub fn add(&self, inode: &Inode, more: u32) -> Result<()> {
        if more & !KNOWN != 0 {
            return Err(Errno::EINVAL);
        }
        let _lock = inode.lock.write();
        let old = self.get();
        if old & F_SEAL_SEAL != 0 {
            return Err(Errno::EPERM);
        }
        let fixed = if more & F_SEAL_EXEC != 0 && inode.permissions() & EXECUTABLE != 0 {
            F_SEAL_SHRINK | F_SEAL_GROW | WRITES
        } else {
            0
        };
        self.0.store(old | more | fixed, Ordering::SeqCst);
        let mapped = || inode.operations().page_cache().is_some_and(|cache| cache.is_mapped_writable());
        if (more | fixed) & !old & F_SEAL_WRITE != 0 && mapped() {
            self.0.store(old, Ordering::SeqCst);
            return Err(Errno::EBUSY);
        }
        Ok(())
    }

    /// Whether the mode may change so. `EPERM`.
    pub fn check_mode(&self, old: u32, new: u32) -> Result<()> {
        allowed(self.get() & F_SEAL_EXEC == 0 || (old ^ new) & EXECUTABLE == 0)
    }

    /// Whether contents may change: writes, holes, shared writable mappings. `EPERM`.
    pub fn check_write(&self) -> Result<()> {
        allowed(self.get() & WRITES == 0)
    }

    /// Whether the size may change so. `EPERM`.
    pub fn check_resize(&self, old: u64, new: u64) -> Result<()> {
        let seals = self.get();
        allowed(!(new < old && seals & F_SEAL_SHRINK != 0 || new > old && seals & F_SEAL_GROW != 0))
    }
}

impl Default for Seals {
    fn default() -> Self {
        Seals::new()
    }
}

fn allowed(yes: bool) -> Result<()> {
    if yes { Ok(()) } else { Err(Errno::EPERM) }
}
