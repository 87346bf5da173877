//! Kernel threads: stacks, switching between them, and the value that each carries for the scheduler.
//!
//! Key types: [`KernelThread`], [`CurrentRef`]. The scheduler above decides who runs; this module only switches.
//!
//! A switch is handed over in two halves: [`switch_to`] on the old stack, [`finish_switch`] on the new one, which lets go
//! of the old thread. What belongs to the flow of control rather than to the CPU (the preempt count, the interrupt state
//! that a guard restores) stays on the old stack meanwhile.
//!
//! # Invariants
//! - A thread that has begun to run and has not ended by [`exit_to`] is never freed, whoever drops its handles: other
//!   CPUs may hold references to its stack. It keeps a handle of itself, which [`finish_switch`] drops after its end.
//! - `context`, `fpu` and `bases` belong to who has set `on_cpu`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use crate::arch::{self, Context, FpuArea, Stack};
use crate::memory::{OutOfMemory, retry, try_arc};
use crate::preempt::{self, IRQ_GUARD_MASK};
use crate::user::{self, Fault, UserBases};
use crate::{irq, local, sync::rcu};

/// Bytes of a kernel stack in a build without checks, which is what limits on threads are reckoned with.
pub const STACK_BYTES: usize = 16 << 10;

/// Bytes of the part of a floating-point state that every processor has.
const LEGACY_BYTES: usize = 512;
/// The components that every state has.
const X87_AND_SSE: u64 = 3;

type Entry = Box<dyn FnOnce() + Send>;

/// A kernel stack with a saved context: something that a CPU can run.
pub struct KernelThread {
    context: UnsafeCell<Context>,
    fpu: UnsafeCell<Option<FpuArea>>,
    /// While the thread runs and has an `fpu`, the processor has the true ones.
    bases: UnsafeCell<UserBases>,
    /// Some CPU runs it, or is about to, or has not yet left its stack.
    on_cpu: AtomicBool,
    /// It has run, or is a boot flow.
    started: AtomicBool,
    /// It called [`exit_to`].
    ended: AtomicBool,
    /// It met a bug of the kernel and is on its way out.
    #[cfg(target_os = "none")]
    oopsed: AtomicBool,
    /// Things on its stack that others point to; see [`StackPin`].
    pins: AtomicUsize,
    /// What its allocations may do; bits of [`scope`].
    allocation_scope: AtomicU8,
    /// What to run first; taken by the thread itself.
    entry: UnsafeCell<Option<Entry>>,
    local: Arc<dyn Any + Send + Sync>,
    #[cfg(any(debug_assertions, feature = "lockdep"))]
    held: crate::sync::class::HeldLocks,
    /// For its end.
    room: rcu::Room,
    /// Last: freed after everything that could point to it. `None` for boot flows.
    _stack: Option<Stack>,
}

// SAFETY: the cells are touched only by the thread itself or by who holds `on_cpu` (second invariant); the rest is
// `Send` and `Sync` by itself. `entry` is `Send` and taken once, by the thread.
unsafe impl Sync for KernelThread {}
// SAFETY: as above.
unsafe impl Send for KernelThread {}

impl core::fmt::Debug for KernelThread {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "KernelThread({:p})", self)
    }
}

impl KernelThread {
    fn with(local: Arc<dyn Any + Send + Sync>, entry: Option<Entry>, stack: Option<Stack>) -> KernelThread {
        let runs = stack.is_none();
        KernelThread {
            context: UnsafeCell::new(Context::empty()),
            fpu: UnsafeCell::new(None),
            bases: UnsafeCell::new(UserBases::default()),
            on_cpu: AtomicBool::new(runs),
            started: AtomicBool::new(runs),
            ended: AtomicBool::new(false),
            #[cfg(target_os = "none")]
            oopsed: AtomicBool::new(false),
            pins: AtomicUsize::new(0),
            allocation_scope: AtomicU8::new(0),
            entry: UnsafeCell::new(entry),
            local,
            #[cfg(any(debug_assertions, feature = "lockdep"))]
            held: crate::sync::class::HeldLocks::new(),
            room: rcu::Room::new(),
            _stack: stack,
        }
    }

