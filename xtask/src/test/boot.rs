//! Boots Linnet on machines of different shape; each must reach the shell and tell a command's status.

use super::Counts;
use super::gaps::Gaps;
use crate::qemu::{End, Input, Machine, Vm, keep_console};
use crate::util::say;
use anyhow::Result;
use std::time::Duration;

/// (CPUs, MiB of memory, hardware)
const SHAPES: [(u32, u32, Machine); 6] = [
    (1, 512, Machine::Q35),
    (2, 512, Machine::Q35),
    (4, 512, Machine::Q35),
    (8, 512, Machine::Q35),
    (1, 64, Machine::Q35),
    (2, 512, Machine::Microvm),
];

/// Runs them all.
pub fn run(vm: &Vm) -> Result<Counts> {
    say("boots");
    let gaps = Gaps::read(false)?;
    let mut counts = Counts::default();
    for (cpus, memory_mib, machine) in SHAPES {
        let name = format!("boot with {cpus} CPUs, {memory_mib} MiB, {machine:?}");
        let mut vm = Vm { cpus, memory_mib, machine, ..vm.clone() };
        vm.timeout = Some(Duration::from_secs(60));
        let words = ["sh", "-c", "nproc; uname -s; exit 42"].map(str::to_owned);
        let mut output = Vec::new();
        let outcome = vm.run_command(&words, &[], Input::Null, &mut |bytes| {
            output.extend_from_slice(bytes);
            Ok(())
        })?;
        let expected = format!("{cpus}\nLinux\n");
        if outcome.end == End::Exited(42) && output == expected.as_bytes() {
            gaps.note_pass(&name);
            counts.passed += 1;
        } else if gaps.contains(&name) {
            println!("  skip {name}: a known gap");
            counts.skipped += 1;
        } else {
            let log = keep_console(&format!("boot-{cpus}-{memory_mib}-{machine:?}"), &outcome.console)?;
            let output = String::from_utf8_lossy(&output);
            println!(
                "  FAIL {name}: {:?}, output {output:?}; the console is in {}",
                outcome.end,
                log.display()
            );
            counts.failed += 1;
        }
    }
    println!("boots: {counts}");
    Ok(counts)
}
