//! rtnetlink(7) and arp(7): neighbours, and the forwarding entries of bridges, which are told in the same words. Values from the
//! UAPI headers `neighbour.h` and `if_arp.h`.

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

constants! {
    /// Flags of SIOCSARP and its like (`arp_flags`).
    i32:
    ATF_COM = 0x02;
    ATF_PERM = 0x04;
    ATF_PUBL = 0x08;
    ATF_NETMASK = 0x20;
    ATF_DONTPUB = 0x40;
}

abi_struct! {
    /// What SIOCSARP and its like take (`struct arpreq`, arp(7)).
    pub struct ArpRequest: 68 {
        /// A `sockaddr_in`: the neighbour.
        pub arp_pa: [u8; 16],
        /// A `sockaddr`: its address on the link.
        pub arp_ha: [u8; 16],
        /// `ATF_*`.
        pub arp_flags: i32,
        /// A `sockaddr_in`: for answering in others' place.
        pub arp_netmask: [u8; 16],
        /// Name of the interface.
        pub arp_dev: [u8; 16],
    }
}

constants! {
    /// Attributes of a table of neighbours.
    u16:
    NDTA_UNSPEC = 0;
    NDTA_NAME = 1;
    NDTA_THRESH1 = 2;
    NDTA_THRESH2 = 3;
    NDTA_THRESH3 = 4;
    NDTA_CONFIG = 5;
    NDTA_PARMS = 6;
    NDTA_STATS = 7;
    NDTA_GC_INTERVAL = 8;
    NDTA_PAD = 9;
}

constants! {
    /// What is in NDTA_PARMS.
    u16:
    NDTPA_UNSPEC = 0;
    NDTPA_IFINDEX = 1;
    NDTPA_REFCNT = 2;
    NDTPA_REACHABLE_TIME = 3;
    NDTPA_BASE_REACHABLE_TIME = 4;
    NDTPA_RETRANS_TIME = 5;
    NDTPA_GC_STALETIME = 6;
    NDTPA_DELAY_PROBE_TIME = 7;
    NDTPA_QUEUE_LEN = 8;
    NDTPA_APP_PROBES = 9;
    NDTPA_UCAST_PROBES = 10;
    NDTPA_MCAST_PROBES = 11;
    NDTPA_ANYCAST_DELAY = 12;
    NDTPA_PROXY_DELAY = 13;
    NDTPA_PROXY_QLEN = 14;
    NDTPA_LOCKTIME = 15;
    NDTPA_QUEUE_LENBYTES = 16;
    NDTPA_MCAST_REPROBES = 17;
    NDTPA_PAD = 18;
    NDTPA_INTERVAL_PROBE_TIME_MS = 19;
}

abi_struct! {
    /// What RTM_NEWNEIGHTBL and its like begin with (`struct ndtmsg`).
    pub struct NeighbourTableMessage: 4 {
        /// `AF_*`.
        pub ndtm_family: u8,
        /// Nothing.
        pub ndtm_pad1: u8,
        /// Nothing.
        pub ndtm_pad2: u16,
    }
}

abi_struct! {
    /// What a table of neighbours is like (`struct ndt_config`).
    pub struct NeighbourTableConfig: 32 {
        /// Bytes of an address.
        pub ndtc_key_len: u16,
        /// Bytes of an entry.
        pub ndtc_entry_size: u16,
        /// Entries.
        pub ndtc_entries: u32,
        /// Milliseconds since the last was forgotten for want of room.
        pub ndtc_last_flush: u32,
        /// Milliseconds since times were drawn.
        pub ndtc_last_rand: u32,
        /// The key of its hash.
        pub ndtc_hash_rnd: u32,
        /// How many chains it has, less one.
        pub ndtc_hash_mask: u32,
        /// Where forgetting goes on.
        pub ndtc_hash_chain_gc: u32,
        /// Answers for others that wait.
        pub ndtc_proxy_qlen: u32,
    }
}
