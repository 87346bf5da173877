//! rtnetlink(7): addresses, routes, rules and per-device settings. Values from the UAPI headers `if_addr.h`, `rtnetlink.h`,
//! `fib_rules.h`, `netconf.h`, `ip.h`, `ipv6.h`, `if_link.h`, `route.h`, `igmp.h`.

constants! {
    /// Attributes of an address.
    u16:
    IFA_UNSPEC = 0;
    IFA_ADDRESS = 1;
    IFA_LOCAL = 2;
    IFA_LABEL = 3;
    IFA_BROADCAST = 4;
    IFA_ANYCAST = 5;
    IFA_CACHEINFO = 6;
    IFA_MULTICAST = 7;
    IFA_FLAGS = 8;
    IFA_RT_PRIORITY = 9;
    IFA_TARGET_NETNSID = 10;
    IFA_PROTO = 11;
    IFA_MC_USERS = 12;
}

constants! {
    /// Flags of an address.
    u32:
    IFA_F_SECONDARY = 0x01;
    IFA_F_TEMPORARY = 0x01;
    IFA_F_NODAD = 0x02;
    IFA_F_OPTIMISTIC = 0x04;
    IFA_F_DADFAILED = 0x08;
    IFA_F_HOMEADDRESS = 0x10;
    IFA_F_DEPRECATED = 0x20;
    IFA_F_TENTATIVE = 0x40;
    IFA_F_PERMANENT = 0x80;
    IFA_F_MANAGETEMPADDR = 0x100;
    IFA_F_NOPREFIXROUTE = 0x200;
    IFA_F_MCAUTOJOIN = 0x400;
    IFA_F_STABLE_PRIVACY = 0x800;
}

constants! {
    /// Who made an address (IFA_PROTO).
    u8:
    IFAPROT_UNSPEC = 0;
    IFAPROT_KERNEL_LO = 1;
    IFAPROT_KERNEL_RA = 2;
    IFAPROT_KERNEL_LL = 3;
}

constants! {
    /// Attributes of a route.
    u16:
    RTA_UNSPEC = 0;
    RTA_DST = 1;
    RTA_SRC = 2;
    RTA_IIF = 3;
    RTA_OIF = 4;
    RTA_GATEWAY = 5;
    RTA_PRIORITY = 6;
    RTA_PREFSRC = 7;
    RTA_METRICS = 8;
    RTA_MULTIPATH = 9;
    RTA_PROTOINFO = 10;
    RTA_FLOW = 11;
    RTA_CACHEINFO = 12;
    RTA_SESSION = 13;
    RTA_MP_ALGO = 14;
    RTA_TABLE = 15;
    RTA_MARK = 16;
    RTA_MFC_STATS = 17;
    RTA_VIA = 18;
    RTA_NEWDST = 19;
    RTA_PREF = 20;
    RTA_ENCAP_TYPE = 21;
    RTA_ENCAP = 22;
    RTA_EXPIRES = 23;
    RTA_PAD = 24;
    RTA_UID = 25;
    RTA_TTL_PROPAGATE = 26;
    RTA_IP_PROTO = 27;
    RTA_SPORT = 28;
    RTA_DPORT = 29;
    RTA_NH_ID = 30;
    RTA_FLOWLABEL = 31;
}

constants! {
    /// Types of a route.
    u8:
    RTN_UNSPEC = 0;
    RTN_UNICAST = 1;
    RTN_LOCAL = 2;
    RTN_BROADCAST = 3;
    RTN_ANYCAST = 4;
    RTN_MULTICAST = 5;
    RTN_BLACKHOLE = 6;
    RTN_UNREACHABLE = 7;
    RTN_PROHIBIT = 8;
    RTN_THROW = 9;
    RTN_NAT = 10;
    RTN_XRESOLVE = 11;
}

constants! {
    /// Who made a route.
    u8:
    RTPROT_UNSPEC = 0;
    RTPROT_REDIRECT = 1;
    RTPROT_KERNEL = 2;
    RTPROT_BOOT = 3;
    RTPROT_STATIC = 4;
    RTPROT_RA = 9;
}

constants! {
    /// How far something reaches.
    u8:
    RT_SCOPE_UNIVERSE = 0;
    RT_SCOPE_SITE = 200;
    RT_SCOPE_LINK = 253;
    RT_SCOPE_HOST = 254;
    RT_SCOPE_NOWHERE = 255;
}

constants! {
    /// Tables.
    u32:
    RT_TABLE_UNSPEC = 0;
    RT_TABLE_COMPAT = 252;
    RT_TABLE_DEFAULT = 253;
    RT_TABLE_MAIN = 254;
    RT_TABLE_LOCAL = 255;
}

