//! The scripts of `tests/debian`: Debian's own programs, unmodified, in a whole Debian, compared with Linux (see `recorded`).
//!
//! `tests/debian/packages` says what is installed. Each script is run by a fresh bash in an empty folder of its own, with a time
//! limit (60 seconds, or what a line `# limit: N s` at its top says); a script with a line `# masked` there has its digits masked. A script that is a known gap on Linnet is run only if
//! a filter names it: what hangs would cost its whole time.

use super::gaps::Gaps;
use super::{Counts, TestArguments};
use crate::qemu::Input;
use crate::root::Root;
use crate::root::debian::Debian;
use crate::run::{Kernel, machine};
use crate::util::{say, workspace};
use anyhow::Result;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(1800);
const FOLDER: &str = "tests/debian";

/// Runs the scripts whose name contains a filter.
pub fn run(arguments: &TestArguments, kernel: &Kernel) -> Result<Counts> {
    let folder = workspace().join(FOLDER);
    let debian = Debian::listed(&format!("{FOLDER}/packages"))?;
    let mut vm = machine(kernel, arguments.profile, &Root::Debian(debian))?;
    (vm.verbose, vm.timeout) = (arguments.verbose, Some(LIMIT));
    vm.command_line.push_str(" oops=panic");
    say("scripts in a whole Debian");
    let wanted = |name: &str| {
        let name = name.trim_start_matches("~ ");
        arguments.filter.is_empty() || arguments.filter.iter().any(|part| name.contains(part.as_str()))
    };
    let mut files = vec![("/debian-test/driver".to_owned(), 0o755, std::fs::read(folder.join("driver"))?)];
    let gaps = Gaps::read(*kernel != Kernel::Linnet)?;
    let is_gap = |name: &str| gaps.contains(&format!("$ {name}")) || gaps.contains(&format!("$ ~ {name}"));
    for path in crate::util::files_below(&folder, "sh") {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if wanted(&name) && (!arguments.filter.is_empty() || !is_gap(&name)) {
            files.push((format!("/debian-test/scripts/{name}"), 0o644, std::fs::read(&path)?));
        }
    }
    let mut output = Vec::new();
    let words = ["bash".to_owned(), "/debian-test/driver".to_owned()];
    let outcome = vm.run_command(&words, &files, Input::Null, &mut |bytes| {
        output.extend_from_slice(bytes);
        Ok(())
    })?;
    let expected = folder.join("expected.txt");
    super::recorded::judge("debian", (&output, &outcome), &expected, arguments.record_linux, wanted)
}
