//! The boot order: what is started, in which order, and the first program.

use crate::{root, wiring};
use abi::errno::Result;
use alloc::vec::Vec;
use linnet_lib::command_line::CommandLine;
use machine::cpu::{self, CpuId};
use machine::oops;
use task::boot::InitRequest;

/// What the first program is if the command line does not say, in the order Linux tries them.
const INITRAMFS_PROGRAM: &[u8] = b"/init";
const PROGRAMS: [&[u8]; 4] = [b"/sbin/init", b"/etc/init", b"/bin/init", b"/bin/sh"];

/// How long the console that `console=` names last may take to come, nanoseconds: a host says of each port whether it is one.
const CONSOLE_PATIENCE_NS: u64 = 1_000_000_000;

/// The kernel's main function, on the first CPU. Never returns: the flow becomes that CPU's idle thread.
pub fn start() -> ! {
    wiring::register_early();
    sched::init();
    mm::init();
    task::init();
    cpu::start_secondary_cpus(start_secondary);
    log::info!("{} CPUs online", cpu::count());
    if let Err(error) = start_first_program() {
        oops::fatal(format_args!("the first program cannot be started: {error:?}"));
    }
    sched::run_idle(cpu::current())
}

/// Every other CPU's main function.
fn start_secondary(id: CpuId) {
    sched::start_cpu(id);
    sched::run_idle(id);
}

/// File systems and devices, then a kernel thread that mounts the root and makes process 1: some of this sleeps, which the idle
/// thread may not.
fn start_first_program() -> Result<()> {
    sched::start_kernel_threads()?;
    mm::start_threads();
    sched::spawn("boot", sched::SpawnOptions::default(), || {
        if let Err(error) = run_first_program() {
            oops::fatal(format_args!("the first program cannot be started: {error:?}"));
        }
    })?;
    Ok(())
}

fn run_first_program() -> Result<()> {
    wiring::register_late()?;
    let line = CommandLine::parse(machine::boot::command_line());
    let first = line.initramfs_init.as_deref().unwrap_or(INITRAMFS_PROGRAM);
    let root = root::change_to_disk(root::make()?, first)?;
    if !tty::console::wait(machine::time::now_ns() + CONSOLE_PATIENCE_NS) {
        log::warn!("no console that console= names is there");
    }
    let files = root.open_console()?;
    let programs = match (&line.init, &line.initramfs_init) {
        (Some(program), _) if root.is_disk => alloc::vec![program.clone()],
        (None, _) if root.is_disk => PROGRAMS.iter().map(|program| program.to_vec()).collect(),
        (_, Some(program)) => alloc::vec![program.clone()],
        (Some(program), None) => alloc::vec![INITRAMFS_PROGRAM.to_vec(), program.clone()],
        (None, None) => core::iter::once(INITRAMFS_PROGRAM).chain(PROGRAMS).map(<[u8]>::to_vec).collect(),
    };
    if let Some(unknown) = line.unknown_words() {
        log::warn!("Unknown kernel command line parameters \"{unknown}\", will be passed to user space.");
    }
    let mut environment: Vec<Vec<u8>> = alloc::vec![b"HOME=/".to_vec(), b"TERM=linux".to_vec()];
    environment.extend(line.environment);
    task::boot::spawn_init(InitRequest {
        programs,
        arguments: line.arguments,
        environment,
        fs: root.context,
        files,
        mount: root.namespace,
    })?;
    Ok(())
}
