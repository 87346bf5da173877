//! `/proc/sysvipc`: the System V objects of the reader's IPC namespace (sysvipc(7)); message queues only, as there are no others.
//!
//! Locks: those of the objects.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use core::fmt::Write;
use ipc::sysv::{Object, ProcessNumbers};
use task::namespaces::IpcNamespace;
use vfs::pseudo::{Node, StaticDirectory, Text};

/// The folder.
pub fn tree() -> StaticDirectory {
    StaticDirectory::new().add("msg", Node::text(0o444, |out| messages(out).map_err(|_| core::fmt::Error)))
}

/// The caller's IPC namespace. Errors: `ENOENT`: the caller has ended, or is no task.
pub fn namespace() -> Result<Arc<IpcNamespace>> {
    task::task::with_current(|task| Ok(task.live_namespaces()?.ipc.clone())).ok_or(Errno::ENOENT)?
}

/// The number that the reader knows a process by, or 0.
fn number_seen(numbers: &ProcessNumbers) -> i32 {
    let own = crate::current_pids().head().number();
    numbers.iter().find(|(namespace, _)| *namespace == own).map_or(0, |(_, number)| *number)
}

fn messages(out: &mut Text) -> Result<()> {
    let credentials = task::task::with_current(|task| task.credentials()).ok_or(Errno::ENOENT)?;
    let namespace = namespace()?;
    let heading = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime";
    writeln!(out, "{heading}").map_err(|_| Errno::EIO)?;
    for queue in namespace.content().messages.all()? {
        let (access, status) = queue.status();
        let shown = access.show(&credentials, queue.id());
        writeln!(
            out,
            "{:10} {:10}  {:4o}  {:10} {:10} {:5} {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10}",
            shown.key,
            queue.id(),
            shown.mode,
            status.bytes,
            status.count,
            number_seen(&status.sender),
            number_seen(&status.receiver),
            shown.uid,
            shown.gid,
            shown.cuid,
            shown.cgid,
            status.sent_s,
            status.received_s,
            status.changed_s
        )
        .map_err(|_| Errno::EIO)?;
    }
    Ok(())
}
