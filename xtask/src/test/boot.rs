//! Boots of Linnet: machines of different shape, kernel parameters, another console, damaged initramfs, bugs of the kernel's own.
//!
//! A boot either runs a command whose output and status are compared, or is expected to end in a panic that says why.
//! What must never come is a kernel that dies in another way: `Oops`, or a machine that vanishes or hangs.

mod console;
mod damage;
mod parameters;
mod processors;
mod provoked;

use super::Counts;
use crate::qemu::{End, Input, Machine, Outcome, Vm, keep_console};
use crate::util::say;
use anyhow::Result;
use std::time::Duration;

/// (CPUs, MiB of memory, hardware)
const SHAPES: [(u32, u32, Machine); 8] = [
    (1, 512, Machine::Q35),
    (2, 512, Machine::Q35),
    (4, 512, Machine::Q35),
    (8, 512, Machine::Q35),
    (64, 1024, Machine::Q35),
    (1, 64, Machine::Q35),
    (1, 512, Machine::Microvm),
    (2, 512, Machine::Microvm),
];

/// How long a boot may take; 64 emulated CPUs on two real ones are slow.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs all whose name contains one of the filters (all if there are none).
pub fn run(vm: &Vm, filter: &[String]) -> Result<Counts> {
    say("boots");
    let mut boots = Boots { vm, filter, counts: Counts::default() };
    for (cpus, memory_mib, machine) in SHAPES {
        boots.shape(cpus, memory_mib, machine)?;
    }
    parameters::run(&mut boots)?;
    processors::run(&mut boots)?;
    console::run(&mut boots)?;
    damage::run(&mut boots)?;
    provoked::run(&mut boots)?;
    println!("boots: {}", boots.counts);
    Ok(boots.counts)
}

/// The boots so far.
struct Boots<'v> {
    vm: &'v Vm,
    filter: &'v [String],
    counts: Counts,
}

impl Boots<'_> {
    /// Runs one test if it is wanted: `test` gives what is wrong, or nothing, and the console to keep.
    fn test(&mut self, name: &str, test: impl FnOnce(Vm) -> Result<(Option<String>, Outcome)>) -> Result<()> {
        let wanted = self.filter.is_empty() || self.filter.iter().any(|part| name.contains(part.as_str()));
        if !wanted {
            return Ok(());
        }
        let vm = Vm { timeout: Some(LIMIT), ..self.vm.clone() };
        let (wrong, outcome) = test(vm)?;
        match wrong {
            None => self.counts.passed += 1,
            Some(why) => {
                let log = keep_console(&format!("boot-{}", name.replace([' ', '/'], "-")), &outcome.console)?;
                println!("  FAIL {name}: {why}; the console is in {}", log.display());
                self.counts.failed += 1;
            }
        }
        Ok(())
    }

    fn shape(&mut self, cpus: u32, memory_mib: u32, machine: Machine) -> Result<()> {
        let name = format!("shape {cpus} CPUs {memory_mib} MiB {machine:?}");
        self.test(&name, |vm| {
            let vm = Vm { cpus, memory_mib, machine, ..vm };
            let (output, outcome) = run_script(&vm, "nproc; uname -s; exit 42")?;
            let expected = format!("{cpus}\nLinux\n");
            Ok((mismatch(&outcome, &output, End::Exited(42), &expected), outcome))
        })
    }
}

/// Runs a shell script in the guest; its output and how the machine ended.
fn run_script(vm: &Vm, script: &str) -> Result<(String, Outcome)> {
    let mut output = Vec::new();
    let words = ["sh", "-c", script].map(str::to_owned);
    let outcome = vm.run_command(&words, &[], Input::Null, &mut |bytes| {
        output.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok((String::from_utf8_lossy(&output).into_owned(), outcome))
}

/// What is wrong with a run that should have ended and said so.
fn mismatch(outcome: &Outcome, output: &str, end: End, expected: &str) -> Option<String> {
    (outcome.end != end || output != expected).then(|| format!("{:?}, output {output:?}", outcome.end))
}

/// What is wrong with a console that should say all of this, and nothing of a crash that nobody asked for.
fn console_lacks(outcome: &Outcome, texts: &[&str]) -> Option<String> {
    let console = String::from_utf8_lossy(&outcome.console);
    texts
        .iter()
        .find(|text| !console.contains(**text))
        .map(|text| format!("{:?}, and the console does not say {text:?}", outcome.end))
}
