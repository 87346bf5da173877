//! Pure algorithms with no machine under them: range map, radix tree, ELF, cpio, paths, line discipline,
//! the kernel's command line.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod command_line;
pub mod cpio;
pub mod decompress;
pub mod elf;
pub mod ldisc;
pub mod path;
pub mod radix_tree;
pub mod range_map;
