//! The command lines of `tests/busybox/commands`, compared byte by byte with what they gave on Linux.
//!
//! Every line is run by a fresh shell in one working folder; its output and status are recorded (see `recorded`).

use super::Counts;
use crate::qemu::{Input, Vm};
use crate::util::{say, workspace};
use anyhow::{Context, Result};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);
const FOLDER: &str = "tests/busybox";

/// Runs all lines; `record` makes their results the expected ones.
pub fn run(vm: &Vm, record: bool) -> Result<Counts> {
    let folder = workspace().join(FOLDER);
    let commands = std::fs::read(folder.join("commands")).context("reading the command lines")?;
    let driver = std::fs::read(folder.join("driver")).context("reading the driver")?;
    say("BusyBox command lines");
    let files = [
        ("/busybox-test/commands".to_owned(), 0o644, commands),
        ("/busybox-test/driver".to_owned(), 0o755, driver),
    ];
    let mut output = Vec::new();
    let mut vm = vm.clone();
    vm.timeout = Some(LIMIT);
    let outcome =
        vm.run_command(&["/busybox-test/driver".to_owned()], &files, Input::Null, &mut |bytes| {
            output.extend_from_slice(bytes);
            Ok(())
        })?;
    let expected = folder.join("expected.txt");
    super::recorded::judge("busybox", (&output, &outcome), &expected, record, |_| true)
}
