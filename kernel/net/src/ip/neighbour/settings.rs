//! How neighbours are asked and when they are forgotten: numbers of each interface (`/proc/sys/net/ipv4/neigh/DEV`), and of a family
//! for the whole machine.
//!
//! Key types: [`NeighbourSettings`] (of one interface and family; times in milliseconds), [`Family`] (what both share with all
//! namespaces, as on Linux: what new interfaces copy, how many neighbours there may be, what is counted), [`File`]. Locks: none,
//! atomics.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use linnet_lib::neighbour::Parameters;
use machine::memory::try_arc;
use machine::sync::Lazy;
use machine::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use crate::ip::config::Settings;
use crate::ip::device::IpDevice;
use crate::namespace::NetState;

/// The numbers, in the order of Linux (`NEIGH_VAR_*`).
#[allow(missing_docs)]
pub mod which {
    pub const GROUP_PROBES: usize = 0;
    pub const OWN_PROBES: usize = 1;
    pub const PROGRAM_PROBES: usize = 2;
    pub const GROUP_REPROBES: usize = 3;
    pub const RETRANSMIT: usize = 4;
    pub const BASE_REACHABLE: usize = 5;
    pub const DELAY: usize = 6;
    pub const INTERVAL_PROBE: usize = 7;
    pub const STALE: usize = 8;
    pub const QUEUE_BYTES: usize = 9;
    pub const PROXY_QUEUE: usize = 10;
    pub const ANYCAST_DELAY: usize = 11;
    pub const PROXY_DELAY: usize = 12;
    pub const LOCK: usize = 13;
    /// Drawn from `BASE_REACHABLE` (RFC 4861 section 6.3.2).
    pub const REACHABLE: usize = 14;
    /// How many there are.
    pub const COUNT: usize = 15;
}
use which::*;

/// Those of one interface and family.
pub type NeighbourSettings = Settings<COUNT>;

const MILLISECOND_NS: u64 = 1_000_000;
/// Bytes that a packet of the largest usual frame costs: `unres_qlen` counts in these.
const PACKET_BYTES: i32 = 2090;
/// Between two questions there is at least this.
const RETRANSMIT_LEAST_MS: u64 = 10;

impl NeighbourSettings {
    fn milliseconds(&self, which: usize) -> u64 {
        self.get(which).max(0) as u64
    }

    fn count(&self, which: usize) -> u32 {
        self.get(which).max(0) as u32
    }

    /// What the state machine wants to know.
    pub(crate) fn parameters(&self) -> Parameters {
        Parameters {
            reachable_ns: self.milliseconds(REACHABLE) * MILLISECOND_NS,
            delay_ns: self.milliseconds(DELAY) * MILLISECOND_NS,
            retransmit_ns: self.milliseconds(RETRANSMIT).max(RETRANSMIT_LEAST_MS) * MILLISECOND_NS,
            own_probes: self.count(OWN_PROBES),
            program_probes: self.count(PROGRAM_PROBES),
            group_probes: self.count(GROUP_PROBES),
            group_reprobes: self.count(GROUP_REPROBES),
            lock_ns: self.milliseconds(LOCK) * MILLISECOND_NS,
        }
    }

    /// For how long a neighbour that nobody uses is kept.
    pub(crate) fn stale_ns(&self) -> u64 {
        self.milliseconds(STALE) * MILLISECOND_NS
    }

    /// Draws for how long a neighbour counts as reachable: not all interfaces of a link ask at once.
    pub(crate) fn draw_reachable(&self) {
        let base = self.milliseconds(BASE_REACHABLE);
        let drawn = if base == 0 { 0 } else { base / 2 + machine::random::next_u64() % base };
        self.put(REACHABLE, i32::try_from(drawn).unwrap_or(i32::MAX));
    }

    /// Sets a number because somebody wants it.
    pub(crate) fn choose(&self, which: usize, value: i32) {
        self.set(which, value);
        if which == BASE_REACHABLE {
            self.draw_reachable();
        }
    }
}

