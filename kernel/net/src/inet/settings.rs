//! The options of one Internet socket below `SOL_SOCKET`: plain atomics, so that paths which look at them take no lock.
//!
//! Key types: [`Settings`], [`Flag`] (what is on or off). Locks: a leaf around what is more than a number.

use abi::inet::*;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use linnet_lib::wire::ipv4_options::Asked;
use machine::sync::SpinLock;
use machine::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

bitflags::bitflags! {
    /// The options that are on or off.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Flag: u64 {
        /// IP_PKTINFO.
        const PACKET_INFO = 1;
        /// IP_RECVTTL.
        const RECEIVE_TTL = 1 << 1;
        /// IP_RECVTOS.
        const RECEIVE_TOS = 1 << 2;
        /// IP_RECVOPTS.
        const RECEIVE_OPTIONS = 1 << 3;
        /// IP_RETOPTS.
        const RETURN_OPTIONS = 1 << 4;
        /// IP_RECVORIGDSTADDR.
        const ORIGINAL_DESTINATION = 1 << 5;
        /// IP_RECVERR.
        const RECEIVE_ERRORS = 1 << 6;
        /// IP_RECVERR_RFC4884.
        const RECEIVE_ERRORS_4884 = 1 << 7;
        /// IP_FREEBIND, IPV6_FREEBIND.
        const FREE_BIND = 1 << 8;
        /// IP_TRANSPARENT, IPV6_TRANSPARENT.
        const TRANSPARENT = 1 << 9;
        /// IP_HDRINCL.
        const HEADER_INCLUDED = 1 << 10;
        /// IP_MULTICAST_LOOP.
        const MULTICAST_LOOP = 1 << 11;
        /// IP_MULTICAST_ALL.
        const MULTICAST_ALL = 1 << 12;
        /// IP_NODEFRAG.
        const NO_DEFRAGMENTING = 1 << 13;
        /// IP_BIND_ADDRESS_NO_PORT.
        const BIND_ADDRESS_NO_PORT = 1 << 14;
        /// IP_CHECKSUM.
        const RECEIVE_CHECKSUM = 1 << 15;
        /// IP_RECVFRAGSIZE.
        const RECEIVE_FRAGMENT_SIZE = 1 << 16;
        /// IPV6_V6ONLY.
        const V6_ONLY = 1 << 17;
        /// IPV6_RECVPKTINFO.
        const V6_PACKET_INFO = 1 << 18;
        /// IPV6_RECVHOPLIMIT.
        const V6_HOP_LIMIT = 1 << 19;
        /// IPV6_RECVTCLASS.
        const V6_TRAFFIC_CLASS = 1 << 20;
        /// IPV6_FLOWINFO.
        const V6_FLOW_INFO = 1 << 21;
        /// IPV6_RECVERR.
        const V6_ERRORS = 1 << 22;
        /// IPV6_RECVORIGDSTADDR.
        const V6_ORIGINAL_DESTINATION = 1 << 23;
        /// IPV6_MULTICAST_LOOP.
        const V6_MULTICAST_LOOP = 1 << 24;
        /// IPV6_MULTICAST_ALL.
        const V6_MULTICAST_ALL = 1 << 25;
        /// IPV6_DONTFRAG.
        const V6_DONT_FRAGMENT = 1 << 26;
        /// IPV6_RECVPATHMTU.
        const V6_PATH_MTU = 1 << 27;
        /// IPV6_AUTOFLOWLABEL.
        const V6_AUTO_FLOW_LABEL = 1 << 28;
        /// IPV6_RECVERR_RFC4884.
        const V6_ERRORS_4884 = 1 << 29;
        /// IPV6_RECVFRAGSIZE.
        const V6_FRAGMENT_SIZE = 1 << 30;
        /// IPV6_FLOWINFO_SEND.
        const V6_FLOW_INFO_SEND = 1 << 31;
        /// IPV6_2292PKTINFO.
        const V6_OLD_PACKET_INFO = 1 << 32;
        /// IPV6_2292HOPLIMIT.
        const V6_OLD_HOP_LIMIT = 1 << 33;
        /// UDP_CORK.
        const CORK = 1 << 34;
        /// UDP_NO_CHECK6_TX.
        const NO_CHECKSUM_SEND = 1 << 35;
        /// UDP_NO_CHECK6_RX.
        const NO_CHECKSUM_RECEIVE = 1 << 36;
        /// UDP_GRO.
        const RECEIVE_COALESCED = 1 << 37;
        /// IP_PASSSEC: nothing labels packets here.
        const PASS_SECURITY = 1 << 39;
        /// IPV6_HDRINCL.
        const V6_HEADER_INCLUDED = 1 << 38;
        /// IPV6_ROUTER_ALERT_ISOLATE: of meaning to who has router alerts delivered, which nobody has here.
        const V6_ALERT_ISOLATE = 1 << 40;
    }
}

