//! `cargo xtask run`: boots a kernel to a shell, or to run one command.
//!
//! The exit status is the command's; 101 after a kernel panic, 124 after a timeout, 125 if it could not be
//! run at all. The command's output goes to stdout unchanged.

use crate::disk::{Access, Disk};
use crate::kernel::{self, Profile};
use crate::linux::{self, Flavour};
use crate::qemu::{ConsoleLine, End, Input, Machine, Outcome, Port, Vm};
use crate::root::Root;
use crate::util::say;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What `cargo xtask run` takes.
#[derive(Args)]
pub struct RunArguments {
    /// What to boot: linnet, linux (Debian's), or a file.
    #[arg(long, default_value = "linnet")]
    pub kernel: Kernel,
    /// The root: busybox, debian (or debian:SUITE:PACKAGE,…), debian-disk (the same, on an ext4 disk), a folder, a cpio archive, or a disk
    /// image.
    #[arg(long, default_value = "busybox")]
    pub root: Root,
    /// Virtual CPUs.
    #[arg(long, default_value_t = 2)]
    pub smp: u32,
    /// Memory in MiB; by default 512, and 2048 for a Debian, which lies in it.
    #[arg(long, value_name = "MIB")]
    pub mem: Option<u32>,
    /// The network; only none works yet.
    #[arg(long, value_enum, default_value = "none")]
    pub net: Net,
    /// A disk: `FILE[,if=virtio|nvme|mmio][,ro][,write][,format=raw|qcow2]`; may be given more than once. What the guest writes is
    /// forgotten when it ends, unless `write` is said.
    #[arg(long, value_name = "FILE[,OPTION…]")]
    pub disk: Vec<Disk>,
    /// Keep what the guest writes to the image that is its root.
    #[arg(long)]
    pub disk_write: bool,
    /// A host folder, which the guest has at /mnt/share (virtio-9p); what the guest writes there is the host's. Linux is Debian's
    /// ordinary kernel then: the cloud kernel has no driver for it.
    #[arg(long, value_name = "FOLDER")]
    pub share: Option<PathBuf>,
    /// What the console is; hvc0 is virtio-console.
    #[arg(long, value_enum, default_value = "ttyS0")]
    pub console: ConsoleLine,
    /// A port to the host (virtio-console), /dev/vport0pN in the guest: `NAME=SOCKET`; may be given more than once. QEMU listens at the
    /// socket. With this or --console hvc0 Linux is Debian's ordinary kernel: the cloud kernel has no driver for it.
    #[arg(long, value_name = "NAME=SOCKET")]
    pub port: Vec<Port>,
    /// Stop the machine after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// More kernel parameters.
    #[arg(long, value_name = "PARAMETERS", default_value = "", allow_hyphen_values = true)]
    pub append: String,
    /// The virtual hardware.
    #[arg(long, value_enum, default_value = "q35")]
    pub machine: Machine,
    /// How Linnet is built.
    #[arg(long, value_enum, default_value = "release")]
    pub profile: Profile,
    /// Put a host file into the guest, with its permissions (may be given more than once).
    #[arg(long, value_name = "HOST:GUEST")]
    pub file: Vec<String>,
    /// Wait for gdb before the first instruction.
    #[arg(long)]
    pub debug: bool,
    /// Show the console of a run with a command on stderr.
    #[arg(long, short)]
    pub verbose: bool,
    /// The command to run as root in the guest, with its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What to boot.
#[derive(Clone, PartialEq, Eq)]
pub enum Kernel {
    /// Ours, built first.
    Linnet,
    /// Debian's newest.
    Linux,
    /// Any file QEMU can start.
    File(PathBuf),
}

impl std::str::FromStr for Kernel {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Kernel> {
        match text {
            "linnet" => Ok(Kernel::Linnet),
            "linux" => Ok(Kernel::Linux),
            path if PathBuf::from(path).is_file() => Ok(Kernel::File(path.into())),
            path => bail!("{path} is neither linnet nor linux nor a file"),
        }
    }
}

/// The guest's network.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Net {
    /// None.
    None,
    /// QEMU's user network.
    User,
    /// Two guests on one wire.
    Pair,
}

