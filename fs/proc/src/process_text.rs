//! The contents of the files in `/proc/PID` (proc_pid(5)): `stat`, `status`, `statm`, `cmdline`, `limits`, `maps`, ….
//!
//! Each function writes one file from what `task::stat` and the address space tell. Locks: those of what is asked.

use crate::system::TICK_NS;
use abi::errno::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use machine::PAGE_SIZE;
use mm::{AddressSpace, RemoteAccess};
use security::Credentials;
use task::limits::{INFINITY, Resource};
use task::pid::PidNamespace;
use task::stat::Stat;
use task::{Process, Task};
use vfs::pseudo::Text;

/// A page in KiB.
const PAGE_KIB: usize = PAGE_SIZE / 1024;

/// One process or thread, as a reader asks about it.
pub struct Subject<'a> {
    /// The process.
    pub process: &'a Process,
    /// The thread, in a `task/TID` directory; else the process as a whole.
    pub task: Option<&'a Task>,
    /// Whose numbers the reader sees.
    pub namespace: &'a PidNamespace,
}

impl Subject<'_> {
    /// What `task::stat` tells.
    pub fn stat(&self) -> Stat {
        match self.task {
            Some(task) => task::stat::of_task(task, self.namespace),
            None => task::stat::of_process(self.process, self.namespace),
        }
    }

    fn number(&self) -> i32 {
        match self.task {
            Some(task) => task.pid().number_in(self.namespace),
            None => self.process.number_in(self.namespace),
        }
    }

    fn space(&self) -> Option<Arc<AddressSpace>> {
        self.process.space()
    }

    /// Who it is; a zombie keeps its leader's.
    pub fn credentials(&self) -> Arc<Credentials> {
        match (self.task, self.process.leader()) {
            (Some(task), _) => task.credentials(),
            (None, Some(leader)) => leader.credentials(),
            (None, None) => Credentials::initial(),
        }
    }
}

/// A name without its zeros.
pub fn name_text(name: &[u8; 16]) -> String {
    let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(name.get(..len).unwrap_or_default()).into_owned()
}

/// `/proc/PID/comm`.
pub fn comm(subject: &Subject<'_>, out: &mut Text) -> fmt::Result {
    writeln!(out, "{}", name_text(&subject.stat().name))
}

/// `/proc/PID/stat`: 52 fields.
pub fn stat(subject: &Subject<'_>, out: &mut Text) -> fmt::Result {
    let stat = subject.stat();
    let space = subject.space();
    let usage = space.as_ref().map(|space| space.usage());
    let program = space.as_ref().map(|space| space.program_info());
    let terminal =
        stat.terminal.map_or(0, |(major, minor)| (minor & 0xff) | major << 8 | (minor & !0xff) << 12);
    write!(out, "{} ({}) {} ", subject.number(), name_text(&stat.name), stat.state)?;
    write!(out, "{} {} {} {terminal} {} ", stat.parent, stat.group, stat.session, stat.foreground)?;
    let (own, children) = (&stat.counts, &stat.children);
    write!(out, "0 {} {} ", own.minor_faults, children.minor_faults)?;
    write!(out, "{} {} ", own.major_faults, children.major_faults)?;
    write!(out, "{} {} ", own.user_ns / TICK_NS, own.system_ns / TICK_NS)?;
    write!(out, "{} {} ", children.user_ns / TICK_NS, children.system_ns / TICK_NS)?;
    write!(out, "{} {} {} 0 {} ", stat.priority, stat.nice, stat.threads, stat.start_ns / TICK_NS)?;
    let (size, resident) = usage.map_or((0, 0), |usage| (usage.total * PAGE_SIZE, usage.rss()));
    let limit = subject.process.limits().soft(Resource::ResidentSet);
    write!(out, "{size} {resident} {limit} ")?;
    let text = program.as_ref().map_or([0; 3], |p| [p.start_code, p.end_code, p.start_stack]);
    write!(out, "{} {} {} 0 0 ", text[0], text[1], text[2])?;
    let low = |set: task::signal::SignalSet| set.bits() & 0x7fff_ffff;
    write!(out, "{} {} ", low(stat.pending), low(stat.blocked))?;
    write!(out, "{} {} ", low(stat.ignored), low(stat.caught))?;
    write!(out, "0 0 0 {} {} {} {} 0 0 0 ", stat.exit_signal, stat.cpu, stat.realtime_priority, stat.policy)?;
    let p = program.as_ref();
    let data =
        p.map_or([0; 7], |p| [p.start_data, p.end_data, 0, p.arg_start, p.arg_end, p.env_start, p.env_end]);
    data.iter().try_for_each(|value| write!(out, "{value} "))?;
    writeln!(out, "{}", stat.exit_status)
}

