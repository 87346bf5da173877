//! What connects lower crates to higher ones: hooks, drivers, file systems.

use abi::errno::Result;
use alloc::vec::Vec;
use core::fmt::Write;
use machine::hooks::Hooks;
use machine::power::{self, PowerToken};
use machine::provoke::Bug;
use machine::sync::Once;
use syscall::system::PowerAction;
use sysfs::{Device, DeviceNode};
use vfs::FileKind;
use vfs::pseudo::Node;

static HOOKS: Hooks = Hooks {
    timer: sched::timer_interrupt,
    preempt: sched::preempt,
    page_fault: task::fault::page_fault_hook,
    oops,
    serial_input: tty::serial::input,
};

static POWER: Once<PowerToken> = Once::new();

/// A bug in the kernel hit one thread: that thread ends, the rest goes on. Returning makes the machine panic.
fn oops(_what: &str) {
    task::exit::end_after_oops();
}

/// What must be there before the scheduler starts.
pub fn register_early() {
    machine::hooks::register(&HOOKS);
    task::run::register_dispatcher(syscall::dispatch);
    syscall::system::register_power(perform);
    if let Some(token) = PowerToken::mint() {
        let _ = POWER.set(token);
    }
}

/// What writing to the device of bugs on purpose does.
fn provoke(bug: Bug) {
    if let Some(token) = POWER.get() {
        machine::provoke::provoke(bug, token);
    }
}

fn perform(action: PowerAction) {
    /// How long consoles may take to show the last messages, nanoseconds.
    const CONSOLES_NS: u64 = 1_000_000_000;
    let Some(token) = POWER.get() else { return };
    tty::console::settle(machine::time::now_ns() + CONSOLES_NS);
    match action {
        PowerAction::PowerOff => power::off(token),
        PowerAction::Restart => power::reboot(token),
        PowerAction::Halt => {
            log::info!("System halted");
            let _ = token;
            loop {
                let _ = sched::sleep_until(u64::MAX, machine::sync::WaitKind::Uninterruptible);
            }
        }
    }
}

/// The devices of `/dev` in `/sys`.
fn show_devices() -> Result<()> {
    /// Major numbers of memory devices and of serial lines.
    const MEMORY: u32 = 1;
    const SERIAL: u32 = 4;
    /// What has no major number of its own.
    const OTHER: u32 = 10;
    /// Not told: what a node has by itself.
    const ROOT_ONLY: u32 = 0o600;
    for (name, id, mode) in devfs::NODES {
        let node = DeviceNode { kind: FileKind::CharDevice, id, mode: (mode != ROOT_ONLY).then_some(mode) };
        let class = match id.major {
            MEMORY => "mem",
            OTHER => "misc",
            _ => "tty",
        };
        let parent = if id.major == SERIAL { "platform/serial8250" } else { "virtual" };
        let mut attributes = Vec::new();
        if name == "console" {
            attributes.push(("active", Node::text(0o444, |out| writeln!(out, "{}", tty::console::active()))));
        }
        sysfs::register_device(Device { name, class, parent, node: Some(node), attributes })?.keep();
    }
    Ok(())
}

/// Drivers and file systems; in a kernel thread, since some of it sleeps.
pub fn register_late() -> Result<()> {
    vfs::dentry::register_shrinker();
    vfs::reaper::start()?;
    tmpfs::register()?;
    ext4::mount::register()?;
    ninep::mount::register()?;
    let _ = syscall::MEMORY_FILE.set(tmpfs::memory_file);
    sched::clock::on_set(ipc::timerfd::clock_was_set);
    let (release, version) = (syscall::system::RELEASE, syscall::system::VERSION);
    procfs::register(procfs::Identity { release, version })?;
    sysfs::register()?;
    debugfs::register()?;
    devfs::init_with(Some(tmpfs::TmpFs::new(tmpfs::Flavour::Devtmpfs)))?;
    if linnet_lib::command_line::has_word(machine::boot::command_line(), "linnet.provoke") {
        devfs::provoke::register(provoke)?;
    }
    tty::init()?;
    loop_device::register()?;
    net::lifetime::start()?;
    net::device::tun::register()?;
    show_devices()?;
    ipc::pipe::register_fifos();
    start_devices()
}

/// Drivers, then the buses on which they find their devices.
fn start_devices() -> Result<()> {
    sched::spawn("kdevices", sched::SpawnOptions::default(), device::work::run)?;
    pciehp::register();
    device::virtio::pci::register();
    virtio_blk::register();
    nvme::register();
    virtio_rng::register();
    virtio_9p::register();
    virtio_console::register();
    device::pci::probe();
    device::platform::probe();
    Ok(())
}
