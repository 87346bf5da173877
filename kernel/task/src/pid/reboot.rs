//! reboot(2) inside a pid namespace: it ends the namespace's first process, whose parent sees how (pid_namespaces(7)).

use super::PidNamespace;
use crate::signal::send::to_process;
use crate::signal::{Signal, SignalInfo};
use crate::task::Task;
use abi::errno::{Errno, Result};
use abi::reboot::{
    LINUX_REBOOT_CMD_HALT, LINUX_REBOOT_CMD_POWER_OFF, LINUX_REBOOT_CMD_RESTART, LINUX_REBOOT_CMD_RESTART2,
};

/// Kills the first process of `namespace`; the caller goes with it.
///
/// # Errors
/// EINVAL: a command that means nothing there.
pub fn end_namespace(task: &Task, namespace: &PidNamespace, command: u32) -> Result<()> {
    let signal = match command {
        LINUX_REBOOT_CMD_RESTART | LINUX_REBOOT_CMD_RESTART2 => Signal::SIGHUP,
        LINUX_REBOOT_CMD_HALT | LINUX_REBOOT_CMD_POWER_OFF => Signal::SIGINT,
        _ => return Err(Errno::EINVAL),
    };
    namespace.set_reboot_signal(signal.number() as u32);
    if let Some(init) = namespace.find_process(1) {
        let _ = to_process(&init, SignalInfo::from_kernel(Signal::SIGKILL));
    }
    crate::exit::exit_group(task, 0);
    Ok(())
}
