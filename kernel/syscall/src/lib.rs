//! System calls: decode, call, encode. One file per family of manual pages, one table per architecture.
//!
//! | file | what |
//! |---|---|
//! | `table` | `name = number => handler`: dispatch, and what `docs/compat.md` is made of |
//! | `decode`, `context`, `extensible` | from registers to typed arguments; what handlers ask of the caller |
//! | `process`, `signal`, `credentials`, `limits`, `scheduling`, `timer`, `prctl` | processes |
//! | `memory`, `remote`, `futex` | memory, one's own and others'; futexes |
//! | `file`, `open`, `descriptor`, `directory`, `attributes`, `xattr`, `mount` | files |
//! | `poll`, `event` | waiting for things |
//! | `socket`, `message` | sockets |
//! | `time`, `system` | clocks; the system as a whole |
//!
//! A handler decodes and encodes; the work and its locks are in the crates below. Unknown numbers answer `ENOSYS`.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod attributes;
mod context;
pub mod credentials;
pub mod decode;
pub mod descriptor;
pub mod directory;
pub mod event;
mod extensible;
pub mod file;
pub mod futex;
pub mod inotify;
pub mod limits;
pub mod memory;
pub mod message;
pub mod mount;
pub mod msg;
pub mod open;
pub mod poll;
pub mod prctl;
pub mod process;
pub mod remote;
pub mod scheduling;
pub mod shm;
pub mod signal;
pub mod socket;
pub mod swap;
pub mod system;
pub mod table;
pub mod time;
pub mod timer;
pub mod xattr;

use abi::errno::Result;
use alloc::sync::Arc;
use decode::Context;
use machine::sync::Once;
use machine::user::UserRegisters;
use security::Credentials;
use task::Task;
use vfs::File;

/// Makes a file in memory with this name, for memfd_create(2); a file system in memory registers it through `image`.
pub type MemoryFile = fn(name: &[u8], credentials: &Arc<Credentials>) -> Result<Arc<File>>;

/// See [`MemoryFile`].
pub static MEMORY_FILE: Once<MemoryFile> = Once::new();

/// Performs the system call in the registers; gives what goes to `rax`. `task::run` calls it.
pub fn dispatch(task: &Arc<Task>, registers: &mut UserRegisters) -> isize {
    let number = registers.orig_rax as usize;
    let mut context = Context { task, registers };
    match table::call(number, &mut context) {
        Ok(value) => value as isize,
        Err(error) => error.as_return(),
    }
}
