//! A client of 9P2000.L: folders of another machine, through a channel that a driver has made known (virtio-9p).
//!
//! | file | what |
//! |---|---|
//! | `protocol` | the bytes of messages and answers |
//! | `call` | one message under way; tags |
//! | `client` | a session: each operation of the protocol |
//! | `node`, `file` | what the VFS asks of inodes and of open files |
//! | `mount` | the type, its options, the beginning and the end |
//!
//! Key types: [`mount::NineP`], `client::Client`, `node::Node`. Nothing is cached but what is mapped: see docs/adr/0121-a-share-caches-nothing.md. The server is not trusted to
//! make sense: what does not is an error of the call. Neighbours: `channel` below. Locks: see each file; none is held while the server is
//! waited for, but the inode's by writers, a directory's by changes and `Node::mapped`.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod call;
mod client;
mod file;
pub mod mount;
mod node;
mod protocol;
#[cfg(test)]
mod tests;