/// `/proc/PID/statm`: pages.
pub fn statm(subject: &Subject<'_>, out: &mut Text) -> fmt::Result {
    let Some(usage) = subject.space().map(|space| space.usage()) else {
        return writeln!(out, "0 0 0 0 0 0 0");
    };
    let shared = usage.rss_file + usage.rss_shmem;
    let data = usage.data + usage.stack;
    writeln!(out, "{} {} {shared} {} 0 {data} 0", usage.total, usage.rss(), usage.exec)
}

/// The word behind a state letter.
fn state_name(letter: char) -> &'static str {
    match letter {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk sleep",
        'T' => "stopped",
        't' => "tracing stop",
        'Z' => "zombie",
        'I' => "idle",
        _ => "dead",
    }
}

/// `/proc/PID/status`.
pub fn status(subject: &Subject<'_>, out: &mut Text) -> fmt::Result {
    let stat = subject.stat();
    writeln!(out, "Name:\t{}", name_text(&stat.name))?;
    if let Some(fs) = subject.process.leader().and_then(|leader| leader.fs()) {
        writeln!(out, "Umask:\t{:04o}", fs.umask())?;
    }
    writeln!(out, "State:\t{} ({})", stat.state, state_name(stat.state))?;
    writeln!(out, "Tgid:\t{}\nNgid:\t0", subject.process.number_in(subject.namespace))?;
    writeln!(out, "Pid:\t{}\nPPid:\t{}\nTracerPid:\t0", subject.number(), stat.parent)?;
    write_ids(&subject.credentials(), out)?;
    let files = subject.process.leader().and_then(|leader| leader.files());
    let number = subject.number();
    writeln!(out, "FDSize:\t{}", files.map_or(0, |files| files.capacity()))?;
    write_groups(&subject.credentials(), out)?;
    writeln!(out, "NStgid:\t{}\nNSpid:\t{number}", subject.process.number_in(subject.namespace))?;
    writeln!(out, "NSpgid:\t{}\nNSsid:\t{}", stat.group, stat.session)?;
    if let Some(space) = subject.space() {
        write_memory(&space, out)?;
    }
    writeln!(out, "Threads:\t{}", stat.threads)?;
    writeln!(out, "SigQ:\t{}/{}", stat.queued.0, stat.queued.1)?;
    let sets = [
        ("SigPnd", stat.pending),
        ("ShdPnd", stat.shared_pending),
        ("SigBlk", stat.blocked),
        ("SigIgn", stat.ignored),
        ("SigCgt", stat.caught),
    ];
    for (name, set) in sets {
        writeln!(out, "{name}:\t{:016x}", set.bits())?;
    }
    write_capabilities(&subject.credentials(), out)?;
    write_placement(subject, out)?;
    writeln!(out, "voluntary_ctxt_switches:\t{}", stat.counts.voluntary_switches)?;
    writeln!(out, "nonvoluntary_ctxt_switches:\t{}", stat.counts.involuntary_switches)
}

fn write_ids(credentials: &Credentials, out: &mut Text) -> fmt::Result {
    let ns = &credentials.user_namespace;
    let c = credentials;
    let uids = [c.ruid, c.euid, c.suid, c.fsuid].map(|uid| ns.from_kuid_munged(uid));
    let gids = [c.rgid, c.egid, c.sgid, c.fsgid].map(|gid| ns.from_kgid_munged(gid));
    writeln!(out, "Uid:\t{}\t{}\t{}\t{}", uids[0], uids[1], uids[2], uids[3])?;
    writeln!(out, "Gid:\t{}\t{}\t{}\t{}", gids[0], gids[1], gids[2], gids[3])
}