constants! {
    /// Flags of a route or next hop.
    u32:
    RTNH_F_DEAD = 1;
    RTNH_F_PERVASIVE = 2;
    RTNH_F_ONLINK = 4;
    RTNH_F_OFFLOAD = 8;
    RTNH_F_LINKDOWN = 16;
    RTNH_F_UNRESOLVED = 32;
    RTNH_F_TRAP = 64;
    RTM_F_NOTIFY = 0x100;
    RTM_F_CLONED = 0x200;
    RTM_F_EQUALIZE = 0x400;
    RTM_F_PREFIX = 0x800;
    RTM_F_LOOKUP_TABLE = 0x1000;
    RTM_F_FIB_MATCH = 0x2000;
    RTCF_NOTIFY = 0x10000;
    RTCF_BROADCAST = 0x10000000;
    RTCF_MULTICAST = 0x20000000;
    RTCF_LOCAL = 0x80000000;
}

constants! {
    /// Metrics of a route.
    u16:
    RTAX_UNSPEC = 0;
    RTAX_LOCK = 1;
    RTAX_MTU = 2;
    RTAX_WINDOW = 3;
    RTAX_RTT = 4;
    RTAX_RTTVAR = 5;
    RTAX_SSTHRESH = 6;
    RTAX_CWND = 7;
    RTAX_ADVMSS = 8;
    RTAX_REORDERING = 9;
    RTAX_HOPLIMIT = 10;
    RTAX_INITCWND = 11;
    RTAX_FEATURES = 12;
    RTAX_RTO_MIN = 13;
    RTAX_INITRWND = 14;
    RTAX_QUICKACK = 15;
    RTAX_CC_ALGO = 16;
    RTAX_FASTOPEN_NO_COOKIE = 17;
}

constants! {
    /// Attributes of a rule.
    u16:
    FRA_UNSPEC = 0;
    FRA_DST = 1;
    FRA_SRC = 2;
    FRA_IIFNAME = 3;
    FRA_GOTO = 4;
    FRA_UNUSED2 = 5;
    FRA_PRIORITY = 6;
    FRA_UNUSED3 = 7;
    FRA_UNUSED4 = 8;
    FRA_UNUSED5 = 9;
    FRA_FWMARK = 10;
    FRA_FLOW = 11;
    FRA_TUN_ID = 12;
    FRA_SUPPRESS_IFGROUP = 13;
    FRA_SUPPRESS_PREFIXLEN = 14;
    FRA_TABLE = 15;
    FRA_FWMASK = 16;
    FRA_OIFNAME = 17;
    FRA_PAD = 18;
    FRA_L3MDEV = 19;
    FRA_UID_RANGE = 20;
    FRA_PROTOCOL = 21;
    FRA_IP_PROTO = 22;
    FRA_SPORT_RANGE = 23;
    FRA_DPORT_RANGE = 24;
    FRA_DSCP = 25;
    FRA_FLOWLABEL = 26;
    FRA_FLOWLABEL_MASK = 27;
    FRA_SPORT_MASK = 28;
    FRA_DPORT_MASK = 29;
    FRA_DSCP_MASK = 30;
}

constants! {
    /// What a rule does.
    u8:
    FR_ACT_UNSPEC = 0;
    FR_ACT_TO_TBL = 1;
    FR_ACT_GOTO = 2;
    FR_ACT_NOP = 3;
    FR_ACT_BLACKHOLE = 6;
    FR_ACT_UNREACHABLE = 7;
    FR_ACT_PROHIBIT = 8;
}

constants! {
    /// Flags of a rule.
    u32:
    FIB_RULE_PERMANENT = 0x1;
    FIB_RULE_INVERT = 0x2;
    FIB_RULE_UNRESOLVED = 0x4;
    FIB_RULE_IIF_DETACHED = 0x8;
    FIB_RULE_OIF_DETACHED = 0x10;
    FIB_RULE_FIND_SADDR = 0x10000;
}

constants! {
    /// Attributes of RTM_NEWNETCONF.
    u16:
    NETCONFA_UNSPEC = 0;
    NETCONFA_IFINDEX = 1;
    NETCONFA_FORWARDING = 2;
    NETCONFA_RP_FILTER = 3;
    NETCONFA_MC_FORWARDING = 4;
    NETCONFA_PROXY_NEIGH = 5;
    NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN = 6;
    NETCONFA_INPUT = 7;
    NETCONFA_BC_FORWARDING = 8;
}

constants! {
    /// Which device RTM_NEWNETCONF is about, if none.
    i32:
    NETCONFA_IFINDEX_ALL = -1;
    NETCONFA_IFINDEX_DEFAULT = -2;
}

constants! {
    /// How IPv6 addresses are made (IFLA_INET6_ADDR_GEN_MODE).
    i32:
    IN6_ADDR_GEN_MODE_EUI64 = 0;
    IN6_ADDR_GEN_MODE_NONE = 1;
    IN6_ADDR_GEN_MODE_STABLE_PRIVACY = 2;
    IN6_ADDR_GEN_MODE_RANDOM = 3;
}

constants! {
    /// Flags of an IPv6 device (IFLA_INET6_FLAGS).
    u32:
    IF_RA_OTHERCONF = 0x80;
    IF_RA_MANAGED = 0x40;
    IF_RA_RCVD = 0x20;
    IF_RS_SENT = 0x10;
    IF_READY = 0x80000000;
}

