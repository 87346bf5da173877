//! `/proc` itself and the directories of processes: `/proc/PID`, `/proc/self`, `/proc/PID/task/TID`.
//!
//! Key types: [`Root`] (fixed files and one directory for each process), [`ProcessDirectory`] (also of a thread). A directory
//! keeps the process's `Pid`, not the process: when that is reaped every access answers `ESRCH` and names stop being valid.
//! Locks: none.

use crate::descriptors::{FdDirectory, FdKind};
use crate::mounts;
use crate::namespaces::{self, NsDirectory};
use crate::process_text::{self as text, Subject};
use abi::errno::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use security::{Kgid, Kuid};
use task::namespaces::id_maps::MapKind;
use task::pid::{Pid, PidNamespace};
use task::{Process, Task};
use vfs::pseudo::{Directory, Lister, Node, StaticDirectory, Text};
use vfs::{FileKind, NameCaching, Path};

/// Inode numbers: fixed ones below, those of a process above its number shifted.
const PROCESS_BASE: u64 = 1 << 32;

/// The root directory: what is the same everywhere, and the processes of one pid namespace.
pub struct Root {
    fixed: Arc<StaticDirectory>,
    own: StaticDirectory,
    pids: Arc<PidNamespace>,
}

impl Root {
    /// A root with these fixed files, `self`, `thread-self` and the processes of `pids`.
    pub fn new(fixed: Arc<StaticDirectory>, pids: Arc<PidNamespace>) -> Root {
        let own = |text: fn(i32, i32) -> String| {
            let pids = pids.clone();
            Node::text_link(move || {
                let numbers = |task: &Task| (task.process().number_in(&pids), task.pid().number_in(&pids));
                // Who is not in the namespace has no name here.
                let numbers = task::task::with_current(numbers).filter(|(process, _)| *process != 0);
                numbers.map(|(process, thread)| text(process, thread).into_bytes()).ok_or(Errno::ENOENT)
            })
        };
        let own = StaticDirectory::new()
            .add("self", own(|process, _| alloc::format!("{process}")))
            .add("thread-self", own(|process, thread| alloc::format!("{process}/task/{thread}")))
            .add("net", Node::symlink("self/net"));
        Root { fixed, own, pids }
    }
}

/// Where the cursors of `self` and `thread-self` begin: behind those of the fixed files.
const OWN_BASE: u64 = 1 << 16;

/// A number as a directory name: no sign, no leading zero. `None` for anything else.
fn parse_number(name: &[u8]) -> Option<i32> {
    if name.first() == Some(&b'0') || !name.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(name).ok()?.parse().ok()
}

impl Directory for Root {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        match parse_number(name) {
            Some(number) => {
                let task = self.pids.find_task(number).ok_or(Errno::ENOENT)?;
                let pid = task.process().pid().clone();
                Ok(process_node(&self.pids, &pid, None, task.process()))
            }
            None => self.fixed.lookup(name).or_else(|_| self.own.lookup(name)),
        }
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        for (directory, base, end) in [(&*self.fixed, 0, OWN_BASE), (&self.own, OWN_BASE, PROCESS_BASE)] {
            let mut full = false;
            if cursor < end {
                directory.list(cursor.saturating_sub(base), &mut |name, kind, inode, next| {
                    full = !take(name, kind, inode, base + next);
                    !full
                })?;
            }
            if full {
                return Ok(());
            }
        }
        let mut from = cursor.saturating_sub(PROCESS_BASE) as i32;
        while let Some((number, process)) = self.pids.next_process(from) {
            let name = alloc::format!("{number}");
            from = number + 1;
            let inode = inode_number(process.pid(), 0);
            if !take(name.as_bytes(), FileKind::Directory, inode, PROCESS_BASE + from as u64) {
                break;
            }
        }
        Ok(())
    }

    fn caching(&self) -> NameCaching {
        NameCaching::Checked
    }
}

fn inode_number(pid: &Pid, file: u64) -> u64 {
    PROCESS_BASE + (u64::from(pid.number()) << 12) + file
}

