//! Tests with disks, driven from the host: images are made with Debian's `mkfs.ext4`, a guest does something with them, and then
//! `fsck.ext4 -fn` judges what it left, and Linux reads it.
//!
//! `scripts` are the shell scripts of `tests/disks`, many in one boot; `round_trips` have two kernels read each other's trees; `changes`
//! are disks that fail, grow or go away under way; `ports` are those of virtio-console, which need the same machinery; `power` kills the machine under a writer. A case counts only if it has passed with Linux
//! in Linnet's place: `tests/disks/linux-passed.txt`.

mod changes;
mod debian;
mod ports;
mod power;
mod round_trips;
mod scripts;

use super::gaps::Gaps;
use super::{Counts, TestArguments};
use crate::deps;
use crate::disk::Disk;
use crate::kernel::Profile;
use crate::qemu::{End, Input, Outcome, Vm, keep_console};
use crate::root::Root;
use crate::run::{Kernel, machine};
use crate::util::{say, target_sub, workspace};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const PROGRAM: &str = "/usr/bin/guest-tests";
const RECORD: &str = "tests/disks/linux-passed.txt";
const LIMIT: Duration = Duration::from_secs(300);

/// A part of the family.
type Scene = fn(&mut Family) -> Result<()>;

/// Runs the cases whose name contains a filter.
pub fn run(vm: &Vm, arguments: &TestArguments, kernel: &Kernel) -> Result<Counts> {
    say("disks");
    let record = arguments.record_linux;
    let read = |name: &str| std::fs::read_to_string(workspace().join(name)).unwrap_or_default();
    let mut family = Family {
        vm: Vm { timeout: Some(LIMIT), ..vm.clone() },
        tests_linux: *kernel == Kernel::Linux,
        profile: arguments.profile,
        program: crate::guest::build("tests/guest", "guest-tests")?,
        filter: &arguments.filter,
        long: arguments.long,
        seed: arguments.seed.unwrap_or(1),
        folder: new_folder()?,
        counts: Counts::default(),
        gaps: Gaps::read(*kernel != Kernel::Linnet)?,
        on_linux: read(RECORD).lines().map(str::to_owned).collect(),
        record,
    };
    let scenes: [(&str, Scene); 6] = [
        ("scripts", scripts::run),
        ("machine's end", debian::run),
        ("changes", changes::run),
        ("ports", ports::run),
        ("power", power::run),
        ("round trips", round_trips::run),
    ];
    for (name, scene) in scenes {
        if let Err(error) = scene(&mut family) {
            println!("  FAIL the {name} themselves: {error:#}");
            family.counts.failed += 1;
        }
    }
    // Images of what failed are kept.
    if family.counts.failed == 0 {
        std::fs::remove_dir_all(&family.folder)?;
    }
    if record {
        let text: String = family.on_linux.iter().fold(String::new(), |text, name| text + name + "\n");
        std::fs::write(workspace().join(RECORD), text)?;
    }
    println!("disks: {}", family.counts);
    Ok(family.counts)
}

