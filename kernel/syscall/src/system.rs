//! The system as a whole: uname(2), sysinfo(2), syslog(2), reboot(2), sethostname(2), getrandom(2), prctl(2), personality(2).

use crate::decode::Context;
use abi::errno::{Errno, Result};
use abi::random::{GRND_INSECURE, GRND_NONBLOCK, GRND_RANDOM};
use abi::reboot::{
    LINUX_REBOOT_CMD_CAD_OFF, LINUX_REBOOT_CMD_CAD_ON, LINUX_REBOOT_CMD_HALT, LINUX_REBOOT_CMD_POWER_OFF,
    LINUX_REBOOT_CMD_RESTART, LINUX_REBOOT_CMD_RESTART2, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
    LINUX_REBOOT_MAGIC2A, LINUX_REBOOT_MAGIC2B, LINUX_REBOOT_MAGIC2C,
};
use abi::sysinfo::{SI_LOAD_SHIFT, Sysinfo};
use abi::utsname::Utsname;
use machine::log_buffer;
use machine::sync::Once;
use mm::user::{UserPtr, UserSlice, UserString};
use security::{Capability, capable};
use task::namespaces::OffsetClock;
use task::syslog::{self, Afterwards};
use zerocopy::FromZeros;

/// What `uname -s` says: programs look for it.
pub const SYSNAME: &str = "Linux";
/// The Linux release whose interface this kernel follows; glibc refuses to start on releases it finds too old.
pub const RELEASE: &str = "6.12.0-linnet";
/// What `uname -v` says.
pub const VERSION: &str = concat!("#1 SMP PREEMPT Linnet ", env!("CARGO_PKG_VERSION"));
/// What `uname -m` says.
pub const MACHINE: &str = "x86_64";

/// uname(2). Errors: `EFAULT`.
pub fn uname(context: &mut Context<'_>, buffer: UserPtr<Utsname>) -> Result<usize> {
    let uts = context.task.live_namespaces()?.uts.clone();
    buffer.write(&Utsname {
        sysname: Utsname::field(SYSNAME.as_bytes()),
        nodename: Utsname::field(&uts.host_name()),
        release: Utsname::field(RELEASE.as_bytes()),
        version: Utsname::field(VERSION.as_bytes()),
        machine: Utsname::field(MACHINE.as_bytes()),
        domainname: Utsname::field(&uts.domain_name()),
    })?;
    Ok(0)
}

/// The name that sethostname(2) and setdomainname(2) are given. Errors: `EPERM`, `EINVAL`, `EFAULT`.
fn new_name(context: &Context<'_>, name: UserPtr<u8>, len: i32) -> Result<task::namespaces::Name> {
    let uts = context.task.live_namespaces()?.uts.clone();
    if !capable(&context.credentials(), uts.owner(), Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    if len > task::namespaces::NAME_MAX {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0_u8; task::namespaces::NAME_MAX];
    let bytes = bytes.get_mut(..len).unwrap_or_default();
    UserSlice::new(name, len).read_into(bytes)?;
    task::namespaces::Name::try_from(&*bytes).map_err(|_| Errno::EINVAL)
}

/// sethostname(2). Errors: `EPERM`, `EINVAL`, `EFAULT`.
pub fn sethostname(context: &mut Context<'_>, name: UserPtr<u8>, len: i32) -> Result<usize> {
    let name = new_name(context, name, len)?;
    context.task.live_namespaces()?.uts.set_host_name(&name).map(|()| 0)
}

/// setdomainname(2). Errors: `EPERM`, `EINVAL`, `EFAULT`.
pub fn setdomainname(context: &mut Context<'_>, name: UserPtr<u8>, len: i32) -> Result<usize> {
    let name = new_name(context, name, len)?;
    context.task.live_namespaces()?.uts.set_domain_name(&name).map(|()| 0)
}

/// sysinfo(2). Errors: `EFAULT`.
pub fn sysinfo(context: &mut Context<'_>, buffer: UserPtr<Sysinfo>) -> Result<usize> {
    let memory = mm::stats::meminfo();
    let mut info = Sysinfo::new_zeroed();
    let clocks = context.task.live_namespaces()?.time.clone();
    let uptime = clocks.to_namespace_ns(OffsetClock::Boottime, machine::time::now_ns());
    info.uptime = (uptime / abi::time::NSEC_PER_SEC) as i64;
    // The scheduler's averages have 11 fractional bits (`FSHIFT`), the structure's 16.
    info.loads = sched::load_averages().map(|load| load << (SI_LOAD_SHIFT - 11));
    info.totalram = memory.total * 1024;
    info.freeram = memory.free * 1024;
    info.sharedram = memory.shmem * 1024;
    let swap = mm::swap::info();
    info.totalswap = swap.total * machine::PAGE_SIZE as u64;
    info.freeswap = swap.free * machine::PAGE_SIZE as u64;
    info.procs = sched::counts().threads.min(u64::from(u16::MAX)) as u16;
    info.mem_unit = 1;
    buffer.write(&info)?;
    Ok(0)
}

/// getrandom(2): the generator is seeded at boot, so nothing ever blocks. Errors: `EINVAL`, `EFAULT`.
pub fn getrandom(_context: &mut Context<'_>, buffer: UserPtr<u8>, len: usize, flags: u32) -> Result<usize> {
    if flags & !(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE) != 0
        || flags & (GRND_RANDOM | GRND_INSECURE) == GRND_RANDOM | GRND_INSECURE
    {
        return Err(Errno::EINVAL);
    }
    let len = len.min(i32::MAX as usize);
    let mut bytes = [0_u8; 256];
    let mut done = 0;
    while done < len {
        let part = (len - done).min(bytes.len());
        let bytes = bytes.get_mut(..part).unwrap_or_default();
        machine::random::fill(bytes);
        match machine::user::write_bytes(buffer.address().wrapping_add(done), bytes) {
            Ok(()) => done += part,
            Err(_) if done > 0 => break,
            Err(fault) => return Err(fault.into()),
        }
        if done < len && sched::signal_pending() {
            break;
        }
    }
    Ok(done)
}

/// What reboot(2) does in the end; `image` registers it, with the right to stop the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerAction {
    /// Stop the processors.
    Halt,
    /// Switch off.
    PowerOff,
    /// Start again.
    Restart,
}