fn write_groups(credentials: &Credentials, out: &mut Text) -> fmt::Result {
    write!(out, "Groups:\t")?;
    let ns = &credentials.user_namespace;
    credentials.groups.iter().try_for_each(|gid| write!(out, "{} ", ns.from_kgid_munged(*gid)))?;
    writeln!(out)
}

fn write_capabilities(credentials: &Credentials, out: &mut Text) -> fmt::Result {
    let sets = [
        ("CapInh", credentials.inheritable),
        ("CapPrm", credentials.permitted),
        ("CapEff", credentials.effective),
        ("CapBnd", credentials.bounding),
        ("CapAmb", credentials.ambient),
    ];
    for (name, set) in sets {
        writeln!(out, "{name}:\t{:016x}", set.bits())?;
    }
    writeln!(out, "NoNewPrivs:\t{}\nSeccomp:\t0", u8::from(credentials.no_new_privileges))
}

fn write_memory(space: &AddressSpace, out: &mut Text) -> fmt::Result {
    let usage = space.usage();
    let lines = [
        ("VmPeak", usage.peak),
        ("VmSize", usage.total),
        ("VmLck", usage.locked),
        ("VmPin", 0),
        ("VmHWM", usage.peak_rss),
        ("VmRSS", usage.rss()),
        ("RssAnon", usage.rss_anonymous),
        ("RssFile", usage.rss_file),
        ("RssShmem", usage.rss_shmem),
        ("VmData", usage.data),
        ("VmStk", usage.stack),
        ("VmExe", usage.exec),
        ("VmLib", 0),
        ("VmPTE", usage.table_bytes.div_ceil(PAGE_SIZE)),
        ("VmSwap", 0),
    ];
    for (name, pages) in lines {
        writeln!(out, "{name}:\t{:>8} kB", pages * PAGE_KIB)?;
    }
    Ok(())
}

fn write_placement(subject: &Subject<'_>, out: &mut Text) -> fmt::Result {
    let leader = subject.process.leader();
    let Some(thread) = subject.task.or(leader.as_deref()).map(|task| task.thread().clone()) else {
        return Ok(());
    };
    let affinity = thread.affinity();
    let cpus: Vec<usize> =
        affinity.iter().map(|cpu| cpu.index()).filter(|cpu| *cpu < machine::cpu::count()).collect();
    let mask: u64 = cpus.iter().filter(|cpu| **cpu < 64).fold(0, |mask, cpu| mask | 1 << cpu);
    writeln!(out, "Cpus_allowed:\t{mask:x}")?;
    write!(out, "Cpus_allowed_list:\t")?;
    write_ranges(&cpus, out)?;
    writeln!(out)
}

/// `0-3,5`.
pub fn write_ranges(numbers: &[usize], out: &mut Text) -> fmt::Result {
    let mut rest = numbers;
    let mut comma = "";
    while let Some(first) = rest.first() {
        let run = rest.iter().enumerate().take_while(|(index, value)| **value == first + index).count();
        write!(out, "{comma}{first}")?;
        if run > 1 {
            write!(out, "-{}", first + run - 1)?;
        }
        comma = ",";
        rest = rest.get(run..).unwrap_or_default();
    }
    Ok(())
}

/// `/proc/PID/limits`.
pub fn limits(subject: &Subject<'_>, out: &mut Text) -> fmt::Result {
    const LINES: [(&str, Resource, &str); 16] = [
        ("Max cpu time", Resource::Cpu, "seconds"),
        ("Max file size", Resource::FileSize, "bytes"),
        ("Max data size", Resource::Data, "bytes"),
        ("Max stack size", Resource::Stack, "bytes"),
        ("Max core file size", Resource::Core, "bytes"),
        ("Max resident set", Resource::ResidentSet, "bytes"),
        ("Max processes", Resource::Processes, "processes"),
        ("Max open files", Resource::OpenFiles, "files"),
        ("Max locked memory", Resource::LockedMemory, "bytes"),
        ("Max address space", Resource::AddressSpace, "bytes"),
        ("Max file locks", Resource::Locks, "locks"),
        ("Max pending signals", Resource::PendingSignals, "signals"),
        ("Max msgqueue size", Resource::MessageQueue, "bytes"),
        ("Max nice priority", Resource::Nice, ""),
        ("Max realtime priority", Resource::RealTimePriority, ""),
        ("Max realtime timeout", Resource::RealTimeTime, "us"),
    ];
    writeln!(out, "{:<25} {:<20} {:<20} {:<10}", "Limit", "Soft Limit", "Hard Limit", "Units")?;
    let limits = subject.process.limits();
    let show =
        |value: u64| if value == INFINITY { String::from("unlimited") } else { alloc::format!("{value}") };
    for (name, resource, unit) in LINES {
        let limit = limits.get(resource);
        writeln!(out, "{name:<25} {:<20} {:<20} {unit:<10}", show(limit.soft), show(limit.hard))?;
    }
    Ok(())
}

