//! A small value that is read without writing to memory and retried when it changed meanwhile.

/// A `T` with lockless, consistent reads. Writers exclude each other with a spin lock inside.
pub struct SeqLock<T: Copy + Send> {
    value: core::cell::UnsafeCell<T>,
}

// SAFETY: to be replaced: nothing reads the value yet.
unsafe impl<T: Copy + Send> Sync for SeqLock<T> {}

impl<T: Copy + Send> SeqLock<T> {
    /// A lock around a value.
    #[track_caller]
    pub const fn new(value: T) -> SeqLock<T> {
        SeqLock { value: core::cell::UnsafeCell::new(value) }
    }
    /// A consistent copy. Any context.
    pub fn read(&self) -> T {
        let _ = &self.value;
        todo!()
    }
    /// Changes the value. Readers spin meanwhile, so `change` must be short; interrupts are off in it.
    pub fn write<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let _ = change;
        todo!()
    }
}