/// What is counted of a family.
#[allow(missing_docs)]
pub mod statistic {
    pub const ALLOCATIONS: usize = 0;
    pub const ENDS: usize = 1;
    pub const FAILURES: usize = 3;
    pub const LOOKUPS: usize = 4;
    pub const HITS: usize = 5;
    pub const FORCED_FORGETTING: usize = 9;
    pub const TABLE_FULL: usize = 10;
    /// How many there are, with those that cannot happen here (tables do not grow; there is no periodic forgetting).
    pub const COUNT: usize = 11;
}

/// What a family has for the whole machine.
pub struct Family {
    /// What netlink calls its table.
    pub name: &'static str,
    /// What new interfaces copy.
    pub defaults: Lazy<NeighbourSettings>,
    /// `gc_thresh1`, `gc_thresh2`, `gc_thresh3`: so many neighbours of an interface are kept whatever their age, are kept for a while,
    /// are kept at all.
    pub thresholds: [AtomicI32; 3],
    /// `gc_interval`, milliseconds: kept and told; nothing looks at it, as on Linux.
    pub interval: AtomicI32,
    statistics: [AtomicU64; statistic::COUNT],
}

fn defaults(lock: i32) -> NeighbourSettings {
    let settings = NeighbourSettings::new(&[
        (GROUP_PROBES, 3),
        (OWN_PROBES, 3),
        (RETRANSMIT, 1000),
        (BASE_REACHABLE, 30_000),
        (DELAY, 5_000),
        (INTERVAL_PROBE, 5_000),
        (STALE, 60_000),
        (QUEUE_BYTES, 212_992),
        (PROXY_QUEUE, 64),
        (ANYCAST_DELAY, 1_000),
        (PROXY_DELAY, 800),
        (LOCK, lock),
    ]);
    settings.draw_reachable();
    settings
}

const fn family_of(name: &'static str, make: fn() -> NeighbourSettings) -> Family {
    Family {
        name,
        defaults: Lazy::new(make),
        thresholds: [AtomicI32::new(128), AtomicI32::new(512), AtomicI32::new(1024)],
        interval: AtomicI32::new(30_000),
        statistics: [const { AtomicU64::new(0) }; statistic::COUNT],
    }
}

static FAMILIES: [Family; 2] =
    [family_of("arp_cache", || defaults(1_000)), family_of("ndisc_cache", || defaults(0))];

/// What a family has for the whole machine.
pub fn family(is_v6: bool) -> &'static Family {
    let [v4, v6] = &FAMILIES;
    if is_v6 { v6 } else { v4 }
}

impl Family {
    /// One of `gc_thresh1` to `gc_thresh3`, by number from 0.
    pub(crate) fn threshold(&self, number: usize) -> usize {
        self.thresholds.get(number).map_or(0, |value| value.load(Ordering::Relaxed).max(0) as usize)
    }

    /// Counts.
    pub(crate) fn note(&self, which: usize) {
        if let Some(count) = self.statistics.get(which) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted.
    pub(crate) fn counted(&self) -> [u64; statistic::COUNT] {
        core::array::from_fn(|which| self.statistics[which].load(Ordering::Relaxed))
    }

    /// The settings of a new interface. `ENOMEM`.
    pub(crate) fn fresh(&self) -> Result<Arc<NeighbourSettings>> {
        let settings = self.defaults.copy();
        settings.draw_reachable();
        Ok(try_arc(settings)?)
    }
}

/// In what a file shows a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// As it is.
    Plain,
    /// A time, in milliseconds.
    Milliseconds,
    /// A time, in hundredths of a second.
    Hundredths,
    /// A time, in ticks of a Linux that has 250 in a second: IPv6's oldest file of a time has always shown them.
    Ticks,
    /// A time, in seconds.
    Seconds,
    /// Bytes, in packets.
    Packets,
}

