//! rtnetlink(7): links and ids of network namespaces. Values from the UAPI headers `rtnetlink.h`, `if_link.h`, `net_namespace.h`, `if.h`.

constants! {
    /// Types of rtnetlink messages.
    u16:
    RTM_BASE = 16;
    RTM_NEWLINK = 16;
    RTM_DELLINK = 17;
    RTM_GETLINK = 18;
    RTM_SETLINK = 19;
    RTM_NEWADDR = 20;
    RTM_DELADDR = 21;
    RTM_GETADDR = 22;
    RTM_NEWROUTE = 24;
    RTM_DELROUTE = 25;
    RTM_GETROUTE = 26;
    RTM_NEWNEIGH = 28;
    RTM_DELNEIGH = 29;
    RTM_GETNEIGH = 30;
    RTM_NEWRULE = 32;
    RTM_DELRULE = 33;
    RTM_GETRULE = 34;
    RTM_NEWQDISC = 36;
    RTM_DELQDISC = 37;
    RTM_GETQDISC = 38;
    RTM_NEWTCLASS = 40;
    RTM_DELTCLASS = 41;
    RTM_GETTCLASS = 42;
    RTM_NEWTFILTER = 44;
    RTM_DELTFILTER = 45;
    RTM_GETTFILTER = 46;
    RTM_NEWACTION = 48;
    RTM_DELACTION = 49;
    RTM_GETACTION = 50;
    RTM_NEWPREFIX = 52;
    RTM_GETMULTICAST = 58;
    RTM_GETANYCAST = 62;
    RTM_NEWNEIGHTBL = 64;
    RTM_GETNEIGHTBL = 66;
    RTM_SETNEIGHTBL = 67;
    RTM_NEWNDUSEROPT = 68;
    RTM_NEWADDRLABEL = 72;
    RTM_DELADDRLABEL = 73;
    RTM_GETADDRLABEL = 74;
    RTM_GETDCB = 78;
    RTM_SETDCB = 79;
    RTM_NEWNETCONF = 80;
    RTM_DELNETCONF = 81;
    RTM_GETNETCONF = 82;
    RTM_NEWMDB = 84;
    RTM_DELMDB = 85;
    RTM_GETMDB = 86;
    RTM_NEWNSID = 88;
    RTM_DELNSID = 89;
    RTM_GETNSID = 90;
    RTM_NEWSTATS = 92;
    RTM_GETSTATS = 94;
    RTM_SETSTATS = 95;
    RTM_NEWCACHEREPORT = 96;
    RTM_NEWCHAIN = 100;
    RTM_DELCHAIN = 101;
    RTM_GETCHAIN = 102;
    RTM_NEWNEXTHOP = 104;
    RTM_DELNEXTHOP = 105;
    RTM_GETNEXTHOP = 106;
    RTM_NEWLINKPROP = 108;
    RTM_DELLINKPROP = 109;
    RTM_GETLINKPROP = 110;
    RTM_NEWVLAN = 112;
    RTM_DELVLAN = 113;
    RTM_GETVLAN = 114;
    RTM_NEWNEXTHOPBUCKET = 116;
    RTM_DELNEXTHOPBUCKET = 117;
    RTM_GETNEXTHOPBUCKET = 118;
    RTM_NEWTUNNEL = 120;
    RTM_DELTUNNEL = 121;
    RTM_GETTUNNEL = 122;
}

constants! {
    /// Multicast groups of NETLINK_ROUTE, as numbers.
    u32:
    RTNLGRP_NONE = 0;
    RTNLGRP_LINK = 1;
    RTNLGRP_NOTIFY = 2;
    RTNLGRP_NEIGH = 3;
    RTNLGRP_TC = 4;
    RTNLGRP_IPV4_IFADDR = 5;
    RTNLGRP_IPV4_MROUTE = 6;
    RTNLGRP_IPV4_ROUTE = 7;
    RTNLGRP_IPV4_RULE = 8;
    RTNLGRP_IPV6_IFADDR = 9;
    RTNLGRP_IPV6_MROUTE = 10;
    RTNLGRP_IPV6_ROUTE = 11;
    RTNLGRP_IPV6_IFINFO = 12;
    RTNLGRP_NOP2 = 14;
    RTNLGRP_NOP4 = 17;
    RTNLGRP_IPV6_PREFIX = 18;
    RTNLGRP_IPV6_RULE = 19;
    RTNLGRP_ND_USEROPT = 20;
    RTNLGRP_PHONET_IFADDR = 21;
    RTNLGRP_PHONET_ROUTE = 22;
    RTNLGRP_DCB = 23;
    RTNLGRP_IPV4_NETCONF = 24;
    RTNLGRP_IPV6_NETCONF = 25;
    RTNLGRP_MDB = 26;
    RTNLGRP_MPLS_ROUTE = 27;
    RTNLGRP_NSID = 28;
    RTNLGRP_MPLS_NETCONF = 29;
    RTNLGRP_IPV4_MROUTE_R = 30;
    RTNLGRP_IPV6_MROUTE_R = 31;
    RTNLGRP_NEXTHOP = 32;
    RTNLGRP_BRVLAN = 33;
    RTNLGRP_MCTP_IFADDR = 34;
    RTNLGRP_TUNNEL = 35;
    RTNLGRP_STATS = 36;
}