    /// A thread that will run `entry` when it is first switched to. `local` is what [`current_local`] gives in it.
    /// `entry` must not return: a thread ends by [`exit_to`].
    pub fn new(
        local: Arc<dyn Any + Send + Sync>,
        entry: Box<dyn FnOnce() + Send>,
    ) -> Result<Arc<KernelThread>, OutOfMemory> {
        let stack = Stack::new().or_else(|| retry(Stack::new)).ok_or(OutOfMemory)?;
        let top = stack.top();
        let thread = try_arc(KernelThread::with(local, Some(entry), Some(stack)))?;
        let argument = Arc::as_ptr(&thread).expose_provenance();
        // SAFETY: the stack is new and belongs to the thread; nobody else knows the thread yet.
        unsafe { *thread.context.get() = Context::new(top, run_thread, argument) };
        Ok(thread)
    }

    /// Turns the boot flow of this CPU into a thread (its idle thread). Panics if it is one already.
    pub fn adopt_current(local: Arc<dyn Any + Send + Sync>) -> Arc<KernelThread> {
        assert!(current_pointer().is_null(), "this flow of control is a thread already");
        let thread = Arc::new(KernelThread::with(local, None, None));
        let guard = crate::irq::disable();
        let pointer = Arc::into_raw(thread.clone());
        local::local().running.store(pointer.addr(), Ordering::Relaxed);
        // SAFETY: interrupts are off, and this flow is that thread from now on; it never ends, so its handle stays.
        unsafe { arch::set_current_thread(pointer.cast()) };
        drop(guard);
        thread
    }

    /// What the thread carries, if it is a `T`.
    pub fn local<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.local.downcast_ref()
    }

    /// The same as a counted reference.
    pub fn local_arc<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.local.clone().downcast().ok()
    }

    /// Whether some CPU runs it (or has not yet finished switching away from it).
    pub fn is_on_cpu(&self) -> bool {
        self.on_cpu.load(Ordering::Acquire)
    }

    /// Runs `f` on what belongs to user mode; another thread than the current one is kept from running meanwhile.
    fn with_user_state<R>(&self, f: impl FnOnce(&mut UserState<'_>) -> R) -> R {
        let guard = preempt::disable();
        let is_live = core::ptr::eq(self, current_pointer());
        if !is_live {
            while self.on_cpu.swap(true, Ordering::Acquire) {
                arch::relax();
            }
        }
        // SAFETY: `on_cpu` is ours (as the running thread, or just taken), and preemption is off.
        let result = unsafe {
            let (fpu, bases) = (&mut *self.fpu.get(), &mut *self.bases.get());
            f(&mut UserState { fpu, bases, is_live })
        };
        if !is_live {
            self.on_cpu.store(false, Ordering::Release);
        }
        drop(guard);
        result
    }

    /// Puts the floating-point state of user mode back to what a new program sees. Only for the current thread or one
    /// that does not run (else it waits until the thread does not).
    pub fn reset_fpu(&self) {
        self.with_user_state(|state| {
            if let Some(area) = state.fpu {
                area.reset();
            }
            state.load_fpu();
        });
    }

    /// [`KernelThread::reset_fpu`], and segment bases of 0 (exec).
    pub fn reset_user_state(&self) {
        self.reset_fpu();
        self.with_user_state(|state| state.set_bases(UserBases::default()));
    }

    /// Copies the user floating-point state and the segment bases (fork): from the current thread to a new one.
    pub fn copy_user_state_from(&self, other: &KernelThread) -> Result<(), OutOfMemory> {
        let mut area = FpuArea::new().ok_or(OutOfMemory)?;
        let (any, copy) = other.with_user_state(|state| {
            state.save_fpu();
            if let Some(source) = state.fpu {
                area.bytes_mut().copy_from_slice(source.bytes());
            }
            (state.fpu.is_some(), state.bases())
        });
        let old = self.with_user_state(|state| {
            state.set_bases(copy);
            if any { state.replace_fpu(area) } else { None }
        });
        drop(old);
        Ok(())
    }

    /// The program's segment bases. Only of the current thread or one that does not run (else it waits until it does not).
    pub fn bases(&self) -> UserBases {
        self.with_user_state(|state| state.bases())
    }

    /// Changes the program's segment bases; as [`KernelThread::bases`]. `Fault`: one is not an address of user space.
    pub fn set_bases(&self, new: UserBases) -> Result<(), Fault> {
        if [new.fs, new.gs].into_iter().any(|base| base >= crate::USER_END as u64) {
            return Err(Fault);
        }
        self.with_user_state(|state| state.set_bases(new));
        Ok(())
    }

    /// The user floating-point state in the layout of a signal frame (XSAVE, standard format), put into `into`: nothing if the
    /// thread never was in user mode.
    pub fn read_fpu(&self, into: &mut Vec<u8>) -> Result<(), OutOfMemory> {
        into.clear();
        into.try_reserve(fpu_state_size()).map_err(|_| OutOfMemory)?;
        self.with_user_state(|state| {
            state.save_fpu();
            into.extend_from_slice(state.fpu.as_ref().map_or(&[], FpuArea::bytes));
        });
        Ok(())
    }

    /// Sets it from a signal frame's image of `length` bytes (at least the 512 of `FXSAVE`), which `fill` writes; what is missing or
    /// not valid gets its initial value.
    pub fn set_fpu<E: From<OutOfMemory>>(
        &self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut area = FpuArea::new().ok_or(OutOfMemory)?;
        let size = fpu_state_size();
        let length = length.clamp(LEGACY_BYTES, size);
        fill(&mut area.bytes_mut()[..length])?;
        if length < size && size > LEGACY_BYTES {
            // Only x87 and SSE are given.
            area.bytes_mut()[LEGACY_BYTES..].fill(0);
            area.bytes_mut()[LEGACY_BYTES] = X87_AND_SSE as u8;
            area.reset_key_rights();
        }
        area.sanitize();
        let old = self.with_user_state(|state| state.replace_fpu(area));
        drop(old);
        Ok(())
    }
}

