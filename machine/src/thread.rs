//! Kernel threads: stacks, switching between them, and the value that each carries for the scheduler.
//!
//! Key types: [`KernelThread`], [`CurrentRef`]. The scheduler above decides who runs; this module only switches.
//!
//! # Invariants
//! A thread that has begun to run and has not ended by [`exit_to`] is never freed, whoever drops its handles: other CPUs
//! may hold references to its stack.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::marker::PhantomData;

use crate::memory::OutOfMemory;

/// A kernel stack with a saved context: something that a CPU can run.
pub struct KernelThread {
    _todo: (),
}

impl KernelThread {
    /// A thread that will run `entry` when it is first switched to. `local` is what [`current_local`] gives in it.
    /// `entry` must not return: a thread ends by [`exit_to`].
    pub fn new(
        local: Arc<dyn Any + Send + Sync>,
        entry: Box<dyn FnOnce() + Send>,
    ) -> Result<Arc<KernelThread>, OutOfMemory> {
        let _ = (local, entry);
        todo!()
    }

    /// Turns the boot flow of this CPU into a thread (its idle thread). Panics if it is one already.
    pub fn adopt_current(local: Arc<dyn Any + Send + Sync>) -> Arc<KernelThread> {
        let _ = local;
        todo!()
    }

    /// What the thread carries, if it is a `T`.
    pub fn local<T: Any + Send + Sync>(&self) -> Option<&T> {
        todo!()
    }

    /// The same as a counted reference.
    pub fn local_arc<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        todo!()
    }

    /// Whether some CPU runs it (or has not yet finished switching away from it).
    pub fn is_on_cpu(&self) -> bool {
        todo!()
    }

    /// Puts the floating-point state of user mode back to what a new program sees. Only for the current thread or one
    /// that does not run.
    pub fn reset_fpu(&self) {
        todo!()
    }

    /// Copies the user floating-point state (fork): from the current thread to a new one.
    pub fn copy_fpu_from(&self, other: &KernelThread) {
        let _ = other;
        todo!()
    }

    /// The user floating-point state in the layout of a signal frame (XSAVE, standard format).
    pub fn read_fpu(&self, into: &mut alloc::vec::Vec<u8>) -> Result<(), OutOfMemory> {
        let _ = into;
        todo!()
    }

    /// Sets it from a signal frame; wrong contents are refused or masked.
    pub fn write_fpu(&self, bytes: &[u8]) -> Result<(), BadFpuState> {
        let _ = bytes;
        todo!()
    }
}

/// The bytes are not a valid floating-point state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFpuState;

/// Bytes of the floating-point state that [`KernelThread::read_fpu`] gives.
pub fn fpu_state_size() -> usize {
    todo!()
}

/// Switches this CPU to `next`; returns when something switches back to the calling thread (perhaps on another CPU).
///
/// To be called with exactly one kind of guard held: an [`crate::irq::IrqGuard`] (panics with a preempt guard, spin
/// lock or RCU section, and in interrupts). Waits until no CPU runs `next`. Counts as an RCU quiescent state. The FPU
/// state goes with the thread. The active page table does not: call [`crate::memory::PageTable::activate`].
pub fn switch_to(next: &Arc<KernelThread>) {
    let _ = next;
    todo!()
}

/// Ends the current thread and switches to `next`; as [`switch_to`]. The stack is freed when the last handle goes.
pub fn exit_to(next: Arc<KernelThread>) -> ! {
    let _ = next;
    todo!()
}

/// The running thread's handle, or `None` before [`KernelThread::adopt_current`].
pub fn current() -> Option<Arc<KernelThread>> {
    todo!()
}

/// What the running thread carries, if it is a `T`; without touching a reference count.
#[inline]
pub fn current_local<T: Any + Send + Sync>() -> Option<CurrentRef<T>> {
    todo!()
}

/// A reference to the running thread's own value; cannot leave the thread.
pub struct CurrentRef<T> {
    target: *const T,
    _not_send: PhantomData<*mut ()>,
}

impl<T> core::ops::Deref for CurrentRef<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the value lives as long as its thread, and a thread that runs is not freed; `CurrentRef` is neither
        // `Send` nor `Sync`, so this code runs on that thread.
        unsafe { &*self.target }
    }
}

impl<T> Clone for CurrentRef<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for CurrentRef<T> {}
