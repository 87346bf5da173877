//! Pure algorithms with no machine under them: classic BPF, range map, radix tree, ELF, cpio, paths, line discipline, netlink, routes, partition tables,
//! the kernel's command line.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bpf;
pub mod command_line;
pub mod cpio;
pub mod decompress;
pub mod elf;
pub mod fib;
pub mod id_table;
pub mod ldisc;
pub mod neighbour;
pub mod netlink;
pub mod partition_table;
pub mod path;
pub mod radix_tree;
pub mod range_map;
pub mod reassembly;
pub mod tree;
pub mod wire;

/// How long a random test may be: Miri is a thousand times slower than the processor.
#[cfg(test)]
const fn length(length: usize) -> usize {
    if cfg!(miri) { length / 16 } else { length }
}
