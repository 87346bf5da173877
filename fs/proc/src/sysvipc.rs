//! `/proc/sysvipc`: the System V objects of the reader's IPC namespace (sysvipc(7)); message queues and shared memory.
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
    StaticDirectory::new()
        .add("msg", Node::text(0o444, |out| messages(out).map_err(|_| core::fmt::Error)))
        .add("shm", Node::text(0o444, |out| segments(out).map_err(|_| core::fmt::Error)))
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

fn segments(out: &mut Text) -> Result<()> {
    let credentials = task::task::with_current(|task| task.credentials()).ok_or(Errno::ENOENT)?;
    let namespace = namespace()?;
    let segments = &namespace.content().segments;
    segments.sweep()?;
    let heading = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap";
    writeln!(out, "{heading}").map_err(|_| Errno::EIO)?;
    for segment in segments.table.all()? {
        let (access, status) = segment.status();
        let shown = access.show(&credentials, segment.id());
        writeln!(
            out,
            "{:10} {:10}  {:4o} {:21} {:5} {:5}  {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10} {:21} {:21}",
            shown.key,
            segment.id(),
            shown.mode | status.flags,
            segment.bytes(),
            number_seen(&status.creator),
            number_seen(&status.last),
            status.attachments,
            shown.uid,
            shown.gid,
            shown.cuid,
            shown.cgid,
            status.attached_s,
            status.detached_s,
            status.changed_s,
            status.resident * machine::PAGE_SIZE as u64,
            status.swapped * machine::PAGE_SIZE as u64
        )
        .map_err(|_| Errno::EIO)?;
    }
    Ok(())
}
