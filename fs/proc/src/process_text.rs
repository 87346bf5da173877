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
use security::{Credentials, UserNamespace};
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

/// The user namespace that numbers are shown for: the reader's.
fn reader_users() -> Arc<UserNamespace> {
    task::task::with_current(|task| task.credentials().user_namespace.clone())
        .unwrap_or_else(|| security::initial_namespace().clone())
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
    write!(out, "{} {} {} 0 {} ", stat.priority, stat.nice, stat.threads, shown_start(&stat))?;
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

/// When it began, in ticks of the reader's boot-time clock.
fn shown_start(stat: &Stat) -> u64 {
    crate::system::shown_boottime_ns(stat.start_ns) / TICK_NS
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
    writeln!(out, "FDSize:\t{}", files.map_or(0, |files| files.capacity()))?;
    write_groups(&subject.credentials(), out)?;
    write_numbers(subject, out)?;
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

/// The numbers in each pid namespace from the reader's on, inwards.
fn write_numbers(subject: &Subject<'_>, out: &mut Text) -> fmt::Result {
    let process = subject.process;
    let thread = subject.task.map_or_else(|| process.pid().clone(), Task::pid);
    let lines = [
        ("NStgid", Some(process.pid().clone())),
        ("NSpid", Some(thread)),
        ("NSpgid", task::pid::root().find(process.group() as i32)),
        ("NSsid", task::pid::root().find(process.session() as i32)),
    ];
    // A group or session from outside has no number inside.
    let levels = process.namespace().level() + 1 - subject.namespace.level();
    for (name, pid) in lines {
        let mut numbers = pid.map(|pid| pid.numbers_from(subject.namespace)).unwrap_or_default();
        numbers.resize(levels, 0);
        write!(out, "{name}:")?;
        numbers.iter().try_for_each(|number| write!(out, "\t{number}"))?;
        writeln!(out)?;
    }
    Ok(())
}

fn write_ids(credentials: &Credentials, out: &mut Text) -> fmt::Result {
    let ns = &reader_users();
    let c = credentials;
    let uids = [c.ruid, c.euid, c.suid, c.fsuid].map(|uid| ns.from_kuid_munged(uid));
    let gids = [c.rgid, c.egid, c.sgid, c.fsgid].map(|gid| ns.from_kgid_munged(gid));
    writeln!(out, "Uid:\t{}\t{}\t{}\t{}", uids[0], uids[1], uids[2], uids[3])?;
    writeln!(out, "Gid:\t{}\t{}\t{}\t{}", gids[0], gids[1], gids[2], gids[3])
}

fn write_groups(credentials: &Credentials, out: &mut Text) -> fmt::Result {
    write!(out, "Groups:\t")?;
    let ns = &reader_users();
    for (index, gid) in credentials.groups.iter().enumerate() {
        write!(out, "{}{}", if index > 0 { " " } else { "" }, ns.from_kgid_munged(*gid))?;
    }
    // The blank at the end is Linux's, also behind no group at all.
    writeln!(out, " ")
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
        ("VmSwap", usage.swapped),
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

/// `/proc/PID/io`: what went through reading and writing calls, with those of children that were waited for. There is no
/// storage behind the page cache that could be read from or written to.
pub fn io(subject: &Subject<'_>, out: &mut Text) -> fmt::Result {
    let stat = subject.stat();
    let mut sum = stat.counts;
    if subject.task.is_none() {
        sum.add(&stat.children);
    }
    let transfers = sum.transfers;
    writeln!(out, "rchar: {}\nwchar: {}", transfers.read_bytes, transfers.written_bytes)?;
    writeln!(out, "syscr: {}\nsyscw: {}", transfers.reads, transfers.writes)?;
    writeln!(out, "read_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0")
}

/// `/proc/PID/personality`: personality(2) in hexadecimal.
pub fn personality(subject: &Subject<'_>, out: &mut Text) -> fmt::Result {
    writeln!(out, "{:08x}", subject.process.personality())
}

/// `/proc/PID/sched`: what the scheduler keeps of the thread, times in milliseconds.
pub fn sched(subject: &Subject<'_>, out: &mut Text) -> fmt::Result {
    let stat = subject.stat();
    let counts = &stat.counts;
    writeln!(out, "{} ({}, #threads: {})", name_text(&stat.name), subject.number(), stat.threads)?;
    writeln!(out, "{}", "-".repeat(67))?;
    let run_ns = counts.user_ns + counts.system_ns;
    let milliseconds = alloc::format!("{}.{:06}", run_ns / 1_000_000, run_ns % 1_000_000);
    writeln!(out, "{:<45}:{milliseconds:>21}", "se.sum_exec_runtime")?;
    let weight = ::sched::policy::weight_of_nice(stat.nice as i8) * 1024;
    let lines = [
        ("nr_switches", counts.voluntary_switches + counts.involuntary_switches),
        ("nr_voluntary_switches", counts.voluntary_switches),
        ("nr_involuntary_switches", counts.involuntary_switches),
        ("se.load.weight", weight),
        ("policy", u64::from(stat.policy)),
        ("prio", (stat.priority + 100) as u64),
    ];
    lines.iter().try_for_each(|(name, value)| writeln!(out, "{name:<45}:{value:>21}"))
}

/// `/proc/PID/oom_score`: how likely the out-of-memory killer is to choose it.
pub fn oom_score(subject: &Subject<'_>, out: &mut Text) -> fmt::Result {
    let adjustment = subject.process.oom_score_adjustment();
    let score = subject.space().map(|space| mm::oom::score(&space.usage(), adjustment));
    writeln!(out, "{}", score.unwrap_or(0))
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
