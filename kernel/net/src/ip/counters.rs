//! What IP counts in a namespace (`/proc/net/snmp`, `/proc/net/snmp6`; RFC 4293).
//!
//! Key types: [`Counters`], [`Count`]. Locks: none, atomics.

use machine::sync::atomic::{AtomicU64, Ordering};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Packets that came in.
    InReceives,
    /// Their header was wrong.
    InHeaderErrors,
    /// They were for an address that is not here.
    InAddressErrors,
    /// There was no route for them.
    InNoRoutes,
    /// They were sent on.
    Forwarded,
    /// Nobody here speaks their protocol.
    InUnknownProtocols,
    /// They were dropped for want of memory and the like.
    InDiscards,
    /// They ended before the length that they said.
    InTruncated,
    /// They were too big for the link they should have gone on to.
    InTooBig,
    /// They were given to a transport.
    InDelivers,
    /// Packets that transports here sent.
    OutRequests,
    /// They were dropped.
    OutDiscards,
    /// There was no route for them.
    OutNoRoutes,
    /// Fragments waited too long for the others.
    ReassemblyTimeouts,
    /// Fragments that came in.
    ReassemblyRequests,
    /// Packets put together.
    Reassembled,
    /// Packets that could not be.
    ReassemblyFailures,
    /// Packets cut.
    Fragmented,
    /// Packets that would have had to be cut and might not.
    FragmentFailures,
    /// Fragments made.
    FragmentsMade,
    /// Messages of ICMP that came in.
    IcmpIn,
    /// Those that were wrong.
    IcmpInErrors,
    /// Those with a wrong checksum.
    IcmpInChecksumErrors,
    /// Messages of ICMP sent.
    IcmpOut,
    /// Those that were not sent because there were too many in all.
    IcmpOutLimited,
    /// Those that were not sent because their destination had been told enough.
    IcmpOutLimitedHost,
    /// Packets that were handed to links, before they are cut.
    OutTransmits,
    /// Bytes of packets that came in.
    InOctets,
    /// Bytes of those handed to links.
    OutOctets,
    /// Packets to groups that came in.
    InMulticasts,
    /// Their bytes.
    InMulticastOctets,
    /// Packets to groups that went out, after they are cut.
    OutMulticasts,
    /// Their bytes.
    OutMulticastOctets,
    /// Packets to all that came in.
    InBroadcasts,
    /// Their bytes.
    InBroadcastOctets,
    /// Packets to all that went out, after they are cut.
    OutBroadcasts,
    /// Their bytes.
    OutBroadcastOctets,
    /// Packets whose header had a wrong checksum.
    InChecksumErrors,
    /// Packets that say nothing of congestion; the next three are in the order of the two bits that do (RFC 3168).
    InNoEct,
    /// Packets of a transport that can be told of congestion, by one code.
    InEct1,
    /// By the other.
    InEct0,
    /// Packets that tell of congestion.
    InCongested,
    /// Fragments that had what others had, too.
    ReassemblyOverlaps,
}

impl Count {
    /// What a traffic class says of congestion.
    pub(crate) fn of_congestion(traffic_class: u8) -> Count {
        match traffic_class & 3 {
            0 => Count::InNoEct,
            1 => Count::InEct1,
            2 => Count::InEct0,
            _ => Count::InCongested,
        }
    }
}

/// How many there are.
const COUNTS: usize = Count::ReassemblyOverlaps as usize + 1;

/// Numbers of one family.
struct Family {
    counts: [AtomicU64; COUNTS],
}

impl Family {
    const fn new() -> Family {
        Family { counts: [const { AtomicU64::new(0) }; COUNTS] }
    }
}

/// What a namespace counts.
pub struct Counters {
    families: [Family; 2],
}

impl Counters {
    pub(crate) const fn new() -> Counters {
        Counters { families: [Family::new(), Family::new()] }
    }

    /// Counts something of IPv4.
    pub(crate) fn v4(&self, what: Count) {
        self.of(false, what);
    }

    /// Counts something of IPv6.
    pub(crate) fn v6(&self, what: Count) {
        self.of(true, what);
    }

    /// Counts something of a family.
    pub(crate) fn of(&self, is_v6: bool, what: Count) {
        self.families[usize::from(is_v6)].counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a packet of a family and its bytes.
    pub(crate) fn packet(&self, is_v6: bool, packets: Count, octets: Count, length: usize) {
        self.of(is_v6, packets);
        self.families[usize::from(is_v6)].counts[octets as usize].fetch_add(length as u64, Ordering::Relaxed);
    }

    /// How often something happened.
    pub fn get(&self, is_v6: bool, what: Count) -> u64 {
        self.families[usize::from(is_v6)].counts[what as usize].load(Ordering::Relaxed)
    }
}
