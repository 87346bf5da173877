//! Entering user mode, the system-call entry, and copies from and to user memory.
//!
//! [`enter_user`] is a call that returns when the program leaves user mode: it saves the kernel's callee-saved registers,
//! loads the program's, and `sysret`s (or `iret`s, when the registers do not fit). The entries store the program's
//! registers and return. The path is written to be short: the segment bases stay in the processor until another program's
//! thread runs ([`user_bases_save`], [`user_bases_load`]).
//!
//! Reference: AMD APM volume 2, 6.1; Intel SDM volume 2, SYSRET (its #GP with a non-canonical RIP is why RIP is checked).

use super::cpu::{self, KERNEL_STACK, SCRATCH, USER_REGISTERS, has, write_msr};
use super::descriptors::{KERNEL_CODE, USER_CODE, USER_DATA};
use super::features::Features;
use core::arch::{asm, global_asm};
use core::mem::offset_of;

use crate::user::{Fault, UserBases, UserExit, UserRegisters};

/// Bit of the raw exit: an exception (vector in bits 0..8, error code in bits 32..64).
pub(super) const EXIT_EXCEPTION: u64 = 0x100;
/// Raw exit: an interrupt, handled.
pub(super) const EXIT_INTERRUPT: u64 = 0x200;

const FLAGS_FIXED: u64 = 0x202; // interrupts on, and the bit that is always 1
const FLAGS_ALLOWED: u64 = 0x24_0dd5 | 0x1_0000; // CF PF AF ZF SF TF DF OF RF AC ID
const FLAGS_NEED_IRET: u64 = 0x1_0100; // RF, TF

global_asm!(
    r#"
    .section .entry.text, "ax"
    // u64 enter_user_raw(UserRegisters *registers): interrupts off.
    .balign 16
    .global enter_user_raw
enter_user_raw:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov gs:[{kernel_stack}], rsp
    mov gs:[{user_registers}], rdi
    swapgs
    mov rcx, [rdi + {rip}]
    mov r11, [rdi + {rflags}]
    cmp rcx, [rdi + {rcx}]
    jne 3f
    cmp r11, [rdi + {r11}]
    jne 3f
    test r11d, {need_iret}
    jnz 3f
    mov r15, [rdi + {r15}]
    mov r14, [rdi + {r14}]
    mov r13, [rdi + {r13}]
    mov r12, [rdi + {r12}]
    mov rbp, [rdi + {rbp}]
    mov rbx, [rdi + {rbx}]
    mov r10, [rdi + {r10}]
    mov r9, [rdi + {r9}]
    mov r8, [rdi + {r8}]
    mov rax, [rdi + {rax}]
    mov rdx, [rdi + {rdx}]
    mov rsi, [rdi + {rsi}]
    mov rsp, [rdi + {rsp}]
    mov rdi, [rdi + {rdi}]
    sysretq
3:  push {user_data}
    push qword ptr [rdi + {rsp}]
    push r11
    push {user_code}
    push rcx
    mov r15, [rdi + {r15}]
    mov r14, [rdi + {r14}]
    mov r13, [rdi + {r13}]
    mov r12, [rdi + {r12}]
    mov rbp, [rdi + {rbp}]
    mov rbx, [rdi + {rbx}]
    mov r11, [rdi + {r11}]
    mov r10, [rdi + {r10}]
    mov r9, [rdi + {r9}]
    mov r8, [rdi + {r8}]
    mov rax, [rdi + {rax}]
    mov rcx, [rdi + {rcx}]
    mov rdx, [rdi + {rdx}]
    mov rsi, [rdi + {rsi}]
    mov rdi, [rdi + {rdi}]
    iretq

    .balign 16
    .global syscall_entry
syscall_entry:
    swapgs
    mov gs:[{scratch}], rsp
    mov rsp, gs:[{user_registers}]
    mov [rsp + {rdi}], rdi
    mov [rsp + {rsi}], rsi
    mov [rsp + {rdx}], rdx
    mov [rsp + {rax}], rax
    mov [rsp + {orig_rax}], rax
    mov [rsp + {r8}], r8
    mov [rsp + {r9}], r9
    mov [rsp + {r10}], r10
    mov [rsp + {rcx}], rcx
    mov [rsp + {rip}], rcx
    mov [rsp + {r11}], r11
    mov [rsp + {rflags}], r11
    mov [rsp + {rbx}], rbx
    mov [rsp + {rbp}], rbp
    mov [rsp + {r12}], r12
    mov [rsp + {r13}], r13
    mov [rsp + {r14}], r14
    mov [rsp + {r15}], r15
    mov rax, gs:[{scratch}]
    mov [rsp + {rsp}], rax
    xor eax, eax
    mov rsp, gs:[{kernel_stack}]
    .global user_exit_return
user_exit_return:
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret

    // `syscall` in compatibility mode: there are no 32-bit programs; nothing sets up such a code segment.
    .balign 16
    .global syscall_entry_compatibility
syscall_entry_compatibility:
    mov eax, -38
    sysret
    .text
"#,
    user_registers = const USER_REGISTERS,
    kernel_stack = const KERNEL_STACK,
    scratch = const SCRATCH,
    need_iret = const FLAGS_NEED_IRET,
    user_code = const USER_CODE,
    user_data = const USER_DATA,
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
    fn enter_user_raw(registers: *mut UserRegisters) -> u64;
    static syscall_entry: u8;
    static syscall_entry_compatibility: u8;
}