static POWER: Once<fn(PowerAction)> = Once::new();

/// Sets what reboot(2) calls; once, at boot.
pub fn register_power(action: fn(PowerAction)) {
    let _ = POWER.set(action);
}

/// reboot(2). Errors: `EPERM`, `EINVAL`.
pub fn reboot(
    context: &mut Context<'_>,
    magic1: u32,
    magic2: u32,
    command: u32,
    argument: UserString,
) -> Result<usize> {
    let namespace = context.task.process().namespace().clone();
    if !capable(&context.credentials(), namespace.head().owner(), Capability::SysBoot) {
        return Err(Errno::EPERM);
    }
    let known = [LINUX_REBOOT_MAGIC2, LINUX_REBOOT_MAGIC2A, LINUX_REBOOT_MAGIC2B, LINUX_REBOOT_MAGIC2C];
    if magic1 != LINUX_REBOOT_MAGIC1 || !known.contains(&magic2) {
        return Err(Errno::EINVAL);
    }
    if namespace.level() > 0 {
        return task::pid::reboot::end_namespace(context.task, &namespace, command).map(|()| 0);
    }
    if command == LINUX_REBOOT_CMD_RESTART2 {
        // Words for the firmware, which wants none of them here.
        match argument.read(256) {
            Err(Errno::ENAMETOOLONG) | Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
    let action = match command {
        LINUX_REBOOT_CMD_RESTART | LINUX_REBOOT_CMD_RESTART2 => PowerAction::Restart,
        LINUX_REBOOT_CMD_HALT => PowerAction::Halt,
        LINUX_REBOOT_CMD_POWER_OFF => PowerAction::PowerOff,
        // There is no Ctrl-Alt-Del here; both settings hold.
        LINUX_REBOOT_CMD_CAD_ON | LINUX_REBOOT_CMD_CAD_OFF => return Ok(0),
        _ => return Err(Errno::EINVAL),
    };
    let perform = POWER.get().ok_or(Errno::EINVAL)?;
    perform(action);
    Ok(0)
}

/// personality(2): `PER_LINUX`, with the flags that have a meaning here kept for the program. Errors: none.
pub fn personality(context: &mut Context<'_>, persona: u32) -> Result<usize> {
    let old = context.task.process().personality();
    if persona != u32::MAX {
        context.task.process().set_personality(persona);
    }
    Ok(old as usize)
}

/// syslog(2): the kernel's log for `dmesg`. Errors: `EINVAL`, `EPERM`, `EFAULT`.
pub fn syslog(context: &mut Context<'_>, kind: i32, buffer: UserPtr<u8>, len: i32) -> Result<usize> {
    const CLOSE: i32 = 0;
    const OPEN: i32 = 1;
    const READ: i32 = 2;
    const READ_ALL: i32 = 3;
    const READ_CLEAR: i32 = 4;
    const CLEAR: i32 = 5;
    const CONSOLE_OFF: i32 = 6;
    const CONSOLE_ON: i32 = 7;
    const CONSOLE_LEVEL: i32 = 8;
    const SIZE_UNREAD: i32 = 9;
    const SIZE_BUFFER: i32 = 10;
    if kind != READ_ALL && kind != SIZE_BUFFER {
        context.require_global(Capability::Syslog)?;
    }
    match kind {
        CLOSE | OPEN => Ok(0),
        READ | READ_ALL | READ_CLEAR => {
            let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
            if buffer.is_null() {
                return Err(Errno::EINVAL);
            }
            let mut place = buffer.address();
            let take = |line: &[u8]| {
                machine::user::write_bytes(place, line)?;
                place = place.wrapping_add(line.len());
                Ok(())
            };
            match kind {
                READ => syslog::consume(len, take),
                READ_CLEAR => syslog::newest(len, Afterwards::Clear, take),
                _ => syslog::newest(len, Afterwards::Keep, take),
            }
        }
        CLEAR => {
            syslog::clear();
            Ok(0)
        }
        CONSOLE_OFF => {
            log_buffer::set_console_level(1);
            Ok(0)
        }
        CONSOLE_ON => {
            log_buffer::set_console_level(7);
            Ok(0)
        }
        CONSOLE_LEVEL => {
            if !(1..=8).contains(&len) {
                return Err(Errno::EINVAL);
            }
            log_buffer::set_console_level(len as u8);
            Ok(0)
        }
        SIZE_UNREAD => Ok(syslog::unread_bytes()),
        SIZE_BUFFER => Ok(syslog::size_bytes()),
        _ => Err(Errno::EINVAL),
    }
}
