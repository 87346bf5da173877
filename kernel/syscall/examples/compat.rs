//! Prints `docs/compat.md`: which of Linux's system calls the kernel's table has. `cargo xtask compat` runs it.
//!
//! The names are those of `abi::nr`, the rest is `syscall::table::IMPLEMENTED`: nothing is known here that the kernel
//! does not know. Behind the table comes `differences.md`, which is written by hand. Locks: none.

#![forbid(unsafe_code)]

use abi::nr::x86_64::ALL;
use std::collections::BTreeMap;
use std::fmt::Write;
use syscall::table::{Call, IMPLEMENTED};

/// The newest call of Linux 6.12, mseal(2).
const NEWEST: usize = 462;

fn main() {
    print!("{}", page());
}

/// The whole page.
fn page() -> String {
    let implemented: BTreeMap<usize, &Call> = IMPLEMENTED.iter().map(|call| (call.number, call)).collect();
    let names: Vec<(usize, &str)> = ALL.iter().copied().filter(|(number, _)| *number <= NEWEST).collect();
    let here = |number: &usize| implemented.contains_key(number);
    let calls = names.iter().filter(|(number, _)| here(number)).count();
    let parts = implemented.values().filter(|call| call.number <= NEWEST && !call.remark.is_empty()).count();
    let newer = implemented.keys().filter(|number| **number > NEWEST).count();
    let mut page = format!(
        "# System calls\n\n\
         Made by `cargo xtask compat` from the kernel's table (`kernel/syscall/src/table.rs`); do not edit. The calls of x86-64 up to\n\
         Linux 6.12. \"Yes\" means that the call is in the table and nothing is known to be missing of it; what the tests say about its\n\
         behaviour is in [status](status.md). A call that is not in the table answers `ENOSYS`.\n\n\
         | | calls |\n|---|---|\n\
         | in Linux 6.12 | {} |\n| here | {calls} |\n| of these in part | {parts} |\n| missing | {} |\n| newer than Linux 6.12, here | {newer} |\n\n\
         | number | call | here | remark |\n|---|---|---|---|\n",
        names.len(),
        names.len() - calls,
    );
    for (number, name) in names {
        let (state, remark) = match implemented.get(&number) {
            None => ("no", ""),
            Some(call) if call.remark.is_empty() => ("yes", ""),
            Some(call) => ("in part", call.remark),
        };
        // Writing to a string does not fail.
        let _ = writeln!(page, "| {number} | {name} | {state} | {remark} |");
    }
    page + include_str!("differences.md")
}