/// The owner of a process's files: its effective user, unless it may not be looked at (`dumpable`).
fn owner(process: &Process) -> (Kuid, Kgid) {
    match process.leader().map(|leader| leader.credentials()) {
        Some(credentials) if process.dumpable() == 1 => (credentials.euid, credentials.egid),
        _ => (Kuid::ROOT, Kgid::ROOT),
    }
}

/// The directory of a process, or of one of its threads.
fn process_node(
    pids: &Arc<PidNamespace>,
    pid: &Arc<Pid>,
    thread: Option<&Arc<Pid>>,
    process: &Process,
) -> Node {
    let directory = ProcessDirectory { pids: pids.clone(), pid: pid.clone(), thread: thread.cloned() };
    let (uid, gid) = owner(process);
    let alive = thread.unwrap_or(pid).clone();
    let is_thread = thread.is_some();
    Node::directory(Arc::new(directory))
        .mode(0o555)
        .owner(uid, gid)
        .inode_number(inode_number(thread.unwrap_or(pid), 0))
        .valid_while(move || if is_thread { alive.task().is_some() } else { alive.process().is_some() })
}

/// `/proc/PID`, and with `thread` `/proc/PID/task/TID`.
#[derive(Clone)]
pub struct ProcessDirectory {
    /// Whose numbers are shown.
    pids: Arc<PidNamespace>,
    pid: Arc<Pid>,
    thread: Option<Arc<Pid>>,
}

impl ProcessDirectory {
    /// The process. Errors: `ESRCH` when it has been reaped.
    pub fn process(&self) -> Result<Arc<Process>> {
        self.pid.process().ok_or(Errno::ESRCH)
    }

    /// The thread whose directory this is, or the leader. Errors: `ESRCH`.
    pub fn task(&self) -> Result<Arc<Task>> {
        match &self.thread {
            Some(thread) => thread.task().ok_or(Errno::ESRCH),
            None => self.process()?.leader().ok_or(Errno::ESRCH),
        }
    }

