//! `cargo xtask test`: host tests, then guest tests. Ends with `N passed, N failed, N skipped`.
//!
//! A guest test is an ordinary Linux program and counts only if the same binary has passed on Linux in the same
//! virtual machine: `--record-linux` makes the records (`tests/guest/linux-passed.txt`,
//! `tests/disks/linux-passed.txt`, `tests/busybox/expected.txt`, `tests/debian/expected.txt`, `tests/transcripts/linux.txt`, `tests/terminal/*.expected`) that
//! the other runs are compared with.

mod boot;
mod busybox;
mod cases;
mod debian;
mod disks;
mod gaps;
mod host;
mod recorded;
mod terminal;
mod transcripts;

use crate::kernel::Profile;
use crate::qemu::Vm;
use crate::root::Root;
use crate::run::{Kernel, machine};
use anyhow::Result;
use clap::Args;

/// What `cargo xtask test` takes.
#[derive(Args)]
pub struct TestArguments {
    /// Only the host tests, with loom's and Miri's.
    #[arg(long)]
    host: bool,
    /// Only `lib/` under Miri.
    #[arg(long)]
    miri: bool,
    /// Only the cases of tests/guest.
    #[arg(long)]
    guest: bool,
    /// Only the command lines of tests/busybox.
    #[arg(long)]
    busybox: bool,
    /// Only the scripts of tests/debian, in a whole Debian.
    #[arg(long)]
    debian: bool,
    /// Only the transcripts of system calls.
    #[arg(long)]
    transcripts: bool,
    /// Only the scenes of tests/terminal: someone types at the console.
    #[arg(long)]
    terminal: bool,
    /// Only what is done with disks.
    #[arg(long)]
    disks: bool,
    /// Only the boots with different machines.
    #[arg(long)]
    boot: bool,
    /// The kernel for the guest tests.
    #[arg(long, default_value = "linnet")]
    kernel: Kernel,
    /// How Linnet is built.
    #[arg(long, value_enum, default_value = "release")]
    profile: Profile,
    /// Run the guest tests on Linux and keep what came out as the truth.
    #[arg(long)]
    record_linux: bool,
    /// Run the long cases too: hours of what the short ones do for seconds.
    #[arg(long)]
    long: bool,
    /// What the random cases begin with (each tells its seed when it fails).
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Virtual CPUs for the guest tests.
    #[arg(long, default_value_t = 2)]
    smp: u32,
    /// Memory in MiB for the guest tests.
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    mem: u32,
    /// Show the guest's console.
    #[arg(long, short)]
    verbose: bool,
    /// Only guest cases (with `--boot`: boots, `--terminal`: scenes, `--debian`: scripts, `--disks`: their cases) whose name contains one of these (`=NAME` for exactly one case).
    filter: Vec<String>,
}

/// How many tests ended how.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// As they should.
    pub passed: u64,
    /// Otherwise.
    pub failed: u64,
    /// Not run, for a reason that was told.
    pub skipped: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// `cargo xtask test`.
pub fn command(arguments: &TestArguments) -> Result<u8> {
    let everything = !(arguments.host
        || arguments.miri
        || arguments.guest
        || arguments.busybox
        || arguments.boot
        || arguments.debian
        || arguments.disks
        || arguments.transcripts
        || arguments.terminal);
    let wants_host =
        arguments.host || everything && !arguments.record_linux && arguments.kernel == Kernel::Linnet;
    let mut all = Counts::default();
    if wants_host {
        all += host::run(arguments.long)?;
    } else if arguments.miri {
        all += host::miri()?;
    }
    let (guest, busybox) = (arguments.guest || everything, arguments.busybox || everything);
    let transcripts = arguments.transcripts || everything;
    let debian = arguments.debian || everything;
    let boot = arguments.boot || everything && !arguments.record_linux && arguments.kernel == Kernel::Linnet;
    let terminal = arguments.terminal || everything;
    let disks = arguments.disks || everything;
    if guest || busybox || boot || debian || disks || transcripts || terminal {
        all += on_guest(arguments, &Families { boot, busybox, debian, disks, transcripts, terminal, guest })?;
    }
    println!("{all}");
    Ok(u8::from(all.failed > 0))
}

/// Which families run in the guest.
struct Families {
    boot: bool,
    busybox: bool,
    debian: bool,
    disks: bool,
    transcripts: bool,
    terminal: bool,
    guest: bool,
}

fn on_guest(arguments: &TestArguments, families: &Families) -> Result<Counts> {
    let kernel = if arguments.record_linux { &Kernel::Linux } else { &arguments.kernel };
    let mut vm: Vm = machine(kernel, arguments.profile, &Root::Busybox)?;
    vm.verbose = arguments.verbose;
    vm.cpus = arguments.smp;
    vm.memory_mib = arguments.mem;
    let mut all = Counts::default();
    if families.boot && *kernel == Kernel::Linnet {
        // The filter names guest cases unless nothing but boots was asked for.
        all += steadily(false, || boot::run(&vm, if arguments.boot { &arguments.filter } else { &[] }))?;
    }
    // A bug of the kernel must not hide behind a program that was killed.
    vm.command_line.push_str(" oops=panic");
    let record = arguments.record_linux;
    if families.busybox && arguments.filter.is_empty() {
        all += steadily(record, || busybox::run(&vm, record))?;
    }
    if families.transcripts {
        all += steadily(record, || transcripts::run(&vm, &arguments.filter, record))?;
    }
    if families.terminal && (arguments.terminal || arguments.filter.is_empty()) {
        let filter = if arguments.terminal { arguments.filter.as_slice() } else { &[] };
        all += steadily(record, || terminal::run(&vm, kernel, filter, record))?;
    }
    if families.guest {
        let mut options: Vec<String> = arguments.long.then(|| "--long".to_owned()).into_iter().collect();
        options.extend(arguments.seed.map(|seed| format!("--seed={seed}")));
        all += steadily(record, || cases::run(&vm, &arguments.filter, &options, record))?;
    }
    if families.debian && (arguments.debian || arguments.filter.is_empty()) {
        all += steadily(record, || debian::run(arguments, kernel))?;
    }
    if families.disks && (arguments.disks || arguments.filter.is_empty()) {
        all += steadily(record, || disks::run(&vm, arguments, kernel))?;
    }
    Ok(all)
}

/// Runs a family of guest tests; if something fails, once more. What fails in the first run only is unsteady: it is told and counted
/// as skipped, and has its line in the notes of whoever sees it, because it is a race to be found.
fn steadily(record: bool, mut family: impl FnMut() -> Result<Counts>) -> Result<Counts> {
    let first = family()?;
    if first.failed == 0 || record {
        return Ok(first);
    }
    crate::util::say("something failed; once more, to tell what is unsteady");
    let mut second = family()?;
    if second.failed == 0 {
        println!("  unsteady: {} failed in the first of two runs, see above", first.failed);
        second.skipped += first.failed;
        second.passed = second.passed.saturating_sub(first.failed);
    }
    Ok(second)
}
