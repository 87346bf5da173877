//! ip(7), ipv6(7), udp(7), raw(7), icmp(7): addresses, options, control messages, errors. Values that `linux-raw-sys` lacks are from
//! the UAPI headers `in.h`, `in6.h`, `udp.h`, `icmp.h`, `icmpv6.h`, `errqueue.h`.

pub use linux_raw_sys::net::{
    IP_ADD_MEMBERSHIP, IP_ADD_SOURCE_MEMBERSHIP, IP_BIND_ADDRESS_NO_PORT, IP_BLOCK_SOURCE, IP_CHECKSUM,
    IP_DROP_MEMBERSHIP, IP_DROP_SOURCE_MEMBERSHIP, IP_FREEBIND, IP_HDRINCL, IP_LOCAL_PORT_RANGE, IP_MINTTL,
    IP_MSFILTER, IP_MTU, IP_MTU_DISCOVER, IP_MULTICAST_ALL, IP_MULTICAST_IF, IP_MULTICAST_LOOP,
    IP_MULTICAST_TTL, IP_NODEFRAG, IP_OPTIONS, IP_ORIGDSTADDR, IP_PASSSEC, IP_PKTINFO, IP_PMTUDISC_DO,
    IP_PMTUDISC_DONT, IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT, IP_PMTUDISC_PROBE, IP_PMTUDISC_WANT,
    IP_PROTOCOL, IP_RECVERR, IP_RECVERR_RFC4884, IP_RECVFRAGSIZE, IP_RECVOPTS, IP_RECVORIGDSTADDR,
    IP_RECVTOS, IP_RECVTTL, IP_RETOPTS, IP_ROUTER_ALERT, IP_TOS, IP_TRANSPARENT, IP_TTL, IP_UNBLOCK_SOURCE,
    IP_UNICAST_IF, IPV6_2292HOPLIMIT, IPV6_2292PKTINFO, IPV6_ADD_MEMBERSHIP, IPV6_ADDR_PREFERENCES,
    IPV6_ADDRFORM, IPV6_AUTOFLOWLABEL, IPV6_CHECKSUM, IPV6_DONTFRAG, IPV6_DROP_MEMBERSHIP, IPV6_DSTOPTS,
    IPV6_FLOWINFO, IPV6_FLOWINFO_SEND, IPV6_FREEBIND, IPV6_HDRINCL, IPV6_HOPLIMIT, IPV6_MINHOPCOUNT,
    IPV6_MTU, IPV6_MTU_DISCOVER, IPV6_MULTICAST_ALL, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_IF,
    IPV6_MULTICAST_LOOP, IPV6_ORIGDSTADDR, IPV6_PATHMTU, IPV6_PKTINFO, IPV6_RECVDSTOPTS, IPV6_RECVERR,
    IPV6_RECVERR_RFC4884, IPV6_RECVFRAGSIZE, IPV6_RECVHOPLIMIT, IPV6_RECVHOPOPTS, IPV6_RECVORIGDSTADDR,
    IPV6_RECVPATHMTU, IPV6_RECVPKTINFO, IPV6_RECVRTHDR, IPV6_RECVTCLASS, IPV6_ROUTER_ALERT,
    IPV6_ROUTER_ALERT_ISOLATE, IPV6_TCLASS, IPV6_TRANSPARENT, IPV6_UNICAST_HOPS, IPV6_UNICAST_IF,
    IPV6_V6ONLY, MCAST_BLOCK_SOURCE, MCAST_EXCLUDE, MCAST_INCLUDE, MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP,
    MCAST_LEAVE_GROUP, MCAST_LEAVE_SOURCE_GROUP, MCAST_MSFILTER, MCAST_UNBLOCK_SOURCE,
};

constants! {
    /// Protocols over IP.
    u8:
    IPPROTO_IP = 0;
    IPPROTO_ICMP = 1;
    IPPROTO_TCP = 6;
    IPPROTO_UDP = 17;
    IPPROTO_IPV6 = 41;
    IPPROTO_ICMPV6 = 58;
    IPPROTO_UDPLITE = 136;
    IPPROTO_RAW = 255;
}

constants! {
    /// Options of level SOL_UDP.
    u32:
    UDP_CORK = 1;
    UDP_ENCAP = 100;
    UDP_NO_CHECK6_TX = 101;
    UDP_NO_CHECK6_RX = 102;
    UDP_SEGMENT = 103;
    UDP_GRO = 104;
}

/// The option of level SOL_RAW of ICMP sockets; of level SOL_ICMPV6 of ICMPv6 ones.
pub const ICMP_FILTER: u32 = 1;
/// `SOL_ICMPV6`'s filter.
pub const ICMPV6_FILTER: u32 = 1;

