//! Bugs on purpose, as far as they are the processor's business ([`crate::provoke`]).

use super::apic::{self, Ipi};
use super::cpu;
use crate::memory::{AllocFlags, Frame, PageTable, Perms};
use crate::provoke::Bug;
use alloc::boxed::Box;
use core::arch::asm;

/// Where a user's page is put.
const USER_PAGE: usize = 0x1234_5000;
/// `ret`.
const RETURN: u8 = 0xc3;
/// Code among the constants, to be written to.
static CONSTANT: [u8; 1] = [RETURN];
/// Code among the variables, to be run.
static VARIABLE: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(RETURN);

/// Does what must not be done. Comes back if it was let pass.
pub(crate) fn provoke(bug: Bug) {
    match bug {
        Bug::ReadNull => read(8),
        // SAFETY: raises an exception, nothing else.
        Bug::Invalid => unsafe { asm!("ud2") },
        Bug::WriteText => write(provoke as *const () as usize),
        Bug::WriteConstant => write((&raw const CONSTANT) as usize),
        Bug::RunData => run(VARIABLE.as_ptr() as usize),
        Bug::RunHeap => run(Box::into_raw(Box::new(RETURN)) as usize),
        Bug::ReadUser => with_user_page(read),
        Bug::RunUser => with_user_page(run),
        Bug::StackOverflow => {
            recurse(0);
        }
        // SAFETY: the stack is gone for good: this does not come back.
        Bug::DoubleFault => unsafe { asm!("mov rsp, 0x1000", "push rax", "ud2", options(noreturn)) },
        Bug::Nmi => apic::send_ipi(cpu::cpu_id(), Ipi::Panic),
        Bug::Panic | Bug::PanicLocked => {}
    }
}

fn read(address: usize) {
    // SAFETY: not sound if the page is there and may be read, which is what this finds out; the value is dropped.
    unsafe {
        asm!("mov {value}, [{address}]", address = in(reg) address, value = out(reg) _, options(nostack))
    };
}

fn write(address: usize) {
    // SAFETY: writes the byte that is there, so that nothing is broken if it is let pass.
    unsafe {
        asm!("mov {value}, [{address}]", "mov [{address}], {value}", address = in(reg) address, value = out(reg_byte) _, options(nostack));
    }
}

fn run(address: usize) {
    // SAFETY: a `ret` is there: if it is let pass it comes back at once.
    unsafe { asm!("call {address}", address = in(reg) address) };
}

/// Calls `touch` with the address of a page that a user may read, write and run, holding a `ret`.
fn with_user_page(touch: fn(usize)) {
    let Ok(table) = PageTable::new() else { return };
    let Ok(frame) = Frame::alloc(AllocFlags::ZEROED) else { return };
    frame.write(0, &[RETURN]);
    if table.map(USER_PAGE, frame, Perms::READ | Perms::WRITE | Perms::EXEC).is_err() {
        return;
    }
    table.activate();
    touch(USER_PAGE);
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let mut room = [depth; 64];
    core::hint::black_box(&mut room);
    if depth == u64::MAX { 0 } else { recurse(depth + 1) + room[(depth % 64) as usize] }
}
