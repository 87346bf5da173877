//! rtnetlink(7): next hops as objects. Values from the UAPI header `nexthop.h`.

constants! {
    /// Attributes of a next hop.
    u16:
    NHA_UNSPEC = 0;
    NHA_ID = 1;
    NHA_GROUP = 2;
    NHA_GROUP_TYPE = 3;
    NHA_BLACKHOLE = 4;
    NHA_OIF = 5;
    NHA_GATEWAY = 6;
    NHA_ENCAP_TYPE = 7;
    NHA_ENCAP = 8;
    NHA_GROUPS = 9;
    NHA_MASTER = 10;
    NHA_FDB = 11;
    NHA_RES_GROUP = 12;
    NHA_RES_BUCKET = 13;
    NHA_OP_FLAGS = 14;
    NHA_GROUP_STATS = 15;
    NHA_HW_STATS_ENABLE = 16;
    NHA_HW_STATS_USED = 17;
}

constants! {
    /// Types of groups.
    u16:
    NEXTHOP_GRP_TYPE_MPATH = 0;
    NEXTHOP_GRP_TYPE_RES = 1;
}

constants! {
    /// NHA_OP_FLAGS of an answer: reserved bytes of a group's members are zero.
    u32:
    NHA_OP_FLAG_RESP_GRP_RESVD_0 = 0x8000_0000;
}

abi_struct! {
    /// What RTM_NEWNEXTHOP and its like begin with (`struct nhmsg`).
    pub struct NextHopObjectMessage: 8 {
        /// `AF_*`.
        pub nh_family: u8,
        /// `RT_SCOPE_*`, told only.
        pub nh_scope: u8,
        /// `RTPROT_*`.
        pub nh_protocol: u8,
        /// Nothing.
        pub resvd: u8,
        /// `RTNH_F_*`.
        pub nh_flags: u32,
    }
}

abi_struct! {
    /// A member of a group (`struct nexthop_grp`).
    pub struct NextHopMember: 8 {
        /// Which next hop.
        pub id: u32,
        /// Its share less one, the low byte.
        pub weight: u8,
        /// The high byte.
        pub weight_high: u8,
        /// Nothing.
        pub resvd2: u16,
    }
}
