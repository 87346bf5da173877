//! The kernel's locks as [`crate::ids`] wants them. Locks: none of its own.

use crate::ids::Lock;
use machine::sync::{Mutex, SpinLock};

/// A spin lock.
pub struct Spin<T>(SpinLock<T>);

impl<T: Send> Lock<T> for Spin<T> {
    #[track_caller]
    fn new(value: T) -> Self {
        Spin(SpinLock::new(value))
    }
    fn with<R>(&self, section: impl FnOnce(&mut T) -> R) -> R {
        section(&mut self.0.lock())
    }
}

/// A sleeping lock.
pub struct Sleep(Mutex<()>);

impl Lock<()> for Sleep {
    #[track_caller]
    fn new(value: ()) -> Self {
        Sleep(Mutex::new(value))
    }
    fn with<R>(&self, section: impl FnOnce(&mut ()) -> R) -> R {
        section(&mut self.0.lock())
    }
}
