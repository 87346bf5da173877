//! rtnetlink(7): neighbours. Values from the UAPI header `neighbour.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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
    /// Flags of a neighbour.
    u8:
    NTF_USE = 1 << 0;
    NTF_SELF = 1 << 1;
    NTF_MASTER = 1 << 2;
    NTF_PROXY = 1 << 3;
    NTF_EXT_LEARNED = 1 << 4;
    NTF_OFFLOADED = 1 << 5;
    NTF_STICKY = 1 << 6;
    NTF_ROUTER = 1 << 7;
}

/// `struct ndmsg`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct NeighbourMessage {
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

/// `struct nda_cacheinfo`: times in hundredths of a second.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct NeighbourTimes {
    /// Since it was shown to be there.
    pub ndm_confirmed: u32,
    /// Since it was used.
    pub ndm_used: u32,
    /// Since it changed.
    pub ndm_updated: u32,
    /// References.
    pub ndm_refcnt: u32,
}