/// Bytes of a process's own memory between two addresses. Errors: `EIO` if they are not there.
fn memory(space: &AddressSpace, start: usize, end: usize) -> Result<Vec<u8>> {
    const MOST: usize = 1 << 20;
    let len = end.saturating_sub(start).min(MOST);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(len, 0);
    let read = space.read_remote(start, &mut bytes, RemoteAccess::Forced)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// `/proc/PID/cmdline`: the arguments, each with its NUL. A program that wrote over them past their end (setproctitle)
/// shows up to the first NUL.
pub fn cmdline(subject: &Subject<'_>) -> Result<Vec<u8>> {
    let Some(space) = subject.space() else { return Ok(Vec::new()) };
    let info = space.program_info();
    let bytes = memory(&space, info.arg_start, info.arg_end)?;
    if bytes.last().is_some_and(|last| *last != 0) {
        let all = memory(&space, info.arg_start, info.env_end)?;
        let len = all.iter().position(|byte| *byte == 0).unwrap_or(all.len());
        return Ok(all.get(..len).unwrap_or_default().to_vec());
    }
    Ok(bytes)
}

/// `/proc/PID/environ`.
pub fn environ(subject: &Subject<'_>) -> Result<Vec<u8>> {
    let Some(space) = subject.space() else { return Ok(Vec::new()) };
    let info = space.program_info();
    memory(&space, info.env_start, info.env_end)
}

/// `/proc/PID/auxv`.
pub fn auxv(subject: &Subject<'_>) -> Result<Vec<u8>> {
    Ok(subject.space().map(|space| space.program_info().auxv.clone()).unwrap_or_default())
}

/// `/proc/PID/maps`.
pub fn maps(subject: &Subject<'_>, out: &mut Text) -> fmt::Result {
    let Some(space) = subject.space() else { return Ok(()) };
    let mappings = space.snapshot();
    mappings.iter().try_for_each(|(_, vma)| space.write_maps_line(vma, out))
}

/// `/proc/PID/smaps`.
pub fn smaps(subject: &Subject<'_>, out: &mut Text) -> fmt::Result {
    let Some(space) = subject.space() else { return Ok(()) };
    let mappings = space.snapshot();
    mappings.iter().try_for_each(|(_, vma)| space.write_smaps(vma, out))
}

/// `/proc/PID/schedstat`: running time, waiting time (not measured: 0), slices.
pub fn schedstat(subject: &Subject<'_>, out: &mut Text) -> fmt::Result {
    let counts = subject.stat().counts;
    let slices = counts.voluntary_switches + counts.involuntary_switches;
    writeln!(out, "{} 0 {slices}", counts.user_ns + counts.system_ns)
}

/// `/proc/PID/oom_score`: badness in thousandths of the memory.
pub fn oom_score(subject: &Subject<'_>, out: &mut Text) -> fmt::Result {
    let total = (mm::stats::meminfo().total as usize / PAGE_KIB).max(1);
    let score = subject
        .space()
        .and_then(|space| mm::oom::badness(&space.usage(), subject.process.oom_score_adjustment(), total));
    writeln!(out, "{}", score.map_or(0, |score| score as usize * 1000 / total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_lists_of_runs() {
        let show = |numbers: &[usize]| {
            let mut out = Text::default();
            write_ranges(numbers, &mut out).unwrap();
            alloc::format!("{out}")
        };
        assert_eq!(show(&[]), "");
        assert_eq!(show(&[0]), "0");
        assert_eq!(show(&[0, 1, 2, 3, 5, 7, 8]), "0-3,5,7-8");
    }
}
