//! The debug file system: figures about the kernel's own work, for those who study it. Mounted at `/sys/kernel/debug` by who wants
//! it; only the machine's administrator may mount it and read it.
//!
//! Nothing here is an interface that stays (ADR 84). `netns/`: what network namespaces there are and what cleaning up
//! after them has cost. Locks: none.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use abi::errno::Result;
use alloc::sync::Arc;
use core::fmt::Write;
use vfs::pseudo::{Node, PseudoFs, StaticDirectory};

/// `DEBUGFS_MAGIC`.
const MAGIC: u32 = 0x6462_6720;

/// A file with one number.
fn number(read: fn() -> u64) -> Node {
    Node::text(0o400, move |out| writeln!(out, "{}", read()))
}

fn namespaces() -> StaticDirectory {
    StaticDirectory::new()
        .add("alive", number(|| net::lifetime::counts().0 as u64))
        .add("dying", number(|| net::lifetime::counts().1 as u64))
        .add("edges_visited", number(net::ids::edges_visited))
}

/// Makes the file system type known. Errors: `EBUSY` if that was done before.
pub fn register() -> Result<()> {
    let top = StaticDirectory::new().add("netns", Node::directory(Arc::new(namespaces())).mode(0o700));
    let top = Node::directory(Arc::new(top)).mode(0o700);
    vfs::register_filesystem(PseudoFs::new("debugfs", MAGIC, top))
}