/// `cargo xtask run`.
pub fn command(arguments: &RunArguments) -> Result<u8> {
    if arguments.net != Net::None {
        bail!(
            "--net: not yet; Linnet has no driver for a network device of QEMU's (its own devices are of software)"
        );
    }
    let files = arguments.file.iter().map(|pair| read_file(pair)).collect::<Result<Vec<_>>>()?;
    let has_more =
        arguments.share.is_some() || arguments.console == ConsoleLine::Virtio || !arguments.port.is_empty();
    let flavour = if has_more { Flavour::Generic } else { Flavour::Cloud };
    let mut vm = machine_with(&arguments.kernel, arguments.profile, &arguments.root, flavour)?;
    vm.share = arguments.share.as_deref().map(share).transpose()?;
    vm.console = arguments.console;
    vm.ports.clone_from(&arguments.port);
    vm.disks.extend(arguments.disk.iter().cloned());
    if arguments.disk_write {
        let root =
            vm.disks.first_mut().filter(|_| vm.root_on_disk).context("--disk-write: the root is no disk")?;
        root.access = Access::Write;
    }
    vm.cpus = arguments.smp;
    vm.memory_mib = arguments.mem.unwrap_or(vm.memory_mib);
    vm.machine = arguments.machine;
    vm.timeout = arguments.timeout.map(Duration::from_secs);
    vm.wait_for_debugger = arguments.debug;
    vm.verbose = arguments.verbose;
    if !arguments.append.is_empty() {
        vm.command_line.push(' ');
        vm.command_line.push_str(&arguments.append);
    }
    if arguments.command.is_empty() {
        if !files.is_empty() {
            vm.initrd.extend(files_archive(files));
        }
        return vm.run_on_terminal();
    }
    let mut stdout = std::io::stdout().lock();
    let mut sink = |bytes: &[u8]| -> Result<()> {
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    };
    let outcome = vm.run_command(&arguments.command, &files, Input::of_this_process(), &mut sink)?;
    Ok(report(&outcome, arguments.verbose))
}

/// Says why a run failed, and returns the status to exit with.
pub fn report(outcome: &Outcome, console_was_shown: bool) -> u8 {
    let (what, code) = match outcome.end {
        End::Exited(status) => return status,
        End::Panicked => ("kernel panic", 101),
        End::TimedOut => ("timeout: the machine was stopped", 124),
        End::Vanished => ("the machine stopped without telling a status", 125),
    };
    if !console_was_shown {
        let _ = std::io::stderr().write_all(&outcome.console);
        eprintln!();
    }
    say(what);
    code
}

/// The folder of `--share`, whole.
fn share(folder: &Path) -> Result<PathBuf> {
    let whole = folder.canonicalize().with_context(|| format!("--share {}", folder.display()))?;
    if !whole.is_dir() {
        bail!("--share {}: not a folder", folder.display());
    }
    Ok(whole)
}

/// A machine for this kernel and root, with the defaults for everything else.
pub fn machine(kernel: &Kernel, profile: Profile, root: &Root) -> Result<Vm> {
    machine_with(kernel, profile, root, Flavour::Cloud)
}

/// The same; Linux is of this flavour.
pub fn machine_with(kernel: &Kernel, profile: Profile, root: &Root, flavour: Flavour) -> Result<Vm> {
    // What is missing is made below the target folder, by one thread at a time.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut initrd = root.bytes()?;
    let (file, symbols, parameters) = match kernel {
        Kernel::Linnet => {
            let built = kernel::build(profile)?;
            (built.stripped, Some(built.full), "")
        }
        Kernel::Linux => {
            let linux = linux::find(flavour)?;
            initrd.extend(linux.modules()?);
            // It would count ticks while it boots, and panic if the emulator stood still meanwhile.
            (linux.image, None, "panic=-1 quiet no_timer_check")
        }
        Kernel::File(path) => (path.clone(), None, "panic=-1"),
    };
    Ok(Vm {
        kernel: file,
        symbols,
        initrd,
        command_line: parameters.to_owned(),
        machine: Machine::Q35,
        cpu_model: "max".to_owned(),
        cpus: 2,
        memory_mib: if matches!(root, Root::Debian(_)) { 2048 } else { 512 },
        timeout: None,
        wait_for_debugger: false,
        verbose: false,
        disks: root.disk()?.into_iter().collect(),
        root_on_disk: root.is_on_disk(),
        share: None,
        console: ConsoleLine::Serial,
        ports: Vec::new(),
        control: None,
    })
}

/// Reads HOST:GUEST.
fn read_file(pair: &str) -> Result<(String, u32, Vec<u8>)> {
    use std::os::unix::fs::PermissionsExt;
    let (host, guest) = pair.split_once(':').with_context(|| format!("--file {pair}: not HOST:GUEST"))?;
    let contents = std::fs::read(host).with_context(|| format!("--file {host}"))?;
    let permissions = std::fs::metadata(host)?.permissions().mode() & 0o7777;
    Ok((guest.to_owned(), permissions, contents))
}

fn files_archive(files: Vec<(String, u32, Vec<u8>)>) -> Vec<u8> {
    let mut archive = crate::cpio::Archive::new();
    for (name, permissions, contents) in files {
        archive.file(name.trim_start_matches('/'), permissions, &contents);
    }
    archive.finish()
}
