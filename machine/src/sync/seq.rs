//! A small value that is read without writing to memory and retried when it changed meanwhile.
//!
//! Key type: [`SeqLock`]. Readers copy with volatile reads and throw the copy away when a writer was
//! there meanwhile, as `crossbeam` does: Rust has no better word for it yet.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

use super::spin::IrqSpinLock;
use super::words::Sequence;
use crate::arch;

/// A `T` with lockless, consistent reads. Writers exclude each other with a spin lock inside.
pub struct SeqLock<T: Copy + Send> {
    sequence: Sequence,
    writer: IrqSpinLock<()>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only copied in and out, through atomics; `T: Send` may be copied to other threads.
unsafe impl<T: Copy + Send> Sync for SeqLock<T> {}

impl<T: Copy + Send> SeqLock<T> {
    /// A lock around a value.
    #[track_caller]
    pub const fn new(value: T) -> SeqLock<T> {
        SeqLock { sequence: Sequence::new(), writer: IrqSpinLock::new(()), value: UnsafeCell::new(value) }
    }

    /// A consistent copy. Any context.
    #[inline]
    pub fn read(&self) -> T {
        loop {
            if let Some(before) = self.sequence.begin_read() {
                // SAFETY: the pointer is valid. A writer may be changing the value: the read is volatile, the bytes are
                // not taken for a `T` yet, and a torn copy is thrown away below.
                let copy = unsafe { self.value.get().cast::<MaybeUninit<T>>().read_volatile() };
                if self.sequence.is_unchanged(before) {
                    // SAFETY: no writer was between the two looks at the sequence: the copy is a whole `T`.
                    return unsafe { copy.assume_init() };
                }
            }
            arch::relax();
        }
    }

    /// Changes the value. Readers spin meanwhile, so `change` must be short; interrupts are off in it.
    pub fn write<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let _guard = self.writer.lock();
        // SAFETY: only writers change the value, and the lock is held: reading it plainly races with nothing.
        let mut value = unsafe { *self.value.get() };
        let result = change(&mut value);
        self.sequence.begin_write();
        // SAFETY: other writers are locked out; readers copy volatile and throw away what they got meanwhile.
        unsafe { self.value.get().write_volatile(value) };
        self.sequence.end_write();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_whole_values() {
        static PAIR: SeqLock<(u64, u64)> = SeqLock::new((0, 0));
        let writer = std::thread::spawn(|| {
            for i in 0..20_000 {
                PAIR.write(|pair| *pair = (i, i * 3));
            }
        });
        while !writer.is_finished() {
            let (a, b) = PAIR.read();
            assert_eq!(a * 3, b);
        }
        writer.join().unwrap();
    }
}
