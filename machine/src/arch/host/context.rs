//! Flows of control of the simulator: stacks in the process's memory and the switch between them.
//!
//! Key types: [`Context`], [`Stack`]. All simulated CPUs live in one OS thread, so a switch is a swap of stack pointers.
//! A panic is caught at the bottom of each stack and carried to the caller of `machine::host::run`.
//!
//! # Invariants
//! A context is resumed only in the run it was made in: what its stack borrows may be gone later.

use super::simulator;
use std::alloc::{Layout, alloc, dealloc};
use std::panic::{AssertUnwindSafe, catch_unwind};

const STACK_BYTES: usize = 512 << 10;
/// Lies at the lower end of each stack, to notice an overflow.
const CANARY: u64 = 0x6c69_6e6e_6574_2121;

/// The entry of a flow.
pub(crate) type Entry = unsafe extern "C-unwind" fn(usize) -> !;

/// A saved flow of control.
pub(crate) struct Context {
    pub(super) stack_pointer: usize,
    run: u64,
}

/// A kernel stack.
pub(crate) struct Stack {
    bottom: *mut u8,
}

// SAFETY: the memory belongs to the value.
unsafe impl Send for Stack {}
// SAFETY: a shared stack gives an address only.
unsafe impl Sync for Stack {}

impl Stack {
    const LAYOUT: Layout = match Layout::from_size_align(STACK_BYTES, 4096) {
        Ok(layout) => layout,
        Err(_) => panic!("a stack has a valid layout"),
    };

    /// A stack, in a simulation; else none: threads of the process are their own.
    pub(crate) fn new() -> Option<Stack> {
        if !simulator::is_active() || !cfg!(target_arch = "x86_64") {
            return None;
        }
        // SAFETY: the layout has a size.
        let bottom = unsafe { alloc(Stack::LAYOUT) };
        if bottom.is_null() {
            return None;
        }
        // SAFETY: just allocated, and aligned to a page.
        unsafe { bottom.cast::<u64>().write(CANARY) };
        Some(Stack { bottom })
    }
    pub(crate) fn top(&self) -> usize {
        self.bottom.expose_provenance() + STACK_BYTES
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: ours; the flow on it has ended.
        unsafe {
            let is_whole = self.bottom.cast::<u64>().read() == CANARY;
            dealloc(self.bottom, Stack::LAYOUT);
            assert!(is_whole || std::thread::panicking(), "a kernel stack has overflowed");
        }
    }
}

impl Context {
    /// A place to save a flow that runs now.
    pub(crate) const fn empty() -> Context {
        Context { stack_pointer: 0, run: 0 }
    }

    /// A flow that will call `entry(argument)`.
    ///
    /// # Safety
    /// `top` is the upper end of a stack that nothing else uses.
    pub(crate) unsafe fn new(top: usize, entry: Entry, argument: usize) -> Context {
        // r15, r14, r13, r12, rbx, rbp, return address; above it two words so that the entry finds an aligned stack.
        let frame = [0, 0, 0, argument, entry as usize, 0, begin as *const () as usize, 0, 0];
        let stack_pointer = top - size_of_val(&frame);
        // SAFETY: inside the stack.
        unsafe { core::ptr::with_exposed_provenance_mut::<[usize; 9]>(stack_pointer).write(frame) };
        Context { stack_pointer, run: simulator::run_number() }
    }
}

/// Saves the running flow in `previous` and continues `next`; returns when something switches to `previous`.
///
/// # Safety
/// Interrupts are off; `next` is a saved flow whose stack is alive, and nobody else switches to it; `previous` stays valid
/// until it is resumed.
pub(crate) unsafe fn context_switch(previous: *mut Context, next: *const Context) {
    // SAFETY: the caller's contract; everything is in one OS thread.
    unsafe {
        assert!((*next).run == simulator::run_number(), "a thread of an earlier run was woken");
        (*previous).run = simulator::run_number();
        swap(&raw mut (*previous).stack_pointer, (*next).stack_pointer);
    }
}

/// Saves the stack pointer (and, on the stack, the registers that a call preserves) and goes on at another.
///
/// # Safety
/// `next` was saved by this function and not resumed since, or comes from [`Context::new`].
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
pub(super) unsafe extern "C" fn swap(saved: *mut usize, next: usize) {
    core::arch::naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// The first return of a new flow: rbx is the entry, r12 its argument.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn begin() -> ! {
    core::arch::naked_asm!(
        "mov rdi, r12",
        "mov rsi, rbx",
        "xor ebp, ebp",
        "call {bottom}",
        "ud2",
        bottom = sym bottom,
    )
}

/// No flows on other processors yet: `host::run` says so.
///
/// # Safety
/// Cannot be called: no stack can be made.
#[cfg(not(target_arch = "x86_64"))]
pub(super) unsafe extern "C" fn swap(_saved: *mut usize, _next: usize) {
    unreachable!("the simulator switches stacks on x86-64 only");
}

#[cfg(not(target_arch = "x86_64"))]
unsafe extern "C" fn begin() -> ! {
    unreachable!("the simulator switches stacks on x86-64 only");
}

/// The frame below everything on a stack.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "called by assembly"))]
extern "C" fn bottom(argument: usize, entry: Entry) -> ! {
    // SAFETY: `Context::new` got them together.
    let result = catch_unwind(AssertUnwindSafe(|| unsafe { entry(argument) }));
    let Err(payload) = result;
    simulator::flow_panicked(payload)
}
