//! Lock classes and the run-time check of the lock order (debug builds and feature `lockdep`).
//!
//! All locks made at one place in the source are one class; a lock made with [`LockClass`] names its class.

/// A named class of locks, for locks made at one place that are nevertheless ordered among themselves.
#[derive(Debug)]
pub struct LockClass {
    name: &'static str,
}

impl LockClass {
    /// A class with a name for reports.
    pub const fn new(name: &'static str) -> LockClass {
        LockClass { name }
    }
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// How many order violations were found since boot; 0 in builds without the checker.
pub fn violations() -> u64 {
    todo!()
}