constants! {
    /// Attributes of a link.
    u16:
    IFLA_UNSPEC = 0;
    IFLA_ADDRESS = 1;
    IFLA_BROADCAST = 2;
    IFLA_IFNAME = 3;
    IFLA_MTU = 4;
    IFLA_LINK = 5;
    IFLA_QDISC = 6;
    IFLA_STATS = 7;
    IFLA_COST = 8;
    IFLA_PRIORITY = 9;
    IFLA_MASTER = 10;
    IFLA_WIRELESS = 11;
    IFLA_PROTINFO = 12;
    IFLA_TXQLEN = 13;
    IFLA_MAP = 14;
    IFLA_WEIGHT = 15;
    IFLA_OPERSTATE = 16;
    IFLA_LINKMODE = 17;
    IFLA_LINKINFO = 18;
    IFLA_NET_NS_PID = 19;
    IFLA_IFALIAS = 20;
    IFLA_NUM_VF = 21;
    IFLA_VFINFO_LIST = 22;
    IFLA_STATS64 = 23;
    IFLA_VF_PORTS = 24;
    IFLA_PORT_SELF = 25;
    IFLA_AF_SPEC = 26;
    IFLA_GROUP = 27;
    IFLA_NET_NS_FD = 28;
    IFLA_EXT_MASK = 29;
    IFLA_PROMISCUITY = 30;
    IFLA_NUM_TX_QUEUES = 31;
    IFLA_NUM_RX_QUEUES = 32;
    IFLA_CARRIER = 33;
    IFLA_PHYS_PORT_ID = 34;
    IFLA_CARRIER_CHANGES = 35;
    IFLA_PHYS_SWITCH_ID = 36;
    IFLA_LINK_NETNSID = 37;
    IFLA_PHYS_PORT_NAME = 38;
    IFLA_PROTO_DOWN = 39;
    IFLA_GSO_MAX_SEGS = 40;
    IFLA_GSO_MAX_SIZE = 41;
    IFLA_PAD = 42;
    IFLA_XDP = 43;
    IFLA_EVENT = 44;
    IFLA_NEW_NETNSID = 45;
    IFLA_IF_NETNSID = 46;
    IFLA_TARGET_NETNSID = 46;
    IFLA_CARRIER_UP_COUNT = 47;
    IFLA_CARRIER_DOWN_COUNT = 48;
    IFLA_NEW_IFINDEX = 49;
    IFLA_MIN_MTU = 50;
    IFLA_MAX_MTU = 51;
    IFLA_PROP_LIST = 52;
    IFLA_ALT_IFNAME = 53;
    IFLA_PERM_ADDRESS = 54;
    IFLA_PROTO_DOWN_REASON = 55;
    IFLA_PARENT_DEV_NAME = 56;
    IFLA_PARENT_DEV_BUS_NAME = 57;
    IFLA_GRO_MAX_SIZE = 58;
    IFLA_TSO_MAX_SIZE = 59;
    IFLA_TSO_MAX_SEGS = 60;
    IFLA_ALLMULTI = 61;
    IFLA_DEVLINK_PORT = 62;
    IFLA_GSO_IPV4_MAX_SIZE = 63;
    IFLA_GRO_IPV4_MAX_SIZE = 64;
    IFLA_DPLL_PIN = 65;
    IFLA_MAX_PACING_OFFLOAD_HORIZON = 66;
    IFLA_NETNS_IMMUTABLE = 67;
    IFLA_HEADROOM = 68;
    IFLA_TAILROOM = 69;
}

