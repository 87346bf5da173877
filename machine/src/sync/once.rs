//! Values that are set once.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

use super::atomic::{AtomicU8, Ordering};

const EMPTY: u8 = 0;
const BUSY: u8 = 1;
const READY: u8 = 2;

/// A cell that is written at most once and read without a lock.
pub struct Once<T> {
    state: AtomicU8,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value is written by one thread only (BUSY) and read after READY was seen with acquire ordering; a shared
// `Once` hands out `&T` (needs `Sync`) and may be dropped on another thread than the one that set it (needs `Send`).
unsafe impl<T: Send + Sync> Sync for Once<T> {}
// SAFETY: as a plain `Option<T>`.
unsafe impl<T: Send> Send for Once<T> {}

impl<T> Once<T> {
    /// An empty cell.
    #[cfg(not(loom))]
    pub const fn new() -> Once<T> {
        Once { state: AtomicU8::new(EMPTY), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// An empty cell.
    #[cfg(loom)]
    pub fn new() -> Once<T> {
        Once { state: AtomicU8::new(EMPTY), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// The value, if it has been set.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if self.state.load(Ordering::Acquire) == READY {
            // SAFETY: READY means that the value was written and is never written again while `self` is shared.
            Some(unsafe { (*self.value.get()).assume_init_ref() })
        } else {
            None
        }
    }

    /// Sets the value; gives it back if there is one already (or is just being made).
    pub fn set(&self, value: T) -> Result<(), T> {
        if self.state.compare_exchange(EMPTY, BUSY, Ordering::Acquire, Ordering::Acquire).is_err() {
            return Err(value);
        }
        // SAFETY: BUSY was ours alone to set from EMPTY: no other thread touches the value now.
        unsafe { (*self.value.get()).write(value) };
        self.state.store(READY, Ordering::Release);
        Ok(())
    }

    /// The value; makes it first if there is none. Others wait meanwhile (spinning: `make` must be short and must not
    /// sleep, nor use this cell).
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        self.init_slow(make)
    }

    /// Takes the value out of a cell that is nobody else's: it is empty again.
    pub fn take(&mut self) -> Option<T> {
        if self.state.load(Ordering::Relaxed) != READY {
            return None;
        }
        self.state.store(EMPTY, Ordering::Relaxed);
        // SAFETY: READY meant that the value is there; `self` is borrowed mutably, and EMPTY keeps it from being dropped again.
        Some(unsafe { self.value.get_mut().assume_init_read() })
    }

    #[cold]
    fn init_slow(&self, make: impl FnOnce() -> T) -> &T {
        struct Reset<'a>(&'a AtomicU8);
        impl Drop for Reset<'_> {
            fn drop(&mut self) {
                self.0.store(EMPTY, Ordering::Release);
            }
        }
        loop {
            if let Some(value) = self.get() {
                return value;
            }
            if self.state.compare_exchange(EMPTY, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                let reset = Reset(&self.state);
                let value = make();
                core::mem::forget(reset);
                // SAFETY: BUSY is ours (see `set`).
                let value = unsafe { (*self.value.get()).write(value) };
                self.state.store(READY, Ordering::Release);
                return value;
            } else {
                spin();
            }
        }
    }
}

#[cfg(not(loom))]
fn spin() {
    core::hint::spin_loop();
}
#[cfg(loom)]
fn spin() {
    loom::thread::yield_now();
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Once::new()
    }
}

impl<T> Drop for Once<T> {
    fn drop(&mut self) {
        if self.state.load(Ordering::Relaxed) == READY {
            // SAFETY: READY means that the value is there; nobody else can see it, as `self` is borrowed mutably.
            unsafe { self.value.get_mut().assume_init_drop() };
        }
    }
}

impl<T: core::fmt::Debug> core::fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Once").field(&self.get()).finish()
    }
}

/// A value that is made at its first use.
pub struct Lazy<T, F = fn() -> T> {
    once: Once<T>,
    make: F,
}

#[cfg(not(loom))]
impl<T, F: Fn() -> T> Lazy<T, F> {
    /// A value that `make` will make.
    pub const fn new(make: F) -> Lazy<T, F> {
        Lazy { once: Once::new(), make }
    }
}

impl<T, F: Fn() -> T> core::ops::Deref for Lazy<T, F> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        self.once.get_or_init(&self.make)
    }
}