constants! {
    /// Flags of routes as /proc/net/route and ioctls have them.
    u32:
    RTF_UP = 0x1;
    RTF_GATEWAY = 0x2;
    RTF_HOST = 0x4;
    RTF_REINSTATE = 0x8;
    RTF_DYNAMIC = 0x10;
    RTF_MODIFIED = 0x20;
    RTF_MTU = 0x40;
    RTF_WINDOW = 0x80;
    RTF_IRTT = 0x100;
    RTF_REJECT = 0x200;
    RTF_DEFAULT = 0x10000;
    RTF_ALLONLINK = 0x20000;
    RTF_ADDRCONF = 0x40000;
    RTF_PREFIX_RT = 0x80000;
    RTF_ANYCAST = 0x100000;
    RTF_NONEXTHOP = 0x200000;
    RTF_EXPIRES = 0x400000;
    RTF_ROUTEINFO = 0x800000;
    RTF_CACHE = 0x1000000;
    RTF_LOCAL = 0x80000000;
}

constants! {
    /// How IPv6 prefers a router (RTA_PREF, RFC 4191).
    u8:
    ICMPV6_ROUTER_PREF_LOW = 3;
    ICMPV6_ROUTER_PREF_MEDIUM = 0;
    ICMPV6_ROUTER_PREF_HIGH = 1;
    ICMPV6_ROUTER_PREF_INVALID = 2;
}

abi_struct! {
    /// What RTM_NEWADDR and its like begin with (`struct ifaddrmsg`).
    pub struct AddressMessage: 8 {
        /// `AF_INET` or `AF_INET6`.
        pub ifa_family: u8,
        /// Bits of the network.
        pub ifa_prefixlen: u8,
        /// The low eight of `IFA_F_*`.
        pub ifa_flags: u8,
        /// `RT_SCOPE_*`.
        pub ifa_scope: u8,
        /// Of which interface.
        pub ifa_index: u32,
    }
}

abi_struct! {
    /// Lifetimes of an address (`struct ifa_cacheinfo`).
    pub struct AddressLifetimes: 16 {
        /// Seconds that it is preferred; all ones: for ever.
        pub ifa_prefered: u32,
        /// Seconds that it is valid.
        pub ifa_valid: u32,
        /// When it was made, hundredths of a second since the start.
        pub cstamp: u32,
        /// When it was last changed.
        pub tstamp: u32,
    }
}

abi_struct! {
    /// What RTM_NEWROUTE and its like begin with (`struct rtmsg`).
    pub struct RouteMessage: 12 {
        /// Family.
        pub rtm_family: u8,
        /// Bits of the destination.
        pub rtm_dst_len: u8,
        /// Bits of the source.
        pub rtm_src_len: u8,
        /// Type of service.
        pub rtm_tos: u8,
        /// Table, if its number fits.
        pub rtm_table: u8,
        /// `RTPROT_*`.
        pub rtm_protocol: u8,
        /// `RT_SCOPE_*`.
        pub rtm_scope: u8,
        /// `RTN_*`.
        pub rtm_type: u8,
        /// `RTM_F_*`, `RTNH_F_*`.
        pub rtm_flags: u32,
    }
}

abi_struct! {
    /// One of several next hops (`struct rtnexthop`).
    pub struct NextHopMessage: 8 {
        /// Bytes with the attributes that follow.
        pub rtnh_len: u16,
        /// `RTNH_F_*`.
        pub rtnh_flags: u8,
        /// Weight less one.
        pub rtnh_hops: u8,
        /// Through which interface.
        pub rtnh_ifindex: i32,
    }
}

abi_struct! {
    /// RTA_CACHEINFO (`struct rta_cacheinfo`).
    pub struct RouteCacheInfo: 32 {
        /// References.
        pub rta_clntref: u32,
        /// Since the last use, hundredths of a second.
        pub rta_lastuse: u32,
        /// Until it ends.
        pub rta_expires: i32,
        /// Negative errno.
        pub rta_error: i32,
        /// Uses.
        pub rta_used: u32,
        /// Unused.
        pub rta_id: u32,
        /// Unused.
        pub rta_ts: u32,
        /// Unused.
        pub rta_tsage: u32,
    }
}

abi_struct! {
    /// What RTM_NEWRULE and its like begin with (`struct fib_rule_hdr`).
    pub struct RuleMessage: 12 {
        /// Family.
        pub family: u8,
        /// Bits of FRA_DST.
        pub dst_len: u8,
        /// Bits of FRA_SRC.
        pub src_len: u8,
        /// Type of service.
        pub tos: u8,
        /// Table, if its number fits.
        pub table: u8,
        /// Zero.
        pub res1: u8,
        /// Zero.
        pub res2: u8,
        /// `FR_ACT_*`.
        pub action: u8,
        /// `FIB_RULE_*`.
        pub flags: u32,
    }
}

abi_struct! {
    /// IFLA_INET6_CACHEINFO (`struct ifla_cacheinfo`).
    pub struct LinkCacheInfo: 16 {
        /// Longest reassembled packet.
        pub max_reasm_len: u32,
        /// When it was last changed, hundredths of a second.
        pub tstamp: u32,
        /// How long a neighbour is reachable, milliseconds.
        pub reachable_time: u32,
        /// Between solicitations, milliseconds.
        pub retrans_time: u32,
    }
}
