//! Machines whose console is virtio-console (`console=hvc0`) and that have no first serial port: the kernel's messages from the first one on, the
//! first program's output, and a panic's last words are there.

use super::{Boots, console_lacks, mismatch, run_script};
use crate::qemu::{ConsoleLine, End, Machine, Vm};
use anyhow::Result;

/// Written before any device was looked for, and when the console came.
const MESSAGES: [&str; 2] = ["CPUs online", "printk: console [hvc0] enabled"];
/// Which terminal it is: the node leads to the line, and the terminal is a terminal.
const SCRIPT: &str = "cat /sys/class/tty/console/active; tty </dev/console
ls -1 /dev/hvc0 /dev/hvc7; echo to the console >/dev/hvc0; echo from a program >/dev/kmsg
cat /sys/class/tty/hvc0/dev; (: </dev/hvc1) 2>&1 | grep -c 'No such device'; exit 42";
const OUTPUT: &str = "hvc0\n/dev/console\n/dev/hvc0\n/dev/hvc7\n229:0\n1\n";

/// Runs them all.
pub(super) fn run(boots: &mut Boots<'_>) -> Result<()> {
    for machine in [Machine::Q35, Machine::Microvm, Machine::MicrovmNoAcpi] {
        boots.test(&format!("console hvc0 {machine:?}"), |vm| {
            let vm = Vm { machine, console: ConsoleLine::Virtio, ..vm };
            let (output, outcome) = run_script(&vm, SCRIPT)?;
            let wrong = mismatch(&outcome, &output, End::Exited(42), OUTPUT);
            let says = [MESSAGES[0], MESSAGES[1], "to the console", "from a program"];
            Ok((wrong.or_else(|| console_lacks(&outcome, &says)), outcome))
        })?;
    }
    boots.test("console hvc0 has a flood of messages whole", |vm| {
        let vm = Vm { console: ConsoleLine::Virtio, ..vm };
        let script = "i=0; while [ $i -lt 500 ]; do echo flood $i end >/dev/kmsg; i=$((i+1)); done; exit 42";
        let (output, outcome) = run_script(&vm, script)?;
        let wrong = mismatch(&outcome, &output, End::Exited(42), "");
        let lines: Vec<String> = (0..500).map(|number| format!("] flood {number} end\r\n")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        Ok((wrong.or_else(|| console_lacks(&outcome, &lines)), outcome))
    })?;
    boots.test("console hvc0 has the last words of a panic", |vm| {
        let mut vm = Vm { console: ConsoleLine::Virtio, ..vm };
        vm.command_line.push_str(" linnet.provoke");
        let (output, outcome) = run_script(&vm, "echo panic-locked >/dev/provoke; echo still here")?;
        let wrong = mismatch(&outcome, &output, End::Panicked, "");
        let says = ["Kernel panic - not syncing: provoked with a lock held", "end Kernel panic"];
        Ok((wrong.or_else(|| console_lacks(&outcome, &says)), outcome))
    })
}
