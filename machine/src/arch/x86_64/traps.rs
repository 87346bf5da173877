//! Exceptions and interrupts: the 256 entry stubs, what happens in kernel mode, and interrupts from user mode.
//!
//! Key types: [`TrapFrame`] (registers of interrupted kernel code). From user mode a stub saves straight into the
//! program's `UserRegisters` and returns from [`super::user::enter_user`]; interrupts are handled before that. From
//! kernel mode the handler runs on the same stack. NMI, double fault and machine check have stacks of their own and find
//! GS by looking, because they can come between the instructions that swap it.

use super::apic;
use super::cpu::{self, KERNEL_STACK, USER_REGISTERS};
use super::paging;
use super::user::{EXIT_EXCEPTION, EXIT_INTERRUPT};
use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use crate::hooks::{Interrupted, PageFaultInfo};
use crate::user::{FaultAccess, UserRegisters};

/// The registers of interrupted kernel code, as the stub pushes them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct TrapFrame {
    pub(super) r15: u64,
    pub(super) r14: u64,
    pub(super) r13: u64,
    pub(super) r12: u64,
    pub(super) rbp: u64,
    pub(super) rbx: u64,
    pub(super) r11: u64,
    pub(super) r10: u64,
    pub(super) r9: u64,
    pub(super) r8: u64,
    pub(super) rax: u64,
    pub(super) rcx: u64,
    pub(super) rdx: u64,
    pub(super) rsi: u64,
    pub(super) rdi: u64,
    pub(super) vector: u64,
    pub(super) error_code: u64,
    pub(super) rip: u64,
    pub(super) cs: u64,
    pub(super) rflags: u64,
    pub(super) rsp: u64,
    pub(super) ss: u64,
}

global_asm!(
    r#"
    .macro CLAC
    .Lclac\@: clac
    .pushsection .smap_sites, "a"
    .long .Lclac\@ - .
    .popsection
    .endm

    .macro PUSH_REGISTERS
    push rdi
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    .endm

    .macro POP_REGISTERS
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
    .endm

    .section .entry.text, "ax"
    .balign 16
    .global trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    // Vectors with an error code from the processor: 8, 10..14, 17, 21, 29, 30.
    .if !((vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30))
    push 0
    .endif
    push vector
    .if (vector == 2) || (vector == 8) || (vector == 18)
    jmp trap_own_stack
    .else
    jmp trap_common
    .endif
    .set vector, vector + 1
    .endr

    .balign 16
trap_common:
    test byte ptr [rsp + 24], 3
    jnz trap_from_user
    PUSH_REGISTERS
    CLAC
    cld
    mov rdi, rsp
    call handle_kernel_trap
trap_return:
    POP_REGISTERS
    add rsp, 16
    iretq

    // From user mode: the frame is on this CPU's entry stack. Save everything into the program's registers, then
    // return from enter_user on the kernel stack.
    .balign 16
trap_from_user:
    swapgs
    push rdi
    mov rdi, gs:[{user_registers}]
    mov [rdi + {rsi}], rsi
    mov [rdi + {rdx}], rdx
    mov [rdi + {rcx}], rcx
    mov [rdi + {rax}], rax
    mov [rdi + {r8}], r8
    mov [rdi + {r9}], r9
    mov [rdi + {r10}], r10
    mov [rdi + {r11}], r11
    mov [rdi + {rbx}], rbx
    mov [rdi + {rbp}], rbp
    mov [rdi + {r12}], r12
    mov [rdi + {r13}], r13
    mov [rdi + {r14}], r14
    mov [rdi + {r15}], r15
    pop qword ptr [rdi + {rdi}]
    pop rsi                      // vector
    pop rdx                      // error code
    pop qword ptr [rdi + {rip}]
    add rsp, 8                   // cs
    pop qword ptr [rdi + {rflags}]
    pop qword ptr [rdi + {rsp}]
    mov qword ptr [rdi + {orig_rax}], -1
    CLAC
    cld
    mov rsp, gs:[{kernel_stack}]
    cmp esi, 32
    jae 2f
    mov rax, rdx
    shl rax, 32
    or rax, rsi
    or rax, {exit_exception}
    jmp user_exit_return
2:  sub rsp, 8
    mov edi, esi
    mov rbp, [rsp + 48]          // rbp of enter_user's caller, for backtraces
    call handle_user_interrupt
    add rsp, 8
    mov eax, {exit_interrupt}
    jmp user_exit_return

    // NMI, double fault, machine check: GS is the user's if its base is not a kernel address.
    .balign 16
trap_own_stack:
    PUSH_REGISTERS
    CLAC
    cld
    xor ebx, ebx
    mov ecx, 0xc0000101
    rdmsr
    test edx, edx
    js 1f
    swapgs
    inc ebx
1:  mov rdi, rsp
    call handle_own_stack_trap
    test ebx, ebx
    jz trap_return
    swapgs
    jmp trap_return
    .text
"#,
    user_registers = const USER_REGISTERS,
    kernel_stack = const KERNEL_STACK,
    exit_exception = const EXIT_EXCEPTION,
    exit_interrupt = const EXIT_INTERRUPT,
    rsi = const offset_of!(UserRegisters, rsi),
    rdx = const offset_of!(UserRegisters, rdx),
    rcx = const offset_of!(UserRegisters, rcx),
    rax = const offset_of!(UserRegisters, rax),
    r8 = const offset_of!(UserRegisters, r8),
    r9 = const offset_of!(UserRegisters, r9),
    r10 = const offset_of!(UserRegisters, r10),
    r11 = const offset_of!(UserRegisters, r11),
    rbx = const offset_of!(UserRegisters, rbx),
    rbp = const offset_of!(UserRegisters, rbp),
    r12 = const offset_of!(UserRegisters, r12),
    r13 = const offset_of!(UserRegisters, r13),
    r14 = const offset_of!(UserRegisters, r14),
    r15 = const offset_of!(UserRegisters, r15),
    rdi = const offset_of!(UserRegisters, rdi),
    rip = const offset_of!(UserRegisters, rip),
    rflags = const offset_of!(UserRegisters, rflags),
    rsp = const offset_of!(UserRegisters, rsp),
    orig_rax = const offset_of!(UserRegisters, orig_rax),
);