/// Sets this CPU's system-call registers.
///
/// # Safety
/// In the kernel, with the GDT loaded.
pub(super) unsafe fn init_cpu() {
    // SAFETY: the entries are the code above; the selectors match the GDT.
    unsafe {
        let (user_base, kernel) = (u64::from(USER_DATA - 8), u64::from(KERNEL_CODE));
        write_msr(cpu::MSR_STAR, user_base << 48 | kernel << 32);
        write_msr(cpu::MSR_LSTAR, &raw const syscall_entry as u64);
        write_msr(cpu::MSR_LSTAR + 1, &raw const syscall_entry_compatibility as u64);
        // Cleared on entry: TF, IF, DF, IOPL, NT, RF, AC, and the arithmetic flags as Linux does.
        write_msr(cpu::MSR_SFMASK, 0x25_7fd5);
    }
}

/// Saves the segment bases of the program whose thread ran on this CPU, which it may have changed by itself.
///
/// # Safety
/// Interrupts are off, and the processor holds the bases that `bases` is for.
#[inline]
pub(crate) unsafe fn user_bases_save(bases: &mut UserBases) {
    if has(Features::FSGSBASE) {
        // SAFETY: FSGSBASE is on; interrupts are off while GS is the user's.
        unsafe {
            asm!("rdfsbase {}", out(reg) bases.fs, options(nomem, nostack, preserves_flags));
            asm!("swapgs", "rdgsbase {}", "swapgs", out(reg) bases.gs, options(nomem, nostack, preserves_flags));
        }
    }
    // Without it the program had no way to change them.
}

/// Loads them for the thread that will run.
///
/// # Safety
/// Interrupts are off; the bases came from [`user_bases_save`] or are addresses of user space (canonical, that is).
#[inline]
pub(crate) unsafe fn user_bases_load(bases: &UserBases) {
    // SAFETY: canonical; interrupts are off while GS is the user's, which lies in the "kernel GS base" register while in
    // the kernel.
    unsafe {
        if has(Features::FSGSBASE) {
            asm!("wrfsbase {}", in(reg) bases.fs, options(nomem, nostack, preserves_flags));
            asm!("swapgs", "wrgsbase {}", "swapgs", in(reg) bases.gs, options(nomem, nostack, preserves_flags));
        } else {
            write_msr(cpu::MSR_FS_BASE, bases.fs);
            write_msr(cpu::MSR_KERNEL_GS_BASE, bases.gs);
        }
    }
}

/// Runs the program until it leaves user mode. Interrupts off on entry, on at return.
///
/// A `rip` outside user space is reported as a protection fault without entering, as if the jump had faulted.
#[inline]
pub(crate) fn enter_user(registers: &mut UserRegisters) -> UserExit {
    registers.rflags = registers.rflags & FLAGS_ALLOWED | FLAGS_FIXED;
    if registers.rip >= crate::USER_END as u64 {
        return refuse_entry();
    }
    // SAFETY: interrupts are off; the registers are sanitised; everything user mode can do is fenced by the page table.
    // The call clobbers what a C function may.
    let raw = unsafe { enter_user_raw(registers) };
    if raw == 0 {
        cpu::irq_enable();
        return UserExit::Syscall;
    }
    decode_exit(raw)
}

