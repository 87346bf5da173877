//! What `/proc/diskstats` and `/sys/block/*/stat` tell of a disk or partition (Linux's `Documentation/admin-guide/iostats.rst`).
//!
//! Key types: [`Statistics`], [`Totals`]. Counters are kept for each CPU and added up when somebody reads, so that one is a little behind the
//! other then. Locks: none.

use crate::SECTOR_SIZE;
use crate::bio::Operation;
use machine::cpu::PerCpu;
use machine::preempt;
use machine::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The four kinds that are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// From the device.
    Read,
    /// To the device.
    Write,
    /// Forgetting.
    Discard,
    /// Of the device's cache.
    Flush,
}

impl Kind {
    /// How many there are.
    const COUNT: usize = 4;

    pub(crate) fn of(operation: Operation) -> Kind {
        match operation {
            Operation::Read => Kind::Read,
            Operation::Write | Operation::WriteZeroes => Kind::Write,
            Operation::Discard => Kind::Discard,
            Operation::Flush => Kind::Flush,
        }
    }
}

/// What is counted of one kind.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Requests completed.
    pub requests: u64,
    /// Transfers that became part of another.
    pub merged: u64,
    /// Sectors of 512 bytes.
    pub sectors: u64,
    /// Time from submission to completion, nanoseconds, of all added up.
    pub time_ns: u64,
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    merged: AtomicU64,
    sectors: AtomicU64,
    time_ns: AtomicU64,
}

#[derive(Default)]
struct OfCpu {
    kinds: [Counters; Kind::COUNT],
    /// Begun less ended here: reads, then all others.
    in_flight: [AtomicI64; 2],
}

/// The counters of one device.
pub struct Statistics {
    cpus: PerCpu<OfCpu>,
    /// When [`Self::busy_ns`] was brought up to date, of [`machine::time::now_ns`].
    looked_ns: AtomicU64,
    busy_ns: AtomicU64,
    /// How many have begun and not ended: all of them.
    active: AtomicI64,
}

impl Statistics {
    pub(crate) fn new() -> Statistics {
        Statistics {
            cpus: PerCpu::new_with(|_| OfCpu::default()),
            looked_ns: AtomicU64::new(machine::time::now_ns()),
            busy_ns: AtomicU64::new(0),
            active: AtomicI64::new(0),
        }
    }

    /// Time passes; it counts as busy if something was going on.
    fn look(&self, was_active: bool, now_ns: u64) {
        let before_ns = self.looked_ns.swap(now_ns, Ordering::Relaxed);
        if was_active {
            self.busy_ns.fetch_add(now_ns.saturating_sub(before_ns), Ordering::Relaxed);
        }
    }

    pub(crate) fn note_begun(&self, operation: Operation, now_ns: u64) {
        let before = self.active.fetch_add(1, Ordering::Relaxed);
        self.look(before > 0, now_ns);
        let guard = preempt::disable();
        let place = usize::from(operation != Operation::Read);
        if let Some(count) = self.cpus.get(&guard).in_flight.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn note_merged(&self, operation: Operation) {
        let guard = preempt::disable();
        let cpu = self.cpus.get(&guard);
        if let Some(counters) = cpu.kinds.get(Kind::of(operation) as usize) {
            counters.merged.fetch_add(1, Ordering::Relaxed);
        }
        self.note_ended(operation, cpu);
    }

    fn note_ended(&self, operation: Operation, cpu: &OfCpu) {
        if let Some(count) = cpu.in_flight.get(usize::from(operation != Operation::Read)) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn note_done(&self, operation: Operation, sectors: u64, began_ns: u64) {
        let now_ns = machine::time::now_ns();
        self.look(true, now_ns);
        let guard = preempt::disable();
        let cpu = self.cpus.get(&guard);
        if let Some(counters) = cpu.kinds.get(Kind::of(operation) as usize) {
            counters.requests.fetch_add(1, Ordering::Relaxed);
            counters.sectors.fetch_add(sectors, Ordering::Relaxed);
            counters.time_ns.fetch_add(now_ns.saturating_sub(began_ns), Ordering::Relaxed);
        }
        self.note_ended(operation, cpu);
    }

    /// What was counted of a kind.
    pub fn totals(&self, kind: Kind) -> Totals {
        let mut totals = Totals::default();
        for (_, cpu) in self.cpus.iter() {
            let Some(counters) = cpu.kinds.get(kind as usize) else { continue };
            totals.requests += counters.requests.load(Ordering::Relaxed);
            totals.merged += counters.merged.load(Ordering::Relaxed);
            totals.sectors += counters.sectors.load(Ordering::Relaxed);
            totals.time_ns += counters.time_ns.load(Ordering::Relaxed);
        }
        totals
    }

    /// How many are under way: reads, and all others.
    pub fn in_flight(&self) -> (u64, u64) {
        let sum = |place: usize| {
            let counts = self.cpus.iter().filter_map(|(_, cpu)| cpu.in_flight.get(place));
            counts.map(|count| count.load(Ordering::Relaxed)).sum::<i64>().max(0) as u64
        };
        (sum(0), sum(1))
    }

    /// How long something was under way, nanoseconds.
    pub fn busy_ns(&self) -> u64 {
        let active = self.active.load(Ordering::Relaxed) > 0;
        self.look(active, machine::time::now_ns());
        self.busy_ns.load(Ordering::Relaxed)
    }

    /// The numbers of `/sys/block/*/stat`, which follow the name in `/proc/diskstats`.
    pub fn write_line(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        const MS: u64 = 1_000_000;
        let mut all_ns = 0;
        for kind in [Kind::Read, Kind::Write] {
            let totals = self.totals(kind);
            all_ns += totals.time_ns;
            let Totals { requests, merged, sectors, time_ns } = totals;
            write!(out, "{requests} {merged} {sectors} {} ", time_ns / MS)?;
        }
        let (discard, flush) = (self.totals(Kind::Discard), self.totals(Kind::Flush));
        all_ns += discard.time_ns + flush.time_ns;
        let (reads, others) = self.in_flight();
        write!(out, "{} {} {} ", reads + others, self.busy_ns() / MS, all_ns / MS)?;
        let Totals { requests, merged, sectors, time_ns } = discard;
        write!(out, "{requests} {merged} {sectors} {} ", time_ns / MS)?;
        writeln!(out, "{} {}", flush.requests, flush.time_ns / MS)
    }
}

const _: () = assert!(SECTOR_SIZE == 512, "the unit of Linux's counters");