constants! {
    /// Where an error comes from (`ee_origin`).
    u8:
    SO_EE_ORIGIN_NONE = 0;
    SO_EE_ORIGIN_LOCAL = 1;
    SO_EE_ORIGIN_ICMP = 2;
    SO_EE_ORIGIN_ICMP6 = 3;
}

constants! {
    /// Types of ICMP messages.
    u8:
    ICMP_ECHOREPLY = 0;
    ICMP_DEST_UNREACH = 3;
    ICMP_SOURCE_QUENCH = 4;
    ICMP_REDIRECT = 5;
    ICMP_ECHO = 8;
    ICMP_TIME_EXCEEDED = 11;
    ICMP_PARAMETERPROB = 12;
    ICMP_TIMESTAMP = 13;
    ICMP_TIMESTAMPREPLY = 14;
    ICMP_EXT_ECHO = 42;
    ICMP_FRAG_NEEDED = 4;
    ICMPV6_DEST_UNREACH = 1;
    ICMPV6_PKT_TOOBIG = 2;
    ICMPV6_TIME_EXCEED = 3;
    ICMPV6_PARAMPROB = 4;
    ICMPV6_ECHO_REQUEST = 128;
    ICMPV6_ECHO_REPLY = 129;
    ICMPV6_EXT_ECHO_REQUEST = 160;
    NDISC_REDIRECT = 137;
}

abi_struct! {
    /// `struct sockaddr_in`.
    #[derive(PartialEq, Eq)]
    pub struct SockaddrIn: 16 {
        /// AF_INET.
        pub sin_family: u16,
        /// Port, network order.
        pub sin_port: u16,
        /// Address.
        pub sin_addr: [u8; 4],
        /// Padding.
        pub sin_zero: [u8; 8],
    }
}

abi_struct! {
    /// `struct sockaddr_in6`.
    #[derive(PartialEq, Eq)]
    pub struct SockaddrIn6: 28 {
        /// AF_INET6.
        pub sin6_family: u16,
        /// Port, network order.
        pub sin6_port: u16,
        /// Traffic class and flow label, network order.
        pub sin6_flowinfo: u32,
        /// Address.
        pub sin6_addr: [u8; 16],
        /// Interface of a link-local address.
        pub sin6_scope_id: u32,
    }
}

/// Bytes of a `struct sockaddr_in6` without its scope, which old programs give (`SIN6_LEN_RFC2133`).
pub const SOCKADDR_IN6_OLD: usize = 24;

abi_struct! {
    /// `struct in_pktinfo`.
    pub struct InPktinfo: 12 {
        /// Interface.
        pub ipi_ifindex: i32,
        /// Own address.
        pub ipi_spec_dst: [u8; 4],
        /// The header's destination.
        pub ipi_addr: [u8; 4],
    }
}

abi_struct! {
    /// `struct in6_pktinfo`.
    pub struct In6Pktinfo: 20 {
        /// Address.
        pub ipi6_addr: [u8; 16],
        /// Interface.
        pub ipi6_ifindex: i32,
    }
}

abi_struct! {
    /// `struct ip_mreqn`.
    pub struct IpMreqn: 12 {
        /// The group.
        pub imr_multiaddr: [u8; 4],
        /// An own address of the interface.
        pub imr_address: [u8; 4],
        /// The interface.
        pub imr_ifindex: i32,
    }
}

abi_struct! {
    /// `struct ip_mreq_source`.
    pub struct IpMreqSource: 12 {
        /// The group.
        pub imr_multiaddr: [u8; 4],
        /// An own address of the interface.
        pub imr_interface: [u8; 4],
        /// Who sends to it.
        pub imr_sourceaddr: [u8; 4],
    }
}

abi_struct! {
    /// `struct ipv6_mreq`.
    pub struct Ipv6Mreq: 20 {
        /// The group.
        pub ipv6mr_multiaddr: [u8; 16],
        /// The interface.
        pub ipv6mr_ifindex: i32,
    }
}

abi_struct! {
    /// `struct sock_extended_err`.
    pub struct SockExtendedErr: 16 {
        /// The error.
        pub ee_errno: u32,
        /// SO_EE_ORIGIN_*.
        pub ee_origin: u8,
        /// ICMP's type.
        pub ee_type: u8,
        /// ICMP's code.
        pub ee_code: u8,
        /// Padding.
        pub ee_pad: u8,
        /// The MTU and the like.
        pub ee_info: u32,
        /// More.
        pub ee_data: u32,
    }
}

abi_struct! {
    /// `struct ip6_mtuinfo`.
    pub struct Ip6Mtuinfo: 32 {
        /// Where to.
        pub ip6m_addr: SockaddrIn6,
        /// The MTU.
        pub ip6m_mtu: u32,
    }
}
