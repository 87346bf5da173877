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
use anyhow::{Result, anyhow};
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
    let on_linnet = !arguments.record_linux && arguments.kernel == Kernel::Linnet;
    // A filter names guest cases unless it was said what it is for.
    let whole = everything && arguments.filter.is_empty();
    let families = Families {
        host: arguments.host || everything && on_linnet,
        boot: on_linnet && (arguments.boot || everything),
        busybox: arguments.filter.is_empty() && (arguments.busybox || everything),
        transcripts: arguments.transcripts || everything,
        terminal: arguments.terminal || whole,
        guest: arguments.guest || everything,
        debian: arguments.debian || whole,
        disks: arguments.disks || whole,
    };
    let all = if arguments.miri && !families.host { host::miri()? } else { families.run(arguments)? };
    println!("{all}");
    Ok(u8::from(all.failed > 0))
}

/// What runs one after the other.
type Lane<'a> = Vec<Box<dyn FnOnce() -> Result<Counts> + Send + 'a>>;

/// Which families run.
struct Families {
    host: bool,
    boot: bool,
    busybox: bool,
    transcripts: bool,
    terminal: bool,
    guest: bool,
    debian: bool,
    disks: bool,
}

impl Families {
    /// Runs them, the guests' beside each other: those that wait for a guest's clock leave the processors to others. Linux is recorded with nothing
    /// beside it.
    fn run(&self, arguments: &TestArguments) -> Result<Counts> {
        let record = arguments.record_linux;
        let kernel = if record { &Kernel::Linux } else { &arguments.kernel };
        let filter = arguments.filter.as_slice();
        let vm = || -> Result<Vm> {
            let mut vm = machine(kernel, arguments.profile, &Root::Busybox)?;
            vm.verbose = arguments.verbose;
            vm.cpus = arguments.smp;
            vm.memory_mib = arguments.mem;
            Ok(vm)
        };
        // A bug of the kernel must not hide behind a program that was killed.
        let strict = || -> Result<Vm> {
            let mut vm = vm()?;
            vm.command_line.push_str(" oops=panic");
            Ok(vm)
        };
        // The kernel is built beside the host tests.
        let (mut host, mut image) = (Lane::new(), Lane::new());
        if self.host {
            host.push(Box::new(|| host::run(arguments.long)));
        }
        if self.host && self.guest {
            image.push(Box::new(move || vm().map(|_| Counts::default())));
        }
        let mut all = beside_each_other([host, image])?;
        let (mut waiting, mut working, mut disks) = (Lane::new(), Lane::new(), Lane::new());
        if self.transcripts {
            waiting.push(Box::new(move || {
                let vm = strict()?;
                steadily("transcripts", record, || transcripts::run(&vm, filter, record))
            }));
        }
        if self.terminal {
            waiting.push(Box::new(move || {
                let vm = strict()?;
                steadily("terminal", record, || terminal::run(&vm, kernel, filter, record))
            }));
        }
        if self.boot {
            // The filter names guest cases unless nothing but boots was asked for.
            let filter = if arguments.boot { filter } else { &[] };
            working.push(Box::new(move || {
                let vm = vm()?;
                steadily("boots", false, || boot::run(&vm, filter))
            }));
        }
        if self.busybox {
            working.push(Box::new(move || {
                let vm = strict()?;
                steadily("busybox", record, || busybox::run(&vm, record))
            }));
        }
        if self.guest {
            let mut options: Vec<String> = arguments.long.then(|| "--long".to_owned()).into_iter().collect();
            options.extend(arguments.seed.map(|seed| format!("--seed={seed}")));
            working.push(Box::new(move || {
                let vm = strict()?;
                steadily("guest", record, || cases::run(&vm, filter, &options, record))
            }));
        }
        if self.debian {
            working.push(Box::new(move || steadily("debian", record, || debian::run(arguments, kernel))));
        }
        if self.disks {
            disks.push(Box::new(move || {
                let vm = strict()?;
                steadily("disks", record, || disks::run(&vm, arguments, kernel))
            }));
        }
        let lanes = [waiting, working, disks];
        all += if record {
            one_after_the_other(lanes.into_iter().flatten().collect())?
        } else {
            beside_each_other(lanes)?
        };
        Ok(all)
    }
}

fn beside_each_other<const N: usize>(lanes: [Lane; N]) -> Result<Counts> {
    std::thread::scope(|scope| {
        let lanes = lanes.map(|lane| scope.spawn(|| one_after_the_other(lane)));
        let mut all = Counts::default();
        for lane in lanes {
            all += lane.join().map_err(|_| anyhow!("a family of tests panicked"))??;
        }
        Ok(all)
    })
}

fn one_after_the_other(lane: Lane) -> Result<Counts> {
    let mut all = Counts::default();
    for family in lane {
        all += family()?;
    }
    Ok(all)
}

/// Runs a family of guest tests; if something fails, once more. What fails in the first run only is unsteady: it is told and counted
/// as skipped, and has its line in the notes of whoever sees it, because it is a race to be found.
fn steadily(name: &str, record: bool, mut family: impl FnMut() -> Result<Counts>) -> Result<Counts> {
    let first = family()?;
    if first.failed == 0 || record {
        return Ok(first);
    }
    crate::util::say(format_args!("{name}: something failed; once more, to tell what is unsteady"));
    let mut second = family()?;
    if second.failed == 0 {
        println!("  {name}: unsteady: {} failed in the first of two runs, see above", first.failed);
        second.skipped += first.failed;
        second.passed = second.passed.saturating_sub(first.failed);
    }
    Ok(second)
}
