//! How large packets may be that stand for several (IFLA_GSO_*, IFLA_GRO_*, IFLA_TSO_*): what `ip link` sets and shows.
//!
//! Key type: [`Limits`], of one device. Packets here are never put together, so every limit is kept, whatever it is.
//! Locks: none, atomics; rtnl for changes.

use abi::errno::{Errno, Result};
use abi::rtnetlink::*;
use linnet_lib::netlink::{Builder, Failure, Outcome};
use machine::sync::atomic::{AtomicU32, Ordering};

/// What most devices take, and what IPv4's length field can say.
const OLD_SIZE_MAX: u32 = 65_536;
const SEGMENTS_MAX: u32 = 65_535;
/// What any device takes.
pub(super) const SIZE_MAX: u32 = 8 * SEGMENTS_MAX;

/// The attributes that can be set, in the order in which they are told, with why a value is refused.
pub(crate) const SETTABLE: [(u16, &str); 5] = [
    (IFLA_GSO_MAX_SEGS, "too big gso_max_segs"),
    (IFLA_GSO_MAX_SIZE, "too big gso_max_size"),
    (IFLA_GRO_MAX_SIZE, "too big gro_max_size"),
    (IFLA_GSO_IPV4_MAX_SIZE, "too big gso_ipv4_max_size"),
    (IFLA_GRO_IPV4_MAX_SIZE, "too big gro_ipv4_max_size"),
];

/// See the module.
pub(crate) struct Limits {
    /// In the order of [`SETTABLE`].
    values: [AtomicU32; SETTABLE.len()],
    /// The most that the device could take (IFLA_TSO_MAX_SIZE).
    most: AtomicU32,
}

impl Limits {
    pub(super) fn new() -> Limits {
        let first = |kind| if kind == IFLA_GSO_MAX_SEGS { SEGMENTS_MAX } else { OLD_SIZE_MAX };
        Limits {
            values: SETTABLE.map(|(kind, _)| AtomicU32::new(first(kind))),
            most: AtomicU32::new(OLD_SIZE_MAX),
        }
    }

    /// The most that the device could take, in bytes.
    pub(super) fn most(&self) -> u32 {
        self.most.load(Ordering::Relaxed)
    }

    /// Says how much it could take.
    pub(super) fn set_most(&self, most: u32) {
        self.most.store(most, Ordering::Relaxed);
    }

    fn place(&self, kind: u16) -> Option<(&AtomicU32, &'static str)> {
        let place = SETTABLE.iter().position(|(own, _)| *own == kind)?;
        Some((self.values.get(place)?, SETTABLE[place].1))
    }

    /// Whether a limit may be this. `EINVAL`.
    pub(crate) fn check(&self, kind: u16, value: u32) -> Outcome<()> {
        let most = match kind {
            IFLA_GSO_MAX_SEGS => SEGMENTS_MAX,
            IFLA_GSO_MAX_SIZE | IFLA_GSO_IPV4_MAX_SIZE => self.most(),
            _ => SIZE_MAX,
        };
        match self.place(kind) {
            Some((_, text)) if value > most => Err(Failure::new(Errno::EINVAL, text)),
            _ => Ok(()),
        }
    }

    /// Sets one; whether it was another. What IPv4 can say too is IPv4's as well.
    pub(crate) fn set(&self, kind: u16, value: u32) -> bool {
        let Some((place, _)) = self.place(kind) else { return false };
        let changed = place.swap(value, Ordering::Relaxed) != value;
        let twin = match kind {
            IFLA_GSO_MAX_SIZE => IFLA_GSO_IPV4_MAX_SIZE,
            IFLA_GRO_MAX_SIZE => IFLA_GRO_IPV4_MAX_SIZE,
            _ => return changed,
        };
        if changed && value <= OLD_SIZE_MAX {
            self.set(twin, value);
        }
        changed
    }

    /// Writes the attributes.
    pub(crate) fn fill(&self, out: &mut Builder) -> Result<()> {
        for ((kind, _), value) in SETTABLE.iter().zip(&self.values) {
            out.u32(*kind, value.load(Ordering::Relaxed))?;
        }
        out.u32(IFLA_TSO_MAX_SIZE, self.most())?;
        out.u32(IFLA_TSO_MAX_SEGS, SEGMENTS_MAX)
    }
}
