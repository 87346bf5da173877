//! Bugs of the kernel's own, provoked through `/dev/provoke`: the thread that meets one ends and the rest goes on, or the machine
//! panics; either way the console says what it was, with a backtrace that has names.

use super::{Boots, LIMIT, console_lacks, mismatch, run_script};
use crate::qemu::{End, Vm};
use anyhow::Result;
use std::time::Duration;

/// Bugs that only their thread dies of, and what is said of each.
const SURVIVED: [(&str, &str); 9] = [
    ("panic", ": provoked"),
    ("read-null", "address 0x8, read of a page that is not there"),
    ("invalid", "Oops: invalid instruction (6)"),
    ("write-text", "write to a page that must not be"),
    ("write-constant", "write to a page that must not be"),
    ("run-data", "execution of a page that must not be"),
    ("run-heap", "execution of a page that must not be"),
    ("read-user", "address 0x12345000, read of a page that must not be"),
    ("run-user", "address 0x12345000, execution of a page that must not be"),
];

/// Bugs that the machine dies of, and its last words.
const FATAL: [(&str, &str); 3] = [
    ("panic-locked", "Kernel panic - not syncing: provoked with a lock held"),
    ("stack-overflow", "Kernel panic - not syncing: kernel stack overflow (touched the guard page)"),
    ("double-fault", "Kernel panic - not syncing: Fatal exception: double fault"),
];

/// What a shell says of a process that SIGSEGV has killed.
const KILLED: &str = "Segmentation fault\n139\n";
const CALLER: &str = "<devfs::provoke::Provoke as vfs::file::FileOperations>::write+0x";
const TAINTED: &str = "cat /proc/sys/kernel/tainted";

/// Runs them all.
pub(super) fn run(boots: &mut Boots<'_>) -> Result<()> {
    for (bug, says) in SURVIVED {
        boots.test(&format!("provoked {bug} ends its thread"), |vm| {
            let script =
                format!("{TAINTED}; (echo {bug} >/dev/provoke) 2>/dev/null; echo $?; {TAINTED}; exit 42");
            let (output, outcome) = run_script(&with_device(vm, ""), &script)?;
            let wrong = mismatch(&outcome, &output, End::Exited(42), &format!("0\n{KILLED}128\n"));
            Ok((wrong.or_else(|| console_lacks(&outcome, &["Oops: ", says, CALLER])), outcome))
        })?;
    }
    for (bug, says) in FATAL {
        dies(boots, &format!("provoked {bug} ends the machine"), bug, "", &[says, CALLER])?;
    }
    let fatal_exception = "Kernel panic - not syncing: Fatal exception: page fault";
    dies(boots, "provoked oops=panic", "read-null", "oops=panic", &[fatal_exception, CALLER])?;
    let rebooting = "Rebooting in 1 seconds..";
    dies(boots, "provoked panic=1", "panic-locked", "panic=1", &[rebooting, "provoked with a lock held"])?;
    boots.test("provoked nmi is reported and passes", |vm| {
        let (output, outcome) = run_script(&with_device(vm, ""), "echo nmi >/dev/provoke; echo $?; exit 42")?;
        let wrong = mismatch(&outcome, &output, End::Exited(42), "0\n");
        Ok((wrong.or_else(|| console_lacks(&outcome, &["NMI received for unknown reason on CPU"])), outcome))
    })?;
    storm(boots)
}

/// One boot that this bug ends.
fn dies(boots: &mut Boots<'_>, name: &str, bug: &str, parameters: &str, says: &[&str]) -> Result<()> {
    boots.test(name, |vm| {
        let vm = with_device(vm, parameters);
        let (output, outcome) = run_script(&vm, &format!("echo {bug} >/dev/provoke; echo still here"))?;
        let wrong = mismatch(&outcome, &output, End::Panicked, "");
        Ok((wrong.or_else(|| console_lacks(&outcome, says)), outcome))
    })
}

/// Many bugs at once on several CPUs: every thread's end is its own.
fn storm(boots: &mut Boots<'_>) -> Result<()> {
    boots.test("provoked bugs in a row on 4 CPUs", |vm| {
        let vm =
            Vm { cpus: 4, timeout: Some(LIMIT + Duration::from_secs(60)), ..with_device(vm, "loglevel=1") };
        let script = "i=0; while [ $i -lt 50 ]; do
            (echo panic >/dev/provoke) & (echo read-null >/dev/provoke) & (echo run-user >/dev/provoke) &
            i=$((i+1)); done 2>/dev/null; wait; ls / | grep -c '^bin$'; exit 42";
        let (output, outcome) = run_script(&vm, script)?;
        Ok((mismatch(&outcome, &output, End::Exited(42), "1\n"), outcome))
    })
}

fn with_device(mut vm: Vm, parameters: &str) -> Vm {
    vm.command_line = format!("{} linnet.provoke {parameters}", vm.command_line);
    vm
}
