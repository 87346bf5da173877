//! Switching between kernel contexts.

use core::arch::global_asm;

/// A suspended kernel context: everything else is on its stack.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Context {
    stack_pointer: usize,
}

global_asm!(
    r#"
    .text
    // void context_switch(Context *previous, const Context *next)
    .balign 16
    .global linnet_context_switch
linnet_context_switch:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov [rdi], rsp
    mov rsp, [rsi]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret

    // First return of a new context: rbx is the entry, r12 its argument.
    .balign 16
    .global linnet_context_start
linnet_context_start:
    mov rdi, r12
    xor ebp, ebp
    call rbx
    ud2
"#
);

unsafe extern "C" {
    fn linnet_context_switch(previous: *mut Context, next: *const Context);
    fn linnet_context_start();
}

impl Context {
    /// A place to save a context that runs now.
    pub(crate) const fn empty() -> Context {
        Context { stack_pointer: 0 }
    }

    /// A context that will call `entry(argument)` with interrupts as the switcher has them.
    ///
    /// # Safety
    /// `stack_top` is the 16-aligned upper end of a stack that nothing else uses.
    pub(crate) unsafe fn new(
        stack_top: usize,
        entry: unsafe extern "C-unwind" fn(usize) -> !,
        argument: usize,
    ) -> Context {
        // r15, r14, r13, r12, rbx, rbp, return address; above it one word so that the entry finds an aligned stack.
        let frame = [0, 0, 0, argument, entry as usize, 0, linnet_context_start as *const () as usize, 0];
        let stack_pointer = stack_top - size_of_val(&frame);
        // SAFETY: inside the stack.
        unsafe { (stack_pointer as *mut [usize; 8]).write(frame) };
        Context { stack_pointer }
    }
}

/// Saves the running context in `previous` and continues `next`; returns when something switches to `previous`.
///
/// # Safety
/// Interrupts are off; `next` is a suspended context whose stack is alive, and no other CPU switches to it;
/// `previous` stays valid until it is resumed.
#[inline]
pub(crate) unsafe fn context_switch(previous: *mut Context, next: *const Context) {
    // SAFETY: the caller's contract.
    unsafe { linnet_context_switch(previous, next) }
}
