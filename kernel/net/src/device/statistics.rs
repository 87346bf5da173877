//! Counters of a device, one set for each CPU. Key type: [`Statistics`]. No locks.

use abi::errno::{Errno, Result};
use abi::rtnetlink::LinkStats64;
use alloc::vec::Vec;
use machine::cpu;
use machine::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
#[repr(align(64))]
struct Counters {
    receive_packets: AtomicU64,
    receive_bytes: AtomicU64,
    transmit_packets: AtomicU64,
    transmit_bytes: AtomicU64,
    receive_dropped: AtomicU64,
    transmit_dropped: AtomicU64,
    receive_unhandled: AtomicU64,
    multicast: AtomicU64,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Came in.
    Received,
    /// Went out.
    Sent,
    /// Came in and was dropped.
    ReceiveDropped,
    /// Was dropped on its way out.
    SendDropped,
    /// Came in and nobody wanted it.
    Unhandled,
    /// Came in for a group.
    Multicast,
}

/// See the module.
pub struct Statistics {
    /// One for each CPU that there can be.
    counters: Vec<Counters>,
}

impl Statistics {
    /// Zeros. `ENOMEM`.
    pub(super) fn new() -> Result<Statistics> {
        let mut counters = Vec::new();
        counters.try_reserve_exact(cpu::possible_count()).map_err(|_| Errno::ENOMEM)?;
        counters.resize_with(cpu::possible_count(), Counters::default);
        Ok(Statistics { counters })
    }

    /// Counts a packet of `bytes`. Any context.
    pub fn count(&self, what: Counted, bytes: usize) {
        // Another CPU's counter after a migration is right too: they are atomic, and only their sum is told.
        let Some(own) = self.counters.get(cpu::current().index()) else { return };
        let (packets, volume) = match what {
            Counted::Received => (&own.receive_packets, Some(&own.receive_bytes)),
            Counted::Sent => (&own.transmit_packets, Some(&own.transmit_bytes)),
            Counted::ReceiveDropped => (&own.receive_dropped, None),
            Counted::SendDropped => (&own.transmit_dropped, None),
            Counted::Unhandled => (&own.receive_unhandled, None),
            Counted::Multicast => (&own.multicast, None),
        };
        packets.fetch_add(1, Ordering::Relaxed);
        if let Some(volume) = volume {
            volume.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// The sums.
    pub fn sums(&self) -> LinkStats64 {
        let mut sums = LinkStats64::default();
        for one in &self.counters {
            sums.rx_packets += one.receive_packets.load(Ordering::Relaxed);
            sums.rx_bytes += one.receive_bytes.load(Ordering::Relaxed);
            sums.tx_packets += one.transmit_packets.load(Ordering::Relaxed);
            sums.tx_bytes += one.transmit_bytes.load(Ordering::Relaxed);
            sums.rx_dropped += one.receive_dropped.load(Ordering::Relaxed);
            sums.tx_dropped += one.transmit_dropped.load(Ordering::Relaxed);
            sums.multicast += one.multicast.load(Ordering::Relaxed);
            sums.rx_nohandler += one.receive_unhandled.load(Ordering::Relaxed);
        }
        sums
    }
}
