//! Virtual memory: address spaces, faults, the page cache, reclaim and the OOM killer.
//!
//! | file | what |
//! |---|---|
//! | `space` | [`AddressSpace`]: the map of mappings, how it is changed, accounting, **lock order** |
//! | `vma` | [`Vma`]: one mapping, and the rule that lets faults run without a lock |
//! | `fault` | page faults |
//! | `map`, `unmap`, `protect`, `remap`, `advise`, `lock`, `sync`, `fork` | the system calls on them |
//! | `place`, `layout` | where mappings go |
//! | `remote`, `proc`, `futex_key` | looking in from outside |
//! | `page_cache` | [`PageCache`]: the pages of a file |
//! | `io`, `user` | moving bytes between user memory, frames and kernel buffers |
//! | `lend` | pages of programs that devices read or write |
//! | `swap` | pages that no file has, on a disk |
//! | `write_back` | devices that dirty pages go to, and the threads that write them |
//! | `commit`, `stats`, `reclaim`, `oom` | promises, figures, and what happens when memory runs out |
//!
//! Below: `machine` (frames, page tables, locks), `linnet_lib` (range map, radix tree). Above: `vfs`, `task`.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod advise;
pub mod commit;
mod fault;
mod fork;
mod futex_key;
pub mod io;
mod keys;
mod layout;
mod lend;
mod lock;
mod map;
pub mod oom;
pub mod page_cache;
mod place;
mod proc;
mod protect;
pub mod reclaim;
mod remap;
mod remote;
mod space;
pub mod stats;
pub mod swap;
mod sync;
#[cfg(test)]
mod tests;
mod unmap;
pub mod user;
mod vma;
pub mod write_back;

pub use fault::{FaultError, FaultInfo};
pub use futex_key::FutexKey;
pub use layout::{Layout, MMAP_MINIMUM_ADDRESS, Randomize};
pub use lend::Lent;
pub use map::{MmapBacking, MmapRequest};
pub use page_cache::{Access, Fill, PageCache, Pager, ReadAhead, Retention, WriteBack, WriteBackMode};
pub use proc::Smaps;
pub use remote::RemoteAccess;
pub use space::{AddressSpace, Limits, MAX_MAP_COUNT, Mappings, Privileges, ProgramInfo, Usage};
pub use vma::{Backing, FileAccess, MappedFile, Protection, Sharing, Vma, VmaFlags};
pub use write_back::BackingDevice;

/// Wires the crate to the machine: from now on an allocation that finds no memory reclaims some. Once, at boot.
pub fn init() {
    stats::mark_zero_page();
    swap::init();
    machine::memory::set_reclaim_hook(reclaim::reclaim);
}

/// Starts the threads that write dirty pages back and free memory. Once, at boot, when the scheduler's own threads run.
pub fn start_threads() {
    write_back::enable();
    reclaim::start();
}
