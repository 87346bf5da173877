//! Socket filters: a classic BPF program that says how much of each received message is kept (`SO_ATTACH_FILTER`).
//!
//! Key type: [`Filter`]: a program that was checked. The machine is `linnet_lib::bpf`. Locks: the socket's filter slot, a leaf.

use abi::errno::{Errno, Result};
use abi::socket::{SockFilter, SockFprog};
use alloc::sync::Arc;
use linnet_lib::bpf::{self, Instruction, Program};
use machine::memory::try_arc;
use mm::user::{UserPtr, UserSlice};
use zerocopy::FromBytes;

use crate::core::SocketCore;
use crate::options::Switches;

/// An attached filter.
pub struct Filter {
    program: Program,
}

impl Filter {
    /// A filter of these instructions. `EINVAL`: not a valid program.
    pub fn new(instructions: &[Instruction]) -> Result<Filter> {
        Ok(Filter { program: Program::new(instructions)? })
    }

    /// How many bytes of the message are kept; 0: it is dropped.
    pub fn run(&self, message: &dyn bpf::Packet) -> usize {
        self.program.run(message) as usize
    }

    /// Bytes it takes.
    pub fn memory(&self) -> usize {
        self.program.instructions().len() * size_of::<SockFilter>()
    }

    /// The program, for `SO_GET_FILTER`.
    pub fn instructions(&self) -> &[Instruction] {
        self.program.instructions()
    }
}

/// `SO_ATTACH_FILTER`. `EINVAL`: no `struct sock_fprog`, or an invalid program; `EFAULT`; `EPERM`: locked; `ENOMEM`.
pub(crate) fn attach(core: &SocketCore, value: &[u8]) -> Result<()> {
    if value.len() != size_of::<SockFprog>() {
        return Err(Errno::EINVAL);
    }
    let program = SockFprog::read_from_bytes(value).map_err(|_| Errno::EINVAL)?;
    if core.options.has(Switches::LOCK_FILTER) {
        return Err(Errno::EPERM);
    }
    let count = usize::from(program.len);
    if count == 0 || count > bpf::INSTRUCTIONS_MAX || program.filter == 0 {
        return Err(Errno::EINVAL);
    }
    let text = UserSlice::<SockFilter>::new(UserPtr::new(program.filter as usize), count).read_to_vec()?;
    let mut instructions = alloc::vec::Vec::new();
    instructions.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    instructions.extend(text.iter().map(|one| Instruction {
        code: one.code,
        jump_true: one.jt,
        jump_false: one.jf,
        operand: one.k,
    }));
    let filter: Arc<Filter> = try_arc(Filter::new(&instructions)?)?;
    drop(core.set_filter(Some(filter)));
    Ok(())
}

/// `SO_DETACH_FILTER`. `EPERM`: locked; `ENOENT`: there is none.
pub(crate) fn detach(core: &SocketCore) -> Result<()> {
    if core.options.has(Switches::LOCK_FILTER) {
        return Err(Errno::EPERM);
    }
    core.set_filter(None).map(drop).ok_or(Errno::ENOENT)
}