/// A file: its name, its number, its unit.
pub struct File {
    /// Its name.
    pub name: &'static str,
    which: usize,
    unit: Unit,
}

const fn file(name: &'static str, which: usize, unit: Unit) -> File {
    File { name, which, unit }
}

/// The files of an interface.
pub const FILES: &[File] = &[
    file("mcast_solicit", GROUP_PROBES, Unit::Plain),
    file("ucast_solicit", OWN_PROBES, Unit::Plain),
    file("app_solicit", PROGRAM_PROBES, Unit::Plain),
    file("mcast_resolicit", GROUP_REPROBES, Unit::Plain),
    file("retrans_time", RETRANSMIT, Unit::Hundredths),
    file("base_reachable_time", BASE_REACHABLE, Unit::Seconds),
    file("delay_first_probe_time", DELAY, Unit::Seconds),
    file("interval_probe_time_ms", INTERVAL_PROBE, Unit::Milliseconds),
    file("gc_stale_time", STALE, Unit::Seconds),
    file("unres_qlen_bytes", QUEUE_BYTES, Unit::Plain),
    file("proxy_qlen", PROXY_QUEUE, Unit::Plain),
    file("anycast_delay", ANYCAST_DELAY, Unit::Hundredths),
    file("proxy_delay", PROXY_DELAY, Unit::Hundredths),
    file("locktime", LOCK, Unit::Hundredths),
    file("unres_qlen", QUEUE_BYTES, Unit::Packets),
    file("retrans_time_ms", RETRANSMIT, Unit::Milliseconds),
    file("base_reachable_time_ms", BASE_REACHABLE, Unit::Milliseconds),
];

impl File {
    /// What it shows of some settings.
    pub fn get(&self, settings: &NeighbourSettings, is_v6: bool) -> i32 {
        settings.get(self.which) / self.unit(is_v6).size()
    }

    fn unit(&self, is_v6: bool) -> Unit {
        match self.unit {
            Unit::Hundredths if is_v6 && self.which == RETRANSMIT => Unit::Ticks,
            unit => unit,
        }
    }

    /// Sets the number of an interface. `EINVAL`: it may not be that.
    pub fn set(&self, settings: &NeighbourSettings, is_v6: bool, value: i32) -> Result<()> {
        settings.choose(self.which, self.read(is_v6, value)?);
        Ok(())
    }

    /// Sets the number that new interfaces copy; those of the initial namespace that did not choose one follow. `EINVAL`.
    pub fn set_default(&self, net: &NetState, is_v6: bool, value: i32) -> Result<()> {
        let value = self.read(is_v6, value)?;
        family(is_v6).defaults.choose(self.which, value);
        each_device(net, |ip| {
            let settings = ip.neighbours(is_v6).settings();
            settings.follow(self.which, value);
            if self.which == BASE_REACHABLE {
                settings.draw_reachable();
            }
        });
        Ok(())
    }

    fn read(&self, is_v6: bool, value: i32) -> Result<i32> {
        let least = if self.which == INTERVAL_PROBE { 1 } else { 0 };
        if value < least {
            return Err(Errno::EINVAL);
        }
        value.checked_mul(self.unit(is_v6).size()).ok_or(Errno::EINVAL)
    }
}

impl Unit {
    fn size(self) -> i32 {
        match self {
            Unit::Plain | Unit::Milliseconds => 1,
            Unit::Ticks => 4,
            Unit::Hundredths => 10,
            Unit::Seconds => 1000,
            Unit::Packets => PACKET_BYTES,
        }
    }
}

fn each_device(net: &NetState, mut act: impl FnMut(&IpDevice)) {
    let mut next = 0;
    while let Some(device) = net.devices().next_from(next) {
        next = device.index().wrapping_add(1);
        if let Some(ip) = device.ip() {
            act(&ip);
        }
    }
}