/// Empty, also when the family runs a second time.
fn new_folder() -> Result<PathBuf> {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    target_sub(&format!("disks/{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed)))
}

/// The cases so far, and what they need.
struct Family<'a> {
    /// The kernel that is tested.
    vm: Vm,
    /// It is Linux.
    tests_linux: bool,
    profile: Profile,
    program: Vec<u8>,
    filter: &'a [String],
    long: bool,
    seed: u64,
    folder: PathBuf,
    counts: Counts,
    gaps: Gaps,
    on_linux: BTreeSet<String>,
    record: bool,
}

/// What a boot gave.
struct Ran {
    output: String,
    outcome: Outcome,
}

impl Ran {
    /// What is wrong if the script did not end well.
    fn wrong(&self) -> Option<String> {
        (self.outcome.end != End::Exited(0)).then(|| {
            let log = keep_console("disks", &self.outcome.console);
            let log = log.map_or(String::new(), |path| format!("; the console is in {}", path.display()));
            format!("{:?}{log}; it said:\n{}", self.outcome.end, last_lines(&self.output, 12))
        })
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .fold(String::new(), |all, line| all + "    " + line + "\n")
}

impl Family<'_> {
    /// Whether a case is to be run: it was asked for, it has passed on Linux (or is to be tried there now), and it is no known gap, unless a
    /// filter names it: what hangs would cost its whole time. What is asked for and not run is counted as skipped. To be asked once for each case.
    fn takes(&mut self, name: &str) -> bool {
        if !self.filter.is_empty() && !self.filter.iter().any(|part| name.contains(part.as_str())) {
            return false;
        }
        let why = if !self.record && !self.on_linux.contains(name) {
            "has not passed on Linux yet"
        } else if self.filter.is_empty() && self.gaps.contains(name) {
            "a known gap"
        } else {
            return true;
        };
        println!("  skip {name}: {why}");
        self.counts.skipped += 1;
        false
    }

    /// The other reader and writer, for cases that need one: it is fetched with the first.
    fn linux(&self) -> Result<Vm> {
        if self.tests_linux {
            return Ok(self.vm.clone());
        }
        let linux = machine(&Kernel::Linux, self.profile, &Root::Busybox)?;
        // With two processors Linux rewrites code that the other one runs, and QEMU's emulation now and then runs a breakpoint of that which is
        // gone already: "Oops: int3" while it boots.
        Ok(Vm { verbose: self.vm.verbose, timeout: self.vm.timeout, cpus: 1, ..linux })
    }

    /// Counts a case: `wrong` is what is wrong with it.
    fn judge(&mut self, name: &str, wrong: Option<String>) {
        match wrong {
            None if self.record => {
                self.on_linux.insert(name.to_owned());
                self.counts.passed += 1;
            }
            None => {
                self.gaps.note_pass(name);
                self.counts.passed += 1;
            }
            Some(_) if self.gaps.contains(name) => {
                println!("  skip {name}: a known gap");
                self.counts.skipped += 1;
            }
            Some(why) => {
                println!("  FAIL {name}: {why}");
                self.counts.failed += 1;
                if self.record {
                    self.on_linux.remove(name);
                }
            }
        }
    }

    /// Boots with these disks and runs a shell script; `steer` sees each line of its output as it comes, and an error of it ends the machine.
    fn boot(
        &self,
        vm: &Vm,
        disks: Vec<Disk>,
        files: &[(String, u32, Vec<u8>)],
        script: &str,
        steer: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Ran> {
        let vm = Vm { disks, ..vm.clone() };
        let mut files = files.to_vec();
        files.push((PROGRAM.to_owned(), 0o755, self.program.clone()));
        let words = ["sh", "-c", script].map(str::to_owned);
        let (mut output, mut told) = (Vec::new(), 0);
        let outcome = vm.run_command(&words, &files, Input::Null, &mut |bytes| {
            output.extend_from_slice(bytes);
            while let Some(length) = output[told..].iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&output[told..told + length]).into_owned();
                told += length + 1;
                steer(line.trim_end())?;
            }
            Ok(())
        })?;
        Ok(Ran { output: String::from_utf8_lossy(&output).into_owned(), outcome })
    }

    /// An empty, sparse image.
    fn empty_image(&self, name: &str, mib: u64) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.img"));
        std::fs::File::create(&path)?.set_len(mib << 20)?;
        Ok(path)
    }

    /// An image with a file system.
    fn image(&self, name: &str, mib: u64, options: &[&str]) -> Result<PathBuf> {
        deps::need(&deps::MKFS_EXT4)?;
        let path = self.empty_image(name, mib)?;
        crate::util::run_quiet(Command::new("mkfs.ext4").args(["-q", "-F"]).args(options).arg(&path))?;
        Ok(path)
    }
}

/// What `fsck.ext4 -fn` finds wrong with an image.
fn fsck(image: &Path) -> Result<Option<String>> {
    let output = Command::new("fsck.ext4").arg("-fn").arg(image).output().context("starting fsck.ext4")?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((!output.status.success()).then(|| format!("fsck of {}:\n{}", image.display(), last_lines(&text, 25))))
}
