//! Processors that lack what newer ones have, and the protections of one that has everything.

use super::{Boots, console_lacks, mismatch, run_script};
use crate::qemu::{End, Vm};
use anyhow::Result;

/// Old models, and new ones without single features: each takes another way through the kernel's entry, exit, user copies, state of the
/// floating-point unit, page tables or random numbers.
const MODELS: [&str; 8] = [
    "qemu64",
    "Nehalem",
    "max,-smap",
    "max,-smep,-umip",
    "max,-fsgsbase",
    "max,-xsave",
    "max,-pdpe1gb",
    "max,-rdrand,-rdseed",
];

/// Programs, floating point, a signal and a fork on two CPUs.
const SCRIPT: &str = "nproc; awk 'BEGIN { print 1 / 3, 2 / 7 }'; sleep 100 & kill -TERM $!; wait $! 2>/dev/null; echo $?; exit 42";
const OUTPUT: &str = "2\n0.333333 0.285714\n143\n";

/// What Linux says of itself, too.
const NO_WRITABLE_CODE: &str = "x86/mm: Checked W+X mappings: passed, no W+X pages found.";

/// Runs them all.
pub(super) fn run(boots: &mut Boots<'_>) -> Result<()> {
    for model in MODELS {
        boots.test(&format!("processor {model}"), |vm| {
            let vm = Vm { cpu_model: model.to_owned(), cpus: 2, ..vm };
            let (output, outcome) = run_script(&vm, SCRIPT)?;
            let wrong = mismatch(&outcome, &output, End::Exited(42), OUTPUT);
            Ok((wrong.or_else(|| console_lacks(&outcome, &[NO_WRITABLE_CODE])), outcome))
        })?;
    }
    boots.test("protections are on", |vm| {
        let (output, outcome) = run_script(&vm, "exit 42")?;
        let wrong = mismatch(&outcome, &output, End::Exited(42), "");
        let says = ["cpu: NX SMEP SMAP UMIP", NO_WRITABLE_CODE];
        Ok((wrong.or_else(|| console_lacks(&outcome, &says)), outcome))
    })
}