/// See the module.
pub struct Settings {
    flags: AtomicU64,
    /// IP_TOS.
    pub tos: AtomicU32,
    /// IPV6_TCLASS.
    pub traffic_class: AtomicU32,
    /// IP_TTL; -1: the namespace's.
    pub ttl: AtomicI32,
    /// IPV6_UNICAST_HOPS; -1: the route's.
    pub hops: AtomicI32,
    /// IP_MULTICAST_TTL.
    pub multicast_ttl: AtomicI32,
    /// IPV6_MULTICAST_HOPS; -1 means 1.
    pub multicast_hops: AtomicI32,
    /// IP_MTU_DISCOVER.
    pub path_mtu: AtomicU32,
    /// IPV6_MTU_DISCOVER.
    pub path_mtu_v6: AtomicU32,
    /// IP_MINTTL, IPV6_MINHOPCOUNT.
    pub least_ttl: AtomicU32,
    /// IPV6_MINHOPCOUNT.
    pub least_hops: AtomicU32,
    /// IPV6_MTU: a smaller one than the device's; 0 for none.
    pub fragment_size: AtomicU32,
    /// IP_UNICAST_IF.
    pub unicast_interface: AtomicI32,
    /// IPV6_UNICAST_IF.
    pub unicast_interface_v6: AtomicI32,
    /// IP_MULTICAST_IF's interface.
    pub multicast_interface: AtomicI32,
    /// IPV6_MULTICAST_IF.
    pub multicast_interface_v6: AtomicI32,
    /// UDP_SEGMENT.
    pub segment: AtomicU32,
    /// IPV6_CHECKSUM: where a raw socket's checksum is; -1 for nowhere.
    pub checksum_offset: AtomicI32,
    /// IP_LOCAL_PORT_RANGE: low half and high half.
    pub port_range: AtomicU32,
    /// IPV6_ADDR_PREFERENCES.
    pub source_preferences: AtomicU32,
    /// ICMP_FILTER.
    pub icmp_filter: AtomicU32,
    /// What is more than a number.
    pub more: SpinLock<More>,
    /// IP_OPTIONS.
    pub ip_options: SpinLock<Option<Arc<Asked>>>,
}

/// The values that are more than a number.
#[derive(Clone, Copy)]
pub struct More {
    /// IP_MULTICAST_IF's address.
    pub multicast_source: Ipv4Addr,
    /// IPV6_PKTINFO as a sticky option: address and interface.
    pub sticky: Option<(Ipv6Addr, i32)>,
    /// ICMPV6_FILTER: a bit for each type that is not let through.
    pub icmp6_filter: [u32; 8],
}

impl Settings {
    /// As they are at first.
    pub fn new(is_v6: bool, is_icmp6: bool) -> Settings {
        let mut flags = Flag::MULTICAST_LOOP
            | Flag::V6_MULTICAST_LOOP
            | Flag::V6_MULTICAST_ALL
            | Flag::V6_AUTO_FLOW_LABEL;
        // Of IPv4's groups those of IPv6 hear only what they have joined, as on Linux.
        flags.set(Flag::MULTICAST_ALL, !is_v6);
        Settings {
            flags: AtomicU64::new(flags.bits()),
            tos: AtomicU32::new(0),
            traffic_class: AtomicU32::new(0),
            ttl: AtomicI32::new(-1),
            hops: AtomicI32::new(-1),
            multicast_ttl: AtomicI32::new(1),
            multicast_hops: AtomicI32::new(-1),
            path_mtu: AtomicU32::new(IP_PMTUDISC_WANT),
            path_mtu_v6: AtomicU32::new(IP_PMTUDISC_WANT),
            least_ttl: AtomicU32::new(0),
            least_hops: AtomicU32::new(0),
            fragment_size: AtomicU32::new(0),
            unicast_interface: AtomicI32::new(0),
            unicast_interface_v6: AtomicI32::new(0),
            multicast_interface: AtomicI32::new(0),
            multicast_interface_v6: AtomicI32::new(0),
            segment: AtomicU32::new(0),
            // A raw ICMPv6 socket's checksum is made at its place, whatever the program says.
            checksum_offset: AtomicI32::new(if is_icmp6 { 2 } else { -1 }),
            port_range: AtomicU32::new(0),
            source_preferences: AtomicU32::new(0),
            icmp_filter: AtomicU32::new(0),
            more: SpinLock::new(More {
                multicast_source: Ipv4Addr::UNSPECIFIED,
                sticky: None,
                icmp6_filter: [0; 8],
            }),
            ip_options: SpinLock::new(None),
        }
    }

    /// Whether all of these are on.
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.load(Ordering::Relaxed) & flag.bits() == flag.bits()
    }

    /// Whether any of these is on.
    pub fn has_any(&self, flags: Flag) -> bool {
        self.flags.load(Ordering::Relaxed) & flags.bits() != 0
    }

    /// Switches on or off.
    pub fn switch(&self, flag: Flag, on: bool) {
        if on {
            self.flags.fetch_or(flag.bits(), Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!flag.bits(), Ordering::Relaxed);
        }
    }

    /// Whether packets with this destination come back to the sender's machine.
    pub fn loops_multicast(&self, destination: IpAddr) -> bool {
        self.has(if destination.is_ipv4() { Flag::MULTICAST_LOOP } else { Flag::V6_MULTICAST_LOOP })
    }

    /// Whether errors about packets of this family are queued.
    pub fn wants_errors(&self, is_v4: bool) -> bool {
        self.has(if is_v4 { Flag::RECEIVE_ERRORS } else { Flag::V6_ERRORS })
    }

    /// IP_MTU_DISCOVER or IPV6_MTU_DISCOVER.
    pub fn path_mtu(&self, is_v4: bool) -> u32 {
        if is_v4 { &self.path_mtu } else { &self.path_mtu_v6 }.load(Ordering::Relaxed)
    }

    /// Whether an ICMP message of this type is let through to a raw socket.
    pub fn admits_icmp(&self, kind: u8) -> bool {
        kind >= 32 || self.icmp_filter.load(Ordering::Relaxed) & 1 << kind == 0
    }

    /// The same for ICMPv6.
    pub fn admits_icmp6(&self, kind: u8) -> bool {
        let word = self.more.lock().icmp6_filter[usize::from(kind) / 32];
        word & 1 << (kind % 32) == 0
    }
}