#[cold]
fn refuse_entry() -> UserExit {
    cpu::irq_enable();
    UserExit::Exception { vector: 13, error_code: 0, address: 0 }
}

fn decode_exit(raw: u64) -> UserExit {
    let address = super::paging::fault_address();
    cpu::irq_enable();
    if raw & EXIT_EXCEPTION == 0 {
        return UserExit::Interrupt;
    }
    let (vector, error_code) = (raw as u8, raw >> 32);
    if vector == 14 {
        let info = super::traps::page_fault_info(error_code, address);
        return UserExit::PageFault { address, access: info.access, present: info.present };
    }
    UserExit::Exception { vector, error_code, address: 0 }
}

// Copies. Each fast loop that faults goes on in the byte loop, which finds the exact place; the byte loop's fixup
// returns how many bytes are left. `rsi` source, `rdi` destination, `rdx` length; `rax` bytes not copied.
global_asm!(
    r#"
    .macro SMAP name
    .Lsmap\@: \name
    .pushsection .smap_sites, "a"
    .long .Lsmap\@ - .
    .popsection
    .endm

    .macro FIXUP from, to
    .pushsection .exception_table, "a"
    .long \from - .
    .long \to - .
    .popsection
    .endm

    .text
    // usize copy_user_raw(destination, source, length): one of the two is user memory.
    .balign 16
    .global copy_user_raw
copy_user_raw:
    SMAP stac
    cmp rdx, 64
    jb 3f
2:  mov rax, [rsi]
21: mov rcx, [rsi + 8]
22: mov r8, [rsi + 16]
23: mov r9, [rsi + 24]
24: mov [rdi], rax
25: mov [rdi + 8], rcx
26: mov [rdi + 16], r8
27: mov [rdi + 24], r9
28: mov rax, [rsi + 32]
29: mov rcx, [rsi + 40]
30: mov r8, [rsi + 48]
31: mov r9, [rsi + 56]
32: mov [rdi + 32], rax
33: mov [rdi + 40], rcx
34: mov [rdi + 48], r8
35: mov [rdi + 56], r9
    add rsi, 64
    add rdi, 64
    sub rdx, 64
    cmp rdx, 64
    jae 2b
3:  cmp rdx, 8
    jb 6f
4:  mov rax, [rsi]
5:  mov [rdi], rax
    add rsi, 8
    add rdi, 8
    sub rdx, 8
    cmp rdx, 8
    jae 4b
6:  test rdx, rdx
    jz 9f
7:  mov al, [rsi]
8:  mov [rdi], al
    inc rsi
    inc rdi
    dec rdx
    jnz 7b
9:  mov rax, rdx
    SMAP clac
    ret
    FIXUP 2b, 7b
    FIXUP 21b, 7b
    FIXUP 22b, 7b
    FIXUP 23b, 7b
    FIXUP 24b, 7b
    FIXUP 25b, 7b
    FIXUP 26b, 7b
    FIXUP 27b, 7b
    FIXUP 28b, 7b
    FIXUP 29b, 7b
    FIXUP 30b, 7b
    FIXUP 31b, 7b
    FIXUP 32b, 7b
    FIXUP 33b, 7b
    FIXUP 34b, 7b
    FIXUP 35b, 7b
    FIXUP 4b, 7b
    FIXUP 5b, 7b
    FIXUP 7b, 9b
    FIXUP 8b, 9b

    // usize zero_user_raw(destination, length)
    .balign 16
    .global zero_user_raw
zero_user_raw:
    SMAP stac
    xor eax, eax
    cmp rsi, 128
    jb 4f
    // So much at once because the loop itself is a large part of the work, most of all on an emulated processor.
3:  .irp offset, 0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120
2:  mov [rdi + \offset], rax
    FIXUP 2b, 7f
    .endr
    sub rdi, -128
    add rsi, -128
    cmp rsi, 128
    jae 3b
4:  cmp rsi, 8
    jb 6f
5:  mov [rdi], rax
    FIXUP 5b, 7f
    add rdi, 8
    sub rsi, 8
    jmp 4b
6:  test rsi, rsi
    jz 9f
7:  mov byte ptr [rdi], 0
    FIXUP 7b, 9f
    inc rdi
    dec rsi
    jnz 7b
9:  mov rax, rsi
    SMAP clac
    ret

    // usize copy_string_raw(destination, source, most): bytes before the NUL; `most` if there is none; -1 on a fault.
    .balign 16
    .global copy_string_raw
copy_string_raw:
    SMAP stac
    xor eax, eax
81: cmp rax, rdx
    jae 9f
7:  mov cl, [rsi + rax]
    mov [rdi + rax], cl
    test cl, cl
    jz 9f
    inc rax
    jmp 81b
8:  mov rax, -1
9:  SMAP clac
    ret
    FIXUP 7b, 8b

    // Result in rax, 0 in rdx if it worked.
    .balign 16
    .global load_user_u32_raw
load_user_u32_raw:
    SMAP stac
    xor edx, edx
7:  mov eax, [rdi]
9:  SMAP clac
    ret
8:  mov edx, 1
    jmp 9b
    FIXUP 7b, 8b

    // (address, old, new): what was there in eax.
    .balign 16
    .global exchange_user_u32_raw
exchange_user_u32_raw:
    mov r8d, edx
    mov eax, esi
    SMAP stac
    xor edx, edx
7:  lock cmpxchg [rdi], r8d
9:  SMAP clac
    ret
8:  mov edx, 1
    jmp 9b
    FIXUP 7b, 8b
"#
);