    /// Calls with what the text functions take. Errors: `ESRCH`.
    fn with_subject<R>(&self, call: impl FnOnce(&Subject<'_>) -> R) -> Result<R> {
        let process = self.process()?;
        let task = self.thread.as_ref().map(|thread| thread.task().ok_or(Errno::ESRCH)).transpose()?;
        Ok(call(&Subject { process: &process, task: task.as_deref(), namespace: &self.pids }))
    }

    /// The thread's namespaces, mounts aside. Errors: `ESRCH`.
    pub fn user_namespace(&self) -> Result<Arc<security::UserNamespace>> {
        Ok(self.task()?.credentials().user_namespace.clone())
    }

    /// Whether the current task may see what only the owner may (ptrace(2), read access). Errors: `EACCES`, `ESRCH`.
    pub fn check_access(&self) -> Result<()> {
        let target = self.task()?;
        task::task::with_current(|own| task::pidfd::may_trace(own, &target))
            .unwrap_or(Ok(()))
            .map_err(|_| Errno::EACCES)
    }

    fn text(&self, mode: u32, write: fn(&Subject<'_>, &mut Text) -> fmt::Result) -> Node {
        let directory = self.clone();
        Node::text_with(mode, move |out| {
            directory.with_subject(|subject| write(subject, out))?.map_err(|_| Errno::ENOMEM)
        })
    }

    /// The same for contents that only the owner may read.
    fn private_text(&self, mode: u32, write: fn(&Subject<'_>, &mut Text) -> fmt::Result) -> Node {
        let directory = self.clone();
        Node::text_with(mode, move |out| {
            directory.check_access()?;
            directory.with_subject(|subject| write(subject, out))?.map_err(|_| Errno::ENOMEM)
        })
    }

    fn bytes(&self, mode: u32, read: fn(&Subject<'_>) -> Result<Vec<u8>>) -> Node {
        let directory = self.clone();
        Node::bytes(mode, move || directory.with_subject(read)?)
    }

    fn link(&self, place: fn(&ProcessDirectory) -> Result<Path>) -> Node {
        let directory = self.clone();
        Node::magic_link(move || {
            directory.check_access()?;
            place(&directory)
        })
    }

    fn mounts(&self, write: mounts::WriteMounts) -> Node {
        let directory = self.clone();
        Node::opening(0o444, move || mounts::open(&directory, write))
    }

    /// A number of a thread's own settings: `set` is given the thread and the new value.
    fn setting(&self, mode: u32, get: fn(&Task) -> u64, set: fn(&Arc<Task>, u64) -> Result<()>) -> Node {
        let (reader, writer) = (self.clone(), self.clone());
        Node::writable_text(
            mode,
            move |out| {
                let value = get(&*reader.task()?);
                fmt::Write::write_fmt(out, format_args!("{value}")).map_err(|_| Errno::ENOMEM)
            },
            move |input| {
                let text = core::str::from_utf8(input).map_err(|_| Errno::EINVAL)?;
                set(&writer.task()?, text.trim().parse().map_err(|_| Errno::EINVAL)?)
            },
        )
    }

    fn number_file(&self, get: fn(&Process) -> i32, set: fn(&ProcessDirectory, i32) -> Result<()>) -> Node {
        let (reader, writer) = (self.clone(), self.clone());
        Node::writable_text(
            0o644,
            move |out| {
                let value = get(&*reader.process()?);
                fmt::Write::write_fmt(out, format_args!("{value}\n")).map_err(|_| Errno::ENOMEM)
            },
            move |input| {
                let text = core::str::from_utf8(input).map_err(|_| Errno::EINVAL)?;
                set(&writer, text.trim().parse().map_err(|_| Errno::EINVAL)?)
            },
        )
    }
}

/// The names in a process's directory, in the order that a listing shows.
const NAMES: &[(&str, FileKind)] = &[
    ("auxv", FileKind::Regular),
    ("cgroup", FileKind::Regular),
    ("cmdline", FileKind::Regular),
    ("comm", FileKind::Regular),
    ("cwd", FileKind::Symlink),
    ("environ", FileKind::Regular),
    ("exe", FileKind::Symlink),
    ("fd", FileKind::Directory),
    ("fdinfo", FileKind::Directory),
    ("gid_map", FileKind::Regular),
    ("io", FileKind::Regular),
    ("limits", FileKind::Regular),
    ("loginuid", FileKind::Regular),
    ("maps", FileKind::Regular),
    ("mem", FileKind::Regular),
    ("mountinfo", FileKind::Regular),
    ("mounts", FileKind::Regular),
    ("net", FileKind::Directory),
    ("ns", FileKind::Directory),
    ("oom_score", FileKind::Regular),
    ("oom_score_adj", FileKind::Regular),
    ("personality", FileKind::Regular),
    ("projid_map", FileKind::Regular),
    ("root", FileKind::Symlink),
    ("sched", FileKind::Regular),
    ("schedstat", FileKind::Regular),
    ("sessionid", FileKind::Regular),
    ("setgroups", FileKind::Regular),
    ("smaps", FileKind::Regular),
    ("stack", FileKind::Regular),
    ("stat", FileKind::Regular),
    ("statm", FileKind::Regular),
    ("status", FileKind::Regular),
    ("task", FileKind::Directory),
    ("timens_offsets", FileKind::Regular),
    ("timerslack_ns", FileKind::Regular),
    ("uid_map", FileKind::Regular),
    ("wchan", FileKind::Regular),
];

impl Directory for ProcessDirectory {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        self.process()?;
        let place = NAMES.iter().position(|(known, _)| known.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let node = match name {
            b"auxv" => self.bytes(0o400, text::auxv),
            // A line for each hierarchy in use: none is.
            b"cgroup" => self.text(0o444, |_, _| Ok(())),
            b"cmdline" => self.bytes(0o444, text::cmdline),
            b"comm" => self.comm(),
            b"environ" => self.bytes(0o400, text::environ),
            b"limits" => self.text(0o444, text::limits),
            b"maps" => self.private_text(0o444, text::maps),
            b"smaps" => self.private_text(0o444, text::smaps),
            b"stat" => self.text(0o444, text::stat),
            b"statm" => self.text(0o444, text::statm),
            b"status" => self.text(0o444, text::status),
            b"schedstat" => self.text(0o444, text::schedstat),
            b"io" => self.private_text(0o400, text::io),
            b"loginuid" => self.setting(0o644, |task| u64::from(task.login_user()), set_login_user),
            b"mem" => {
                let directory = self.clone();
                Node::opening(0o600, move || crate::memory::open(&directory))
            }
            b"personality" => self.private_text(0o400, text::personality),
            b"sched" => self.text(0o644, text::sched),
            b"sessionid" => self.text(0o444, |_, out| write!(out, "{}", task::task::NO_LOGIN)),
            // Another thread's stack is not walked: what is told is that nothing is known of it.
            b"stack" => self.private_text(0o400, |_, _| Ok(())),
            b"timerslack_ns" => self.timer_slack(),
            b"wchan" => self.text(0o444, |_, out| out.write_char('0')),
            b"oom_score" => self.text(0o444, text::oom_score),
            b"oom_score_adj" => self.number_file(Process::oom_score_adjustment, set_oom_score_adjustment),
            b"mounts" => self.mounts(|root, namespace, out| namespace.write_mounts(root, out)),
            b"mountinfo" => self.mounts(|root, namespace, out| namespace.write_mountinfo(root, out)),
            b"cwd" => self.link(|directory| directory.state(|state| state.working_directory.clone())),
            b"root" => self.link(|directory| directory.state(|state| state.root.clone())),
            b"exe" => self.link(|directory| {
                let program = directory.process()?.executable().ok_or(Errno::ENOENT)?;
                Ok(program.file().path().clone())
            }),
            b"fd" => Node::directory(Arc::new(FdDirectory::new(self.clone(), FdKind::Links))).mode(0o500),
            b"ns" => Node::directory(Arc::new(NsDirectory(self.clone()))).mode(0o511),
            b"uid_map" => namespaces::map_file(self, MapKind::Users),
            b"gid_map" => namespaces::map_file(self, MapKind::Groups),
            b"projid_map" => namespaces::map_file(self, MapKind::Projects),
            b"setgroups" => namespaces::setgroups_file(self),
            b"timens_offsets" => namespaces::timens_offsets_file(self),
            b"fdinfo" => Node::directory(Arc::new(FdDirectory::new(self.clone(), FdKind::Info))).mode(0o555),
            b"net" => crate::network::directory(self.clone()),
            b"task" if self.thread.is_none() => {
                Node::directory(Arc::new(TaskDirectory(self.clone()))).mode(0o555)
            }
            _ => return Err(Errno::ENOENT),
        };
        let (uid, gid) = owner(&*self.process()?);
        let number = inode_number(self.thread.as_ref().unwrap_or(&self.pid), place as u64 + 1);
        Ok(node.owner(uid, gid).inode_number(number))
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        self.process()?;
        for (index, (name, kind)) in NAMES.iter().enumerate().skip(cursor as usize) {
            if self.thread.is_some() && *name == "task" {
                continue;
            }
            let inode = inode_number(self.thread.as_ref().unwrap_or(&self.pid), index as u64 + 1);
            if !take(name.as_bytes(), *kind, inode, index as u64 + 1) {
                break;
            }
        }
        Ok(())
    }
}

impl ProcessDirectory {
    fn state<R>(&self, get: impl FnOnce(&vfs::FsState) -> R) -> Result<R> {
        let state = self.task()?.fs().ok_or(Errno::ENOENT)?.state().ok_or(Errno::ENOENT)?;
        Ok(get(&state))
    }

    /// `timerslack_ns`: another's needs `CAP_SYS_NICE`; 0 sets the default. A line, unlike the other settings.
    fn timer_slack(&self) -> Node {
        fn check(target: &Task) -> Result<()> {
            let may = task::task::with_current(|own| {
                core::ptr::eq(own, target) || own.credentials().has(security::Capability::SysNice)
            });
            if may.unwrap_or(true) { Ok(()) } else { Err(Errno::EPERM) }
        }
        let (reader, writer) = (self.clone(), self.clone());
        Node::writable_text(
            0o666,
            move |out| {
                let task = reader.task()?;
                check(&task)?;
                writeln!(out, "{}", task.timer_slack_ns()).map_err(|_| Errno::ENOMEM)
            },
            move |input| {
                let task = writer.task()?;
                check(&task)?;
                let text = core::str::from_utf8(input).map_err(|_| Errno::EINVAL)?;
                task.set_timer_slack_ns(text.trim().parse().map_err(|_| Errno::EINVAL)?);
                Ok(())
            },
        )
    }

    /// `comm` can be written by the process itself.
    fn comm(&self) -> Node {
        let (reader, writer) = (self.clone(), self.clone());
        Node::writable_text(
            0o644,
            move |out| reader.with_subject(|subject| text::comm(subject, out))?.map_err(|_| Errno::ENOMEM),
            move |input| {
                let task = writer.task()?;
                let own = task::task::with_current(|current| Arc::ptr_eq(current.process(), task.process()));
                if own != Some(true) {
                    return Err(Errno::EINVAL);
                }
                let name = input.strip_suffix(b"\n").unwrap_or(input);
                task.thread().set_name(name.get(..name.len().min(15)).unwrap_or_default());
                Ok(())
            },
        )
    }
}

/// `loginuid`: a thread's own, once, by who may (`CAP_AUDIT_CONTROL`), as with Linux's auditing.
fn set_login_user(task: &Arc<Task>, value: u64) -> Result<()> {
    let value = u32::try_from(value).map_err(|_| Errno::EINVAL)?;
    let own = task::task::with_current(|current| {
        let may = current.credentials().has(security::Capability::AuditControl);
        (core::ptr::eq(current, &**task), may)
    });
    match own {
        Some((true, true)) => task.set_login_user(value),
        _ => return Err(Errno::EPERM),
    }
    Ok(())
}

/// Lowering the value below what it was set to by a privileged task needs `CAP_SYS_RESOURCE` (proc_pid_oom_score_adj(5)).
fn set_oom_score_adjustment(directory: &ProcessDirectory, value: i32) -> Result<()> {
    if !(-1000..=1000).contains(&value) {
        return Err(Errno::EINVAL);
    }
    let process = directory.process()?;
    let privileged = task::task::with_current(|own| {
        security::capable_anywhere_above(&own.credentials(), security::Capability::SysResource)
    });
    let privileged = privileged.unwrap_or(true);
    if value < process.oom_score_adjustment_min() && !privileged {
        return Err(Errno::EACCES);
    }
    process.set_oom_score_adjustment(value);
    if privileged {
        process.set_oom_score_adjustment_min(value);
    }
    Ok(())
}

/// `/proc/PID/task`.
struct TaskDirectory(ProcessDirectory);

impl Directory for TaskDirectory {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let process = self.0.process()?;
        let number = parse_number(name).ok_or(Errno::ENOENT)?;
        let task = self.0.pids.find_task(number).ok_or(Errno::ENOENT)?;
        if !Arc::ptr_eq(task.process(), &process) {
            return Err(Errno::ENOENT);
        }
        Ok(process_node(&self.0.pids, &self.0.pid, Some(&task.pid()), &process))
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        let process = self.0.process()?;
        let mut numbers: Vec<i32> =
            process.threads().iter().map(|task| task.pid().number_in(&self.0.pids)).collect();
        numbers.sort_unstable();
        for number in numbers.into_iter().filter(|number| *number as u64 >= cursor) {
            let name = alloc::format!("{number}");
            let inode = PROCESS_BASE + ((number as u64) << 12);
            if !take(name.as_bytes(), FileKind::Directory, inode, number as u64 + 1) {
                break;
            }
        }
        Ok(())
    }

    fn caching(&self) -> NameCaching {
        NameCaching::Checked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_are_processes() {
        assert_eq!(parse_number(b"17"), Some(17));
        for wrong in [&b""[..], b"0", b"01", b"+1", b"-1", b"1a", b"99999999999"] {
            assert_eq!(parse_number(wrong), None);
        }
    }
}