/// What a thread has of user mode, for who may change it: preemption is off, and the thread is the current one or does not run.
struct UserState<'a> {
    fpu: &'a mut Option<FpuArea>,
    bases: &'a mut UserBases,
    /// The thread is the current one: if it has an `fpu`, the processor has the true ones.
    is_live: bool,
}

impl UserState<'_> {
    /// Brings the image in memory up to date.
    fn save_fpu(&mut self) {
        if let Some(area) = self.fpu.as_mut().filter(|_| self.is_live) {
            // SAFETY: preemption is off, and the registers are this thread's.
            unsafe { arch::fpu_save(area) };
        }
    }

    /// Makes the processor use the image in memory.
    fn load_fpu(&mut self) {
        if let Some(area) = self.fpu.as_ref().filter(|_| self.is_live) {
            // SAFETY: preemption is off, and the image is what the thread shall have.
            unsafe { arch::fpu_restore(area) };
        }
    }

    /// Gives the thread another image; the old one is for the caller to drop once preemption is on.
    fn replace_fpu(&mut self, area: FpuArea) -> Option<FpuArea> {
        let old = self.fpu.replace(area);
        self.load_fpu();
        old
    }

    fn bases(&mut self) -> UserBases {
        if self.is_live && self.fpu.is_some() {
            irq::raw_disable();
            // SAFETY: interrupts are off, and the registers are this thread's.
            unsafe { arch::user_bases_save(self.bases) };
            irq::raw_enable();
        }
        *self.bases
    }

    fn set_bases(&mut self, new: UserBases) {
        *self.bases = new;
        if self.is_live && self.fpu.is_some() {
            irq::raw_disable();
            // SAFETY: interrupts are off, and the caller has checked that these are addresses of user space.
            unsafe { arch::user_bases_load(self.bases) };
            irq::raw_enable();
        }
    }
}

/// Copies the current thread's floating-point state to user memory, as [`KernelThread::read_fpu`] has it, and gives its bytes and the
/// components that it says are there (XSTATE_BV). `key_rights`: what it shall say of the rights by protection key, if not what they are
/// now. May fault pages in. Nothing to copy for a thread that never was in user mode.
pub fn copy_fpu_to_user(address: usize, key_rights: Option<u32>) -> Result<(usize, u64), Fault> {
    let thread = current_pointer();
    // SAFETY: the running thread is alive.
    let Some(thread) = (unsafe { thread.as_ref() }) else { return Ok((0, 0)) };
    let image = thread.with_user_state(|state| {
        state.save_fpu();
        state.fpu.as_ref().map(FpuArea::as_ptr)
    });
    let Some(image) = image else { return Ok((0, 0)) };
    let size = fpu_state_size();
    // SAFETY: the image is freed only by its thread, which is here. A switch away and back writes it again with the same state: it is
    // read through raw pointers only.
    unsafe { user::write_raw(address, image, size)? };
    if size < LEGACY_BYTES + 8 {
        return Ok((size, X87_AND_SSE));
    }
    // SAFETY: as above; the header lies inside.
    let mut components = unsafe { image.add(LEGACY_BYTES).cast::<u64>().read_volatile() };
    if let (Some(rights), Some((place, component))) = (key_rights, arch::key_rights_place()) {
        components |= component;
        user::write_value(address + place, &rights)?;
        user::write_value(address + LEGACY_BYTES, &components)?;
    }
    Ok((size, components))
}