unsafe extern "C" {
    static trap_stubs: u8;
    static __exception_table_start: ExceptionEntry;
    static __exception_table_end: ExceptionEntry;
    static __smap_sites_start: i32;
    static __smap_sites_end: i32;
}

const STUB_BYTES: u64 = 16;

/// Address of the stub of a vector.
pub(super) fn stub_address(vector: usize) -> u64 {
    &raw const trap_stubs as u64 + vector as u64 * STUB_BYTES
}

/// An instruction that may fault on user memory and where to go then, as distances from the fields themselves.
#[repr(C)]
struct ExceptionEntry {
    instruction: i32,
    fixup: i32,
}

/// Where to go on when the instruction at `rip` cannot reach user memory.
fn find_fixup(rip: u64) -> Option<u64> {
    let (mut entry, end) = (&raw const __exception_table_start, &raw const __exception_table_end);
    while entry < end {
        // SAFETY: the linker script puts the whole table between the two symbols.
        unsafe {
            let place = |field: *const i32| (field as u64).wrapping_add_signed(i64::from(*field));
            if place(&raw const (*entry).instruction) == rip {
                return Some(place(&raw const (*entry).fixup));
            }
            entry = entry.add(1);
        }
    }
    None
}

/// Takes `stac` and `clac` out of the code on a processor without them. Before the text becomes read-only.
///
/// # Safety
/// On the boot CPU, while the image is still writable.
pub(super) unsafe fn remove_smap_instructions() {
    let (mut site, end) = (&raw const __smap_sites_start, &raw const __smap_sites_end);
    while site < end {
        // SAFETY: each site is a three-byte stac or clac.
        unsafe {
            let place = (site as u64).wrapping_add_signed(i64::from(*site));
            (place as *mut [u8; 3]).write([0x0f, 0x1f, 0x00]); // 3-byte nop
            site = site.add(1);
        }
    }
}

