//! The first instructions: PVH entry of the boot CPU, real-mode entry of the others.
//!
//! `pvh_entry` runs in 32-bit protected mode without paging at the physical load address. It maps the low 4 GiB one to
//! one, enters long mode, lets [`super::boot::early_relocate`] choose the virtual place and jumps there. The trampoline
//! of the secondary CPUs is copied below 1 MiB by [`super::smp`]; it uses the same boot page tables.
//!
//! Reference: Xen `docs/misc/pvh.pandoc` (register state at entry), Intel SDM volume 3, 8.4 (secondary CPUs), 9.8.5.

use core::arch::global_asm;

/// A page of page-table entries that the boot code uses before there is an allocator.
#[repr(C, align(4096))]
pub(super) struct BootTable(pub(super) [u64; 512]);

/// Root of the boot page tables: low 4 GiB one to one, and the kernel. Secondary CPUs start on it.
#[unsafe(no_mangle)]
pub(super) static mut BOOT_ROOT: BootTable = BootTable([0; 512]);
#[unsafe(no_mangle)]
static mut BOOT_LOW_POINTERS: BootTable = BootTable([0; 512]);
#[unsafe(no_mangle)]
static mut BOOT_LOW_DIRECTORIES: [BootTable; 4] = [const { BootTable([0; 512]) }; 4];

global_asm!(
    r#"
    .section .boot.text, "ax"
    .code32
    .global pvh_entry
pvh_entry:
    cli
    cld
    movl ${physical_base}, %ebp
    // Four directories of 2 MiB pages: the low 4 GiB.
    leal (BOOT_LOW_DIRECTORIES - pvh_entry)(%ebp), %edi
    movl $0x83, %eax
    xorl %edx, %edx
    xorl %ecx, %ecx
1:  movl %eax, (%edi,%ecx,8)
    addl $0x200000, %eax
    incl %ecx
    cmpl $2048, %ecx
    jne 1b
    leal (BOOT_LOW_POINTERS - pvh_entry)(%ebp), %esi
    leal 3(%edi), %eax
    movl %eax, (%esi)
    addl $4096, %eax
    movl %eax, 8(%esi)
    addl $4096, %eax
    movl %eax, 16(%esi)
    addl $4096, %eax
    movl %eax, 24(%esi)
    leal (BOOT_ROOT - pvh_entry)(%ebp), %edi
    addl $3, %esi
    movl %esi, (%edi)
    movl %edi, %cr3
    movl %cr4, %eax
    orl $0xa0, %eax              // PAE, PGE
    movl %eax, %cr4
    movl $0xc0000080, %ecx       // EFER: LME
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    andl $0x9fffffff, %eax       // caches on
    orl $0x80010023, %eax        // PG, WP, NE, MP, PE
    movl %eax, %cr0
    leal (__boot_stack_top - pvh_entry)(%ebp), %esp
    leal (boot_gdt - pvh_entry)(%ebp), %eax
    pushl %eax
    pushw $23
    lgdtl (%esp)
    leal (boot_entry64 - pvh_entry)(%ebp), %eax
    pushl $8
    pushl %eax
    lretl

    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff     // 64-bit code
    .quad 0x00cf93000000ffff     // data

    .code64
boot_entry64:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    leaq __boot_stack_top(%rip), %rsp
    xorl %ebp, %ebp
    movl %ebx, %ebx
    movq %rbx, %rdi
    leaq pvh_entry(%rip), %rsi
    leaq __relocations_start(%rip), %rdx
    leaq __relocations_end(%rip), %rcx
    leaq __image_end(%rip), %r8
    leaq BOOT_ROOT(%rip), %r9
    call early_relocate          // gives virtual - physical
    leaq 2f(%rip), %rcx
    addq %rax, %rcx
    addq %rax, %rsp
    jmpq *%rcx
2:  movq %rbx, %rdi
    movq %rax, %rsi
    call boot_main
    ud2

    // ---- Secondary CPUs. Copied to a page below 1 MiB; everything in it is relative to its start.
    .section .rodata.trampoline, "a"
    .balign 16
    .global trampoline_start
trampoline_start:
    .code16
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    xorl %esi, %esi
    movw %ax, %si
    shll $4, %esi                // linear address of the trampoline
    lgdtl (trampoline_gdt_pointer - trampoline_start)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl *(trampoline_far32 - trampoline_start)
    .code32
trampoline32:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl (trampoline_root - trampoline_start)(%esi), %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0xa0, %eax
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orl (trampoline_efer - trampoline_start)(%esi), %eax
    wrmsr
    movl %cr0, %eax
    andl $0x9fffffff, %eax
    orl $0x80010023, %eax
    movl %eax, %cr0
    ljmpl *(trampoline_far64 - trampoline_start)(%esi)
    .code64
trampoline64:
    movq (trampoline_entry - trampoline_start)(%rsi), %rax
    jmpq *%rax
    .balign 8
trampoline_gdt:
    .quad 0
    .quad 0x00af9b000000ffff     // 8: 64-bit code
    .quad 0x00cf93000000ffff     // 16: data
    .quad 0x00cf9b000000ffff     // 24: 32-bit code
trampoline_gdt_end:
    .global trampoline_gdt_pointer
trampoline_gdt_pointer:
    .word 31
    .global trampoline_gdt_base
trampoline_gdt_base:
    .long 0                      // + linear address, set by smp.rs
    .balign 8
    .global trampoline_far32
trampoline_far32:
    .long 0
    .word 24
    .balign 8
    .global trampoline_far64
trampoline_far64:
    .long 0
    .word 8
    .balign 8
    .global trampoline_root
trampoline_root:
    .quad 0
    .global trampoline_entry
trampoline_entry:
    .quad 0
    .global trampoline_efer
trampoline_efer:
    .quad 0x100
    .global trampoline_end
trampoline_end:
    .global trampoline_offsets
trampoline_offsets:
    .long trampoline_gdt - trampoline_start
    .long trampoline_gdt_base - trampoline_start
    .long trampoline32 - trampoline_start
    .long trampoline_far32 - trampoline_start
    .long trampoline64 - trampoline_start
    .long trampoline_far64 - trampoline_start
    .long trampoline_root - trampoline_start
    .long trampoline_entry - trampoline_start
    .long trampoline_efer - trampoline_start
    .long trampoline_end - trampoline_start

    .section .entry.text, "ax"
    // A secondary CPU in long mode on the boot page tables: find this CPU's block by its APIC number, take its stack.
    .global secondary_entry
secondary_entry:
    movq ROOT_PHYSICAL(%rip), %rax
    movq %rax, %cr3
    xorl %eax, %eax
    cpuid
    movl $1, %r8d
    cmpl $11, %eax
    jb 1f
    movl $11, %eax
    xorl %ecx, %ecx
    cpuid
    testl %ebx, %ebx             // leaf 11 is there only if EBX != 0
    jnz 2f
1:  movl $1, %eax
    cpuid
    shrl $24, %ebx
    movl %ebx, %edx
2:  leaq SECONDARY_TABLE(%rip), %rdi
3:  movq (%rdi), %rax            // end of the table: not ours to run
    cmpq $-1, %rax
    je 4f
    addq $24, %rdi
    cmpl %eax, %edx
    jne 3b
    movq -8(%rdi), %rsp          // stack
    movq -16(%rdi), %rdi         // per-CPU block
    xorl %ebp, %ebp
    call secondary_main
    ud2
4:  cli
    hlt
    jmp 4b
    .text
"#,
    physical_base = const super::boot::PHYSICAL_BASE,
    options(att_syntax)
);
