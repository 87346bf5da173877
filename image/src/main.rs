//! The bootable kernel: boot order and all the wiring, nothing else.

fn main() {}