/// Interrupt depth, in units of the preempt count.
const INTERRUPT_DEPTH: u32 = 0x1_0000;
/// RFLAGS: interrupts are on.
pub(super) const RFLAGS_INTERRUPTS: u64 = 0x200;

fn dispatch_interrupt(vector: u8, interrupted: Interrupted) {
    cpu::preempt_add(INTERRUPT_DEPTH);
    cpu::area().interrupts.fetch_add(1, Ordering::Relaxed);
    match vector {
        apic::VECTOR_TIMER => {
            apic::end_of_interrupt();
            super::hooks::timer(interrupted);
        }
        apic::VECTOR_RESCHEDULE => {
            apic::end_of_interrupt();
            cpu::set_need_resched();
        }
        apic::VECTOR_CALL => {
            apic::end_of_interrupt();
            super::hooks::ipi_call();
        }
        apic::VECTOR_TLB => {
            apic::end_of_interrupt();
            super::hooks::ipi_tlb();
        }
        apic::VECTOR_DEVICES..apic::VECTOR_MESSAGES => apic::dispatch_device(vector),
        apic::VECTOR_MESSAGES..apic::VECTOR_MESSAGES_END => {
            apic::end_of_interrupt();
            super::hooks::message(usize::from(vector - apic::VECTOR_MESSAGES));
        }
        apic::VECTOR_ERROR => apic::end_of_interrupt(),
        _ => {} // spurious: no end of interrupt
    }
    cpu::preempt_sub(INTERRUPT_DEPTH);
}

/// An interrupt came while a program ran; the registers are saved already.
#[unsafe(no_mangle)]
extern "C" fn handle_user_interrupt(vector: u32) {
    dispatch_interrupt(vector as u8, Interrupted::User);
}

/// A trap in kernel mode.
#[unsafe(no_mangle)]
extern "C" fn handle_kernel_trap(frame: &mut TrapFrame) {
    if frame.vector >= 32 {
        dispatch_interrupt(frame.vector as u8, Interrupted::Kernel);
        if cpu::need_resched() && cpu::preempt_count() == 0 && frame.rflags & RFLAGS_INTERRUPTS != 0 {
            super::hooks::preempt();
            cpu::irq_disable();
        }
        return;
    }
    match frame.vector {
        14 => handle_kernel_page_fault(frame),
        13 | 12 | 17 => match find_fixup(frame.rip) {
            Some(fixup) => frame.rip = fixup,
            None => super::panic::kernel_exception(frame, 0),
        },
        1 => {} // a debug exception that outlived its cause
        _ => super::panic::kernel_exception(frame, 0),
    }
}

fn handle_kernel_page_fault(frame: &mut TrapFrame) {
    let address = paging::fault_address();
    let Some(fixup) = find_fixup(frame.rip).filter(|_| address < crate::USER_END) else {
        super::panic::kernel_exception(frame, address);
    };
    let info = page_fault_info(frame.error_code, address);
    if frame.rflags & RFLAGS_INTERRUPTS != 0 && cpu::preempt_count() == 0 {
        cpu::irq_enable();
        let result = super::hooks::page_fault(&info);
        cpu::irq_disable();
        if result.is_ok() {
            return;
        }
    }
    frame.rip = fixup;
}

/// Decodes a page fault's error code.
pub(super) fn page_fault_info(error_code: u64, address: usize) -> PageFaultInfo {
    let access = match error_code {
        code if code & 0x10 != 0 => FaultAccess::EXEC,
        code if code & 2 != 0 => FaultAccess::WRITE,
        _ => FaultAccess::READ,
    };
    let by_key = if error_code & 0x20 != 0 { FaultAccess::KEY } else { FaultAccess::empty() };
    PageFaultInfo { address, access: access | by_key, present: error_code & 1 != 0 }
}

/// NMI, double fault or machine check, from anywhere.
#[unsafe(no_mangle)]
extern "C" fn handle_own_stack_trap(frame: &mut TrapFrame) {
    match frame.vector {
        2 => super::panic::handle_nmi(frame),
        8 => super::panic::double_fault(frame, paging::fault_address()),
        _ => super::panic::machine_exception(frame, 0),
    }
}
