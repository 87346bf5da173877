//! What UDP counts, for `/proc/net/snmp` and `/proc/net/snmp6`. No locks.

use machine::sync::atomic::{AtomicU64, Ordering};

/// One family's counters (RFC 4113 and what Linux adds).
#[derive(Default)]
pub struct UdpCounters {
    /// InDatagrams: given to sockets.
    pub received: AtomicU64,
    /// NoPorts: for nobody.
    pub no_ports: AtomicU64,
    /// InErrors: malformed, or no room.
    pub errors: AtomicU64,
    /// OutDatagrams.
    pub sent: AtomicU64,
    /// RcvbufErrors: no room.
    pub no_room: AtomicU64,
    /// InCsumErrors.
    pub checksums: AtomicU64,
}

/// One more.
pub(super) fn count(place: &AtomicU64) {
    place.fetch_add(1, Ordering::Relaxed);
}

impl UdpCounters {
    /// A socket was given a datagram, or had no room for it.
    pub(super) fn count_delivery(&self, taken: bool) {
        if taken {
            count(&self.received);
        } else {
            count(&self.errors);
            count(&self.no_room);
        }
    }
}