constants! {
    /// Attributes in IFLA_LINKINFO, of a veth, of IFLA_AF_SPEC, of XDP.
    u16:
    IFLA_INFO_UNSPEC = 0;
    IFLA_INET_CONF = 1;
    IFLA_INET6_FLAGS = 1;
    IFLA_INFO_KIND = 1;
    VETH_INFO_PEER = 1;
    IFLA_INET6_CONF = 2;
    IFLA_INFO_DATA = 2;
    IFLA_XDP_ATTACHED = 2;
    IFLA_INET6_STATS = 3;
    IFLA_INFO_XSTATS = 3;
    IFLA_INET6_MCAST = 4;
    IFLA_INFO_SLAVE_KIND = 4;
    IFLA_INET6_CACHEINFO = 5;
    IFLA_INFO_SLAVE_DATA = 5;
    IFLA_INET6_ICMP6STATS = 6;
    IFLA_INET6_TOKEN = 7;
    IFLA_INET6_ADDR_GEN_MODE = 8;
    IFLA_INET6_RA_MTU = 9;
}

constants! {
    /// Attributes of RTM_NEWNSID and its like.
    u16:
    NETNSA_NONE = 0;
    NETNSA_NSID = 1;
    NETNSA_PID = 2;
    NETNSA_FD = 3;
    NETNSA_TARGET_NSID = 4;
    NETNSA_CURRENT_NSID = 5;
}

constants! {
    /// What RTM_GETSTATS can tell.
    u16:
    IFLA_STATS_UNSPEC = 0;
    IFLA_STATS_LINK_64 = 1;
    IFLA_STATS_GET_FILTERS = 1;
    IFLA_STATS_LINK_XSTATS = 2;
    IFLA_STATS_LINK_XSTATS_SLAVE = 3;
    IFLA_STATS_LINK_OFFLOAD_XSTATS = 4;
    IFLA_STATS_AF_SPEC = 5;
}

constants! {
    /// Flags of IFLA_EXT_MASK.
    u32:
    RTEXT_FILTER_VF = 0x1;
    RTEXT_FILTER_BRVLAN = 0x2;
    RTEXT_FILTER_BRVLAN_COMPRESSED = 0x4;
    RTEXT_FILTER_SKIP_STATS = 0x8;
    RTEXT_FILTER_MRP = 0x10;
    RTEXT_FILTER_CFM_CONFIG = 0x20;
    RTEXT_FILTER_CFM_STATUS = 0x40;
    RTEXT_FILTER_MST = 0x80;
}

constants! {
    /// States of RFC 2863 (IFLA_OPERSTATE), modes (IFLA_LINKMODE).
    u8:
    IF_OPER_UNKNOWN = 0x0;
    IF_LINK_MODE_DEFAULT = 0x0;
    IF_OPER_NOTPRESENT = 0x1;
    IF_LINK_MODE_DORMANT = 0x1;
    IF_OPER_DOWN = 0x2;
    IF_LINK_MODE_TESTING = 0x2;
    IF_OPER_LOWERLAYERDOWN = 0x3;
    IF_OPER_TESTING = 0x4;
    IF_OPER_DORMANT = 0x5;
    IF_OPER_UP = 0x6;
}

constants! {
    /// Flags of an interface.
    u32:
    IFF_UP = 0x1;
    IFF_BROADCAST = 0x2;
    IFF_DEBUG = 0x4;
    IFF_LOOPBACK = 0x8;
    IFF_POINTOPOINT = 0x10;
    IFF_NOTRAILERS = 0x20;
    IFF_RUNNING = 0x40;
    IFF_NOARP = 0x80;
    IFF_PROMISC = 0x100;
    IFF_ALLMULTI = 0x200;
    IFF_MASTER = 0x400;
    IFF_SLAVE = 0x800;
    IFF_MULTICAST = 0x1000;
    IFF_PORTSEL = 0x2000;
    IFF_AUTOMEDIA = 0x4000;
    IFF_DYNAMIC = 0x8000;
    IFF_LOWER_UP = 0x10000;
    IFF_DORMANT = 0x20000;
    IFF_ECHO = 0x40000;
}

