//! rtnetlink(7): neighbours, and the forwarding entries of bridges, which are told in the same words. Values from the UAPI header
//! `neighbour.h`.

constants! {
    /// Attributes of a neighbour.
    u16:
    NDA_UNSPEC = 0;
    NDA_DST = 1;
    NDA_LLADDR = 2;
    NDA_CACHEINFO = 3;
    NDA_PROBES = 4;
    NDA_VLAN = 5;
    NDA_PORT = 6;
    NDA_VNI = 7;
    NDA_IFINDEX = 8;
    NDA_MASTER = 9;
    NDA_LINK_NETNSID = 10;
    NDA_SRC_VNI = 11;
    NDA_PROTOCOL = 12;
    NDA_NH_ID = 13;
    NDA_FDB_EXT_ATTRS = 14;
    NDA_FLAGS_EXT = 15;
}

constants! {
    /// States of a neighbour or forwarding entry.
    u16:
    NUD_REACHABLE = 0x02;
    NUD_STALE = 0x04;
    NUD_NOARP = 0x40;
    NUD_PERMANENT = 0x80;
}

constants! {
    /// Flags of a neighbour.
    u8:
    NTF_USE = 0x01;
    NTF_SELF = 0x02;
    NTF_MASTER = 0x04;
    NTF_PROXY = 0x08;
    NTF_EXT_LEARNED = 0x10;
    NTF_OFFLOADED = 0x20;
    NTF_STICKY = 0x40;
    NTF_ROUTER = 0x80;
}

abi_struct! {
    /// What RTM_NEWNEIGH and its like begin with (`struct ndmsg`).
    pub struct NeighbourMessage: 12 {
        /// `AF_*`.
        pub ndm_family: u8,
        /// Nothing.
        pub pad1: u8,
        /// Nothing.
        pub pad2: u16,
        /// Index of the interface.
        pub ndm_ifindex: i32,
        /// `NUD_*`.
        pub ndm_state: u16,
        /// `NTF_*`.
        pub ndm_flags: u8,
        /// `RTN_*`.
        pub ndm_type: u8,
    }
}

abi_struct! {
    /// Times of a neighbour in hundredths of a second (`struct nda_cacheinfo`).
    pub struct NeighbourTimes: 16 {
        /// Since it was shown to be there.
        pub ndm_confirmed: u32,
        /// Since it was used.
        pub ndm_used: u32,
        /// Since it changed.
        pub ndm_updated: u32,
        /// References.
        pub ndm_refcnt: u32,
    }
}