/// Gives the current thread a floating-point state if it has none yet: before it first enters user mode.
pub(crate) fn prepare_fpu() -> Result<(), OutOfMemory> {
    let thread = current_pointer();
    // SAFETY: the running thread is alive, and only it changes whether it has a state while it runs.
    let Some(present) = (unsafe { thread.as_ref().map(|thread| (*thread.fpu.get()).is_some()) }) else {
        return Err(OutOfMemory);
    };
    if present {
        return Ok(());
    }
    let area = FpuArea::new().ok_or(OutOfMemory)?;
    // SAFETY: as above.
    unsafe { &*thread }.with_user_state(|state| {
        state.replace_fpu(area);
        state.set_bases(*state.bases);
    });
    Ok(())
}

/// Whether user pages can have protection keys (pkeys(7)).
pub fn has_protection_keys() -> bool {
    arch::has_protection_keys()
}

/// The rights by protection key that a new program and a signal handler start with, as the PKRU register has them.
pub const DEFAULT_KEY_RIGHTS: u32 = arch::DEFAULT_KEY_RIGHTS;

/// Exchanges the running program's rights by protection key and gives the old ones: two bits for each key, the lower against
/// every access, the upper against writing. They hold for the kernel's copies from and to its memory, too. No effect without keys.
pub fn exchange_key_rights(rights: u32) -> u32 {
    arch::exchange_key_rights(rights)
}

/// The components of the floating-point state that are kept (XCR0).
pub fn state_components() -> u64 {
    arch::xcr0()
}

/// Bytes of the floating-point state that [`KernelThread::read_fpu`] gives.
pub fn fpu_state_size() -> usize {
    arch::fpu_size()
}

/// Switches this CPU to `next`; returns when something switches back to the calling thread (perhaps on another CPU).
///
/// To be called with exactly one kind of guard held: an [`crate::irq::IrqGuard`] (panics with a preempt guard, spin
/// lock or RCU section, and in interrupts). Waits until no CPU runs `next`. Counts as an RCU quiescent state. The FPU
/// state and the segment bases of user mode go with the thread. The active page table does not: call [`crate::memory::PageTable::activate`].
pub fn switch_to(next: &Arc<KernelThread>) {
    let word = arch::preempt_count();
    assert!(
        word & IRQ_GUARD_MASK != 0 && word & !IRQ_GUARD_MASK == 0,
        "switch_to() with preempt count {word:#x}"
    );
    let previous = current_pointer();
    assert!(!previous.is_null(), "switch_to() before adopt_current()");
    let target = Arc::as_ptr(next);
    if core::ptr::eq(previous, target) {
        return;
    }
    rcu::note_context_switch();
    while next.on_cpu.swap(true, Ordering::Acquire) {
        arch::relax();
    }
    assert!(!next.ended.load(Ordering::Relaxed), "switch_to() to a thread that has ended");
    if !next.started.swap(true, Ordering::Relaxed) {
        // The handle that the thread keeps of itself while it lives.
        core::mem::forget(next.clone());
    }
    let saved_irq = local::local().saved_irq.load(Ordering::Relaxed);
    local::local().switching_from.store(previous.cast_mut(), Ordering::Relaxed);
    local::local().running.store(target.addr(), Ordering::Relaxed);
    // SAFETY: `on_cpu` of both is ours: the running thread's by running, `next`'s just taken. Interrupts are off. Both
    // stay alive: this thread keeps itself until it ends, and so does `next` from now on.
    unsafe {
        if let Some(area) = (*(*previous).fpu.get()).as_mut() {
            arch::fpu_save(area);
            arch::user_bases_save(&mut *(*previous).bases.get());
        }
        if let Some(area) = (*next.fpu.get()).as_ref() {
            arch::fpu_restore(area);
            arch::user_bases_load(&*next.bases.get());
        }
        arch::set_current_thread(target.cast());
        arch::context_switch((*previous).context.get(), next.context.get());
    }
    // Back, perhaps on another CPU, after who knows what.
    finish_switch();
    local::local().saved_irq.store(saved_irq, Ordering::Relaxed);
    arch::preempt_add(word.wrapping_sub(arch::preempt_count()));
}