constants! {
    /// Hardware types.
    u16:
    ARPHRD_ETHER = 1;
    ARPHRD_TUNNEL = 768;
    ARPHRD_LOOPBACK = 772;
    ARPHRD_SIT = 776;
    ARPHRD_IPGRE = 778;
    ARPHRD_NONE = 65534;
    ARPHRD_VOID = 65535;
}

constants! {
    /// Values of IFLA_EVENT.
    u32:
    IFLA_EVENT_NONE = 0;
    IFLA_EVENT_REBOOT = 1;
    IFLA_EVENT_FEATURES = 2;
    IFLA_EVENT_BONDING_FAILOVER = 3;
    IFLA_EVENT_NOTIFY_PEERS = 4;
    IFLA_EVENT_IGMP_RESEND = 5;
    IFLA_EVENT_BONDING_OPTIONS = 6;
}

abi_struct! {
    /// What RTM_NEWLINK and its like begin with (`struct ifinfomsg`).
    pub struct InterfaceMessage: 16 {
        /// `AF_UNSPEC`.
        pub ifi_family: u8,
        /// Zero.
        pub __ifi_pad: u8,
        /// `ARPHRD_*`.
        pub ifi_type: u16,
        /// Which; 0 for none.
        pub ifi_index: i32,
        /// `IFF_*`.
        pub ifi_flags: u32,
        /// Which of the flags are meant.
        pub ifi_change: u32,
    }
}

abi_struct! {
    /// What RTM_GETSTATS begins with (`struct if_stats_msg`).
    pub struct StatsMessage: 12 {
        /// Family.
        pub family: u8,
        /// Zero.
        pub pad1: u8,
        /// Zero.
        pub pad2: u16,
        /// Which interface; 0 for all in a dump.
        pub ifindex: u32,
        /// Which groups, as bits.
        pub filter_mask: u32,
    }
}

abi_struct! {
    /// Counters of a link (`struct rtnl_link_stats64`).
    pub struct LinkStats64: 200 {
        /// Packets received.
        pub rx_packets: u64,
        /// Packets sent.
        pub tx_packets: u64,
        /// Bytes received.
        pub rx_bytes: u64,
        /// Bytes sent.
        pub tx_bytes: u64,
        /// Bad packets received.
        pub rx_errors: u64,
        /// Trouble in sending.
        pub tx_errors: u64,
        /// Received and dropped.
        pub rx_dropped: u64,
        /// Dropped in sending.
        pub tx_dropped: u64,
        /// Multicast packets received.
        pub multicast: u64,
        /// Collisions.
        pub collisions: u64,
        /// Kinds of receive errors.
        pub rx_length_errors: u64,
        /// As above.
        pub rx_over_errors: u64,
        /// As above.
        pub rx_crc_errors: u64,
        /// As above.
        pub rx_frame_errors: u64,
        /// As above.
        pub rx_fifo_errors: u64,
        /// As above.
        pub rx_missed_errors: u64,
        /// Kinds of errors in sending.
        pub tx_aborted_errors: u64,
        /// As above.
        pub tx_carrier_errors: u64,
        /// As above.
        pub tx_fifo_errors: u64,
        /// As above.
        pub tx_heartbeat_errors: u64,
        /// As above.
        pub tx_window_errors: u64,
        /// Compressed packets received.
        pub rx_compressed: u64,
        /// Compressed packets sent.
        pub tx_compressed: u64,
        /// Received for nobody.
        pub rx_nohandler: u64,
        /// Dropped: another host's.
        pub rx_otherhost_dropped: u64,
    }
}

abi_struct! {
    /// What a device maps (`struct rtnl_link_ifmap`).
    pub struct LinkMap: 32 {
        /// Memory.
        pub mem_start: u64,
        /// Memory.
        pub mem_end: u64,
        /// I/O base.
        pub base_addr: u64,
        /// Interrupt.
        pub irq: u16,
        /// DMA channel.
        pub dma: u8,
        /// Port.
        pub port: u8,
        /// Padding.
        pub pad: u32,
    }
}

/// Bytes of an interface name with its zero (`IFNAMSIZ`).
pub const IFNAMSIZ: usize = 16;
/// Bytes of an alternative name with its zero (`ALTIFNAMSIZ`).
pub const ALTIFNAMSIZ: usize = 128;
/// Bytes of a link-layer address at most (`MAX_ADDR_LEN`).
pub const MAX_ADDR_LEN: usize = 32;
/// Bytes of an alias with its zero (`IFALIASZ`).
pub const IFALIASZ: usize = 256;
