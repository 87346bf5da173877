//! Resource usage: processor time, faults and switches of threads, summed for processes and their children.
//!
//! [`Times`], [`Usage`] are plain values; a process keeps the sum of its ended threads and of its reaped children under one leaf
//! lock and adds the live threads when asked.

use crate::process::Process;
use crate::task::Task;
use core::sync::atomic::{AtomicU64, Ordering};

/// Processor time.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Times {
    /// In the program.
    pub user_ns: u64,
    /// In the kernel on its behalf.
    pub system_ns: u64,
}

impl Times {
    /// Both.
    pub fn total_ns(&self) -> u64 {
        self.user_ns + self.system_ns
    }
}

/// What getrusage(2) tells.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Processor time in the program.
    pub user_ns: u64,
    /// Processor time in the kernel on its behalf.
    pub system_ns: u64,
    /// Page faults that needed no input/output.
    pub minor_faults: u64,
    /// Page faults that did.
    pub major_faults: u64,
    /// Context switches by waiting.
    pub voluntary_switches: u64,
    /// Context switches by preemption.
    pub involuntary_switches: u64,
    /// Largest resident set.
    pub peak_rss_kib: u64,
    /// What went through read(2), write(2) and their like.
    pub transfers: Transfers,
}

/// How much was read and written by system calls (`/proc/PID/io`).
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Transfers {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Calls that read.
    pub reads: u64,
    /// Calls that wrote.
    pub writes: u64,
}

impl Transfers {
    fn add(&mut self, other: &Transfers) {
        self.read_bytes += other.read_bytes;
        self.written_bytes += other.written_bytes;
        self.reads += other.reads;
        self.writes += other.writes;
    }
}

impl Usage {
    /// Adds another's; resident sets are compared, not summed.
    pub fn add(&mut self, other: &Usage) {
        self.user_ns += other.user_ns;
        self.system_ns += other.system_ns;
        self.minor_faults += other.minor_faults;
        self.major_faults += other.major_faults;
        self.voluntary_switches += other.voluntary_switches;
        self.involuntary_switches += other.involuntary_switches;
        self.peak_rss_kib = self.peak_rss_kib.max(other.peak_rss_kib);
        self.transfers.add(&other.transfers);
    }

    /// All processor time.
    pub fn cpu_time_ns(&self) -> u64 {
        self.user_ns + self.system_ns
    }
}

/// What a process has used besides its live threads.
#[derive(Copy, Clone, Debug, Default)]
pub struct UsageSums {
    /// Its threads that have ended.
    pub ended_threads: Usage,
    /// Its children that have been waited for, with theirs.
    pub children: Usage,
}

/// Counters of one thread.
#[derive(Debug, Default)]
pub struct TaskCounters {
    minor_faults: AtomicU64,
    major_faults: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl TaskCounters {
    pub(crate) fn count_fault(&self) {
        self.minor_faults.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call that read, by the thread itself.
    #[inline]
    pub fn count_read(&self, bytes: usize) {
        add_alone(&self.read_bytes, bytes as u64);
        add_alone(&self.reads, 1);
    }

    /// Counts a call that wrote, by the thread itself.
    #[inline]
    pub fn count_write(&self, bytes: usize) {
        add_alone(&self.written_bytes, bytes as u64);
        add_alone(&self.writes, 1);
    }

    fn transfers(&self) -> Transfers {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Transfers {
            read_bytes: load(&self.read_bytes),
            written_bytes: load(&self.written_bytes),
            reads: load(&self.reads),
            writes: load(&self.writes),
        }
    }
}

/// Adds to a counter that nobody else changes: needs no locked instruction.
#[inline]
fn add_alone(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}

/// What one thread has used.
pub fn of_task(task: &Task) -> Usage {
    let (voluntary_switches, involuntary_switches) = task.thread().context_switches();
    let times = task.times();
    Usage {
        user_ns: times.user_ns,
        system_ns: times.system_ns,
        minor_faults: task.counters.minor_faults.load(Ordering::Relaxed),
        major_faults: task.counters.major_faults.load(Ordering::Relaxed),
        voluntary_switches,
        involuntary_switches,
        peak_rss_kib: 0,
        transfers: task.counters.transfers(),
    }
}

/// What a process has used, with its live threads. No lock of a thread or process may be held.
pub fn of_process(process: &Process) -> Usage {
    let mut usage = process.usage.lock().ended_threads;
    let shared = process.shared.lock();
    for task in &shared.threads {
        usage.add(&of_task(task));
    }
    drop(shared);
    usage
}

/// Largest resident set of a memory, KiB.
pub(crate) fn peak_rss_kib(space: &mm::AddressSpace) -> u64 {
    (space.usage().peak_rss * (machine::PAGE_SIZE / 1024)) as u64
}

/// [`of_process`] with the largest resident set of its live memory; may take the memory's locks.
pub fn of_process_with_memory(process: &Process) -> Usage {
    let mut usage = of_process(process);
    if let Some(space) = process.space() {
        usage.peak_rss_kib = usage.peak_rss_kib.max(peak_rss_kib(&space));
    }
    usage
}

/// What its children have used that it has waited for.
pub fn of_children(process: &Process) -> Usage {
    process.usage.lock().children
}