/// The second half of a switch, on the new stack, interrupts off: lets go of the thread that ran before.
fn finish_switch() {
    let previous = local::local().switching_from.swap(core::ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: set by `switch_to` on this CPU just before; the thread is alive until `on_cpu` is given up, and longer if
    // it has not ended.
    let thread = unsafe { &*previous };
    let ended = thread.ended.load(Ordering::Relaxed);
    thread.on_cpu.store(false, Ordering::Release);
    if ended {
        // What the thread carries may need to sleep to be freed; this needs no memory.
        // SAFETY: a thread ends once, and lives until `drop_handle`.
        unsafe { rcu::defer_raw(rcu::Room::head(&raw const (*previous).room), drop_handle) };
    }
}

/// Drops the handle that an ended thread had of itself.
///
/// # Safety
/// `head` is the room of a thread that has ended; called once.
unsafe fn drop_handle(head: *mut rcu::Head) {
    // SAFETY: the caller's contract; the handle is the one that `switch_to` forgot when the thread started, or that
    // `adopt_current` made.
    drop(unsafe {
        Arc::from_raw(head.byte_sub(core::mem::offset_of!(KernelThread, room)).cast::<KernelThread>())
    });
}

/// Where a new thread begins.
///
/// # Safety
/// Called by the context of [`KernelThread::new`] with that thread, interrupts off.
unsafe extern "C-unwind" fn run_thread(argument: usize) -> ! {
    finish_switch();
    let thread = core::ptr::with_exposed_provenance::<KernelThread>(argument);
    // SAFETY: this is the thread's own first code; nobody else takes the entry.
    let entry = unsafe { (*(*thread).entry.get()).take() };
    arch::preempt_sub(arch::preempt_count());
    arch::irq_enable();
    if arch::need_resched() {
        crate::hooks::preempt();
    }
    if let Some(entry) = entry {
        entry();
    }
    panic!("a kernel thread's entry returned");
}

/// Ends the current thread and switches to `next`; as [`switch_to`]. The stack is freed when the last handle goes.
pub fn exit_to(next: Arc<KernelThread>) -> ! {
    let thread = current_pointer();
    assert!(
        !thread.is_null() && !core::ptr::eq(thread, Arc::as_ptr(&next)),
        "exit_to() wants another thread"
    );
    // SAFETY: the running thread is alive.
    let thread = unsafe { &*thread };
    assert!(thread.pins.load(Ordering::Relaxed) == 0, "a thread ends while others point to its stack");
    thread.ended.store(true, Ordering::Relaxed);
    // The handle cannot be dropped after the switch; `next` holds one of itself once it runs.
    let target = Arc::as_ptr(&next);
    let start = !next.started.swap(true, Ordering::Relaxed);
    if !start {
        // SAFETY: the thread has started and not ended: it keeps itself alive.
        unsafe { Arc::decrement_strong_count(target) };
    }
    let next = core::mem::ManuallyDrop::new(next);
    switch_to(&next);
    panic!("a thread ran after its end");
}

/// The running thread, null before [`KernelThread::adopt_current`].
#[inline(always)]
pub(crate) fn current_pointer() -> *const KernelThread {
    arch::current_thread().cast()
}

/// Whether the running flow is a thread that may end because of a bug: one that was made for a purpose, not the boot flow
/// that became a CPU's idle thread.
#[cfg(target_os = "none")]
pub(crate) fn may_oops() -> bool {
    // SAFETY: the running thread is alive.
    unsafe { current_pointer().as_ref() }.is_some_and(|thread| thread._stack.is_some())
}

/// Notes that the running thread has met a bug; `false` if it had met one already.
#[cfg(target_os = "none")]
pub(crate) fn begin_oops() -> bool {
    // SAFETY: the running thread is alive.
    unsafe { current_pointer().as_ref() }.is_some_and(|thread| !thread.oopsed.swap(true, Ordering::Relaxed))
}

/// Whether the running thread may call [`exit_to`]: nothing on its stack is known to others. Always so unless a bug cut its work short.
pub fn may_end() -> bool {
    // SAFETY: the running thread is alive.
    unsafe { current_pointer().as_ref() }.is_none_or(|thread| thread.pins.load(Ordering::Relaxed) == 0)
}

/// The lock checker's list of the running thread.
#[cfg(any(debug_assertions, feature = "lockdep"))]
pub(crate) fn current_held() -> Option<*const crate::sync::class::HeldLocks> {
    if crate::irq::in_interrupt() {
        return None;
    }
    // SAFETY: the running thread is alive.
    unsafe { current_pointer().as_ref() }.map(|thread| &raw const thread.held)
}

/// Bits of what a thread's allocations may do.
mod scope {
    /// It frees memory: what that needs itself comes from the last reserve, and must not begin anew.
    pub(super) const FREEING: u8 = 1;
    /// It is inside a file system, which must not be entered to free memory.
    pub(super) const NO_FILE_SYSTEM: u8 = 2;
}

/// While it lives, allocations of the thread that made it are restricted; see [`AllocationScope::freeing`] and
/// [`AllocationScope::no_file_system`]. Scopes nest, and end in the order opposite to that in which they began.
pub struct AllocationScope {
    previous: u8,
    /// Of one thread.
    _not_send: core::marker::PhantomData<*mut ()>,
}

impl AllocationScope {
    /// The thread frees memory for others: what it needs for that comes from the last reserve, and it does not reclaim.
    pub fn freeing() -> AllocationScope {
        AllocationScope::enter(scope::FREEING)
    }

    /// The thread is inside a file system and holds what it needs to go on: memory is not freed by entering one, and when there is
    /// none left, it comes from the last reserve.
    pub fn no_file_system() -> AllocationScope {
        AllocationScope::enter(scope::NO_FILE_SYSTEM)
    }

    fn enter(bit: u8) -> AllocationScope {
        // SAFETY: a running thread's memory lives as long as it runs.
        let previous = unsafe { current_pointer().as_ref() }
            .map_or(0, |thread| thread.allocation_scope.fetch_or(bit, Ordering::Relaxed));
        AllocationScope { previous, _not_send: core::marker::PhantomData }
    }
}

impl Drop for AllocationScope {
    fn drop(&mut self) {
        // SAFETY: a running thread's memory lives as long as it runs.
        if let Some(thread) = unsafe { current_pointer().as_ref() } {
            thread.allocation_scope.store(self.previous, Ordering::Relaxed);
        }
    }
}

fn in_scope(bit: u8) -> bool {
    // SAFETY: a running thread's memory lives as long as it runs.
    unsafe { current_pointer().as_ref() }
        .is_some_and(|thread| thread.allocation_scope.load(Ordering::Relaxed) & bit != 0)
}

/// Whether the running thread frees memory; see [`AllocationScope::freeing`].
pub fn is_freeing_memory() -> bool {
    in_scope(scope::FREEING)
}

/// Whether the running thread is inside a file system; see [`AllocationScope::no_file_system`].
pub fn is_in_file_system() -> bool {
    in_scope(scope::NO_FILE_SYSTEM)
}

/// Runs `f`, which frees memory, unless this thread is in the middle of that already. `None` if `f` was not run.
pub(crate) fn while_reclaiming<R>(f: impl FnOnce() -> R) -> Option<R> {
    if is_freeing_memory() {
        return None;
    }
    let _scope = AllocationScope::freeing();
    Some(f())
}

/// While one lives, something on the running thread's stack is known to others: the thread must not end.
pub(crate) struct StackPin {
    thread: *const KernelThread,
}

impl StackPin {
    /// A pin of the running thread (of nothing before there are threads).
    pub(crate) fn new() -> StackPin {
        let thread = current_pointer();
        // SAFETY: the running thread is alive.
        if let Some(thread) = unsafe { thread.as_ref() } {
            thread.pins.fetch_add(1, Ordering::Relaxed);
        }
        StackPin { thread }
    }
}

impl Drop for StackPin {
    fn drop(&mut self) {
        // SAFETY: the thread cannot have ended while it had this pin.
        if let Some(thread) = unsafe { self.thread.as_ref() } {
            thread.pins.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The running thread's handle, or `None` before [`KernelThread::adopt_current`].
pub fn current() -> Option<Arc<KernelThread>> {
    let thread = current_pointer();
    if thread.is_null() {
        return None;
    }
    // SAFETY: every thread is in an `Arc`, and the running one is alive.
    unsafe {
        Arc::increment_strong_count(thread);
        Some(Arc::from_raw(thread))
    }
}

/// What the running thread carries, if it is a `T`; without touching a reference count.
#[inline]
pub fn current_local<T: Any + Send + Sync>() -> Option<CurrentRef<T>> {
    // SAFETY: the running thread is alive.
    let thread = unsafe { current_pointer().as_ref() }?;
    let target: *const T = thread.local.downcast_ref::<T>()?;
    Some(CurrentRef { target, _not_send: PhantomData })
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