unsafe extern "C" {
    fn copy_user_raw(destination: *mut u8, source: *const u8, length: usize) -> usize;
    fn zero_user_raw(destination: usize, length: usize) -> usize;
    fn copy_string_raw(destination: *mut u8, source: usize, most: usize) -> usize;
    fn load_user_u32_raw(address: usize) -> ValueAndFault;
    fn exchange_user_u32_raw(address: usize, old: u32, new: u32) -> ValueAndFault;
}

/// Two words in RAX and RDX.
#[repr(C)]
struct ValueAndFault {
    value: u64,
    fault: u64,
}

impl ValueAndFault {
    fn result(self) -> Result<u64, Fault> {
        if self.fault == 0 { Ok(self.value) } else { Err(Fault) }
    }
}

/// Copies from user memory; gives the number of bytes not copied.
///
/// # Safety
/// `destination` is valid for `length` bytes; the source range ends below `USER_END`.
#[inline]
pub(crate) unsafe fn copy_from_user(destination: *mut u8, source: usize, length: usize) -> usize {
    // SAFETY: the caller's contract; faults on the user side are fixed up.
    unsafe { copy_user_raw(destination, source as *const u8, length) }
}

/// Copies to user memory; gives the number of bytes not copied.
///
/// # Safety
/// `source` is valid for `length` bytes; the destination range ends below `USER_END`.
#[inline]
pub(crate) unsafe fn copy_to_user(destination: usize, source: *const u8, length: usize) -> usize {
    // SAFETY: the caller's contract; faults on the user side are fixed up.
    unsafe { copy_user_raw(destination as *mut u8, source, length) }
}

/// Zeroes user memory; gives the number of bytes not zeroed.
///
/// # Safety
/// The range ends below `USER_END`.
#[inline]
pub(crate) unsafe fn zero_user(destination: usize, length: usize) -> usize {
    // SAFETY: the caller's contract.
    unsafe { zero_user_raw(destination, length) }
}

/// Copies a string up to and with its NUL; gives the bytes before the NUL, or `most` if there is none so far.
///
/// # Safety
/// `destination` is valid for `most` bytes; the source range ends below `USER_END`.
#[inline]
pub(crate) unsafe fn user_strncpy(destination: *mut u8, source: usize, most: usize) -> Result<usize, Fault> {
    // SAFETY: the caller's contract.
    let length = unsafe { copy_string_raw(destination, source, most) };
    if length == usize::MAX { Err(Fault) } else { Ok(length) }
}

/// Reads a word of user memory in one access.
///
/// # Safety
/// The address is below `USER_END` and aligned.
#[inline]
pub(crate) unsafe fn user_load_u32(address: usize) -> Result<u32, Fault> {
    // SAFETY: the caller's contract.
    unsafe { load_user_u32_raw(address) }.result().map(|value| value as u32)
}

/// Compares and exchanges a word of user memory; gives what was there.
///
/// # Safety
/// The address is below `USER_END` and aligned.
#[inline]
pub(crate) unsafe fn user_cmpxchg_u32(address: usize, old: u32, new: u32) -> Result<u32, Fault> {
    // SAFETY: the caller's contract.
    unsafe { exchange_user_u32_raw(address, old, new) }.result().map(|value| value as u32)
}
