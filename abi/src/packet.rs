//! packet(7): sockets that see whole frames. Values from the UAPI headers `if_packet.h`, `if_ether.h`.

constants! {
    /// Options of level SOL_PACKET.
    i32:
    PACKET_ADD_MEMBERSHIP = 1;
    PACKET_DROP_MEMBERSHIP = 2;
    PACKET_RECV_OUTPUT = 3;
    PACKET_RX_RING = 5;
    PACKET_STATISTICS = 6;
    PACKET_COPY_THRESH = 7;
    PACKET_AUXDATA = 8;
    PACKET_ORIGDEV = 9;
    PACKET_VERSION = 10;
    PACKET_HDRLEN = 11;
    PACKET_RESERVE = 12;
    PACKET_TX_RING = 13;
    PACKET_LOSS = 14;
    PACKET_VNET_HDR = 15;
    PACKET_TX_TIMESTAMP = 16;
    PACKET_TIMESTAMP = 17;
    PACKET_FANOUT = 18;
    PACKET_TX_HAS_OFF = 19;
    PACKET_QDISC_BYPASS = 20;
    PACKET_ROLLOVER_STATS = 21;
    PACKET_FANOUT_DATA = 22;
    PACKET_IGNORE_OUTGOING = 23;
}

constants! {
    /// For whom a frame is (`sll_pkttype`).
    u8:
    PACKET_HOST = 0;
    PACKET_BROADCAST = 1;
    PACKET_MULTICAST = 2;
    PACKET_OTHERHOST = 3;
    PACKET_OUTGOING = 4;
}

constants! {
    /// Kinds of memberships.
    u16:
    PACKET_MR_MULTICAST = 0;
    PACKET_MR_PROMISC = 1;
    PACKET_MR_ALLMULTI = 2;
    PACKET_MR_UNICAST = 3;
}

constants! {
    /// Status bits of a frame or block in a ring, and of `struct tpacket_auxdata`.
    u32:
    TP_STATUS_KERNEL = 0;
    TP_STATUS_USER = 0x1;
    TP_STATUS_COPY = 0x2;
    TP_STATUS_LOSING = 0x4;
    TP_STATUS_CSUMNOTREADY = 0x8;
    TP_STATUS_VLAN_VALID = 0x10;
    TP_STATUS_BLK_TMO = 0x20;
    TP_STATUS_VLAN_TPID_VALID = 0x40;
    TP_STATUS_CSUM_VALID = 0x80;
    TP_STATUS_TS_SOFTWARE = 0x2000_0000;
}

constants! {
    /// Kinds of groups (PACKET_FANOUT), and flags: the upper byte of Linux's `type_flags`.
    u8:
    PACKET_FANOUT_HASH = 0;
    PACKET_FANOUT_LB = 1;
    PACKET_FANOUT_CPU = 2;
    PACKET_FANOUT_ROLLOVER = 3;
    PACKET_FANOUT_RND = 4;
    PACKET_FANOUT_QM = 5;
    PACKET_FANOUT_FLAG_ROLLOVER = 0x10;
    PACKET_FANOUT_FLAG_UNIQUEID = 0x20;
    PACKET_FANOUT_FLAG_IGNORE_OUTGOING = 0x40;
    PACKET_FANOUT_FLAG_DEFRAG = 0x80;
}

constants! {
    /// Versions of the ring's layout.
    u32:
    TPACKET_V1 = 0;
    TPACKET_V2 = 1;
    TPACKET_V3 = 2;
    TP_FT_REQ_FILL_RXHASH = 1;
}

constants! {
    /// Protocols of Ethernet frames, host order.
    u16:
    ETH_P_802_3 = 1;
    ETH_P_802_2 = 4;
    ETH_P_ALL = 3;
    ETH_P_IP = 0x0800;
    ETH_P_ARP = 0x0806;
    ETH_P_8021Q = 0x8100;
    ETH_P_IPV6 = 0x86dd;
}

/// Bytes of an Ethernet header.
pub const ETH_HLEN: usize = 14;
/// Where frames begin in a ring (`TPACKET_ALIGNMENT`).
pub const TPACKET_ALIGNMENT: usize = 16;
/// Bytes of `struct sockaddr_ll` before its address.
pub const SOCKADDR_LL_HEADER: usize = 12;

abi_struct! {
    /// `struct sockaddr_ll`.
    #[derive(PartialEq, Eq)]
    pub struct SockaddrLl: 20 {
        /// AF_PACKET.
        pub sll_family: u16,
        /// Protocol, network order.
        pub sll_protocol: u16,
        /// Interface.
        pub sll_ifindex: i32,
        /// ARPHRD_*.
        pub sll_hatype: u16,
        /// PACKET_*.
        pub sll_pkttype: u8,
        /// Bytes of the address.
        pub sll_halen: u8,
        /// The address.
        pub sll_addr: [u8; 8],
    }
}

abi_struct! {
    /// `struct packet_mreq`.
    pub struct PacketMreq: 16 {
        /// Interface.
        pub mr_ifindex: i32,
        /// PACKET_MR_*.
        pub mr_type: u16,
        /// Bytes of the address.
        pub mr_alen: u16,
        /// The address.
        pub mr_address: [u8; 8],
    }
}

abi_struct! {
    /// `struct tpacket_auxdata`.
    pub struct TpacketAuxdata: 20 {
        /// TP_STATUS_*.
        pub tp_status: u32,
        /// Bytes of the frame.
        pub tp_len: u32,
        /// Bytes of it that were kept.
        pub tp_snaplen: u32,
        /// Where the link header is.
        pub tp_mac: u16,
        /// Where the network header is.
        pub tp_net: u16,
        /// VLAN tag.
        pub tp_vlan_tci: u16,
        /// VLAN protocol.
        pub tp_vlan_tpid: u16,
    }
}

abi_struct! {
    /// `struct tpacket_req3` (the first four are `struct tpacket_req`).
    #[derive(PartialEq, Eq)]
    pub struct TpacketReq3: 28 {
        /// Bytes of a block.
        pub tp_block_size: u32,
        /// Blocks.
        pub tp_block_nr: u32,
        /// Bytes of a frame.
        pub tp_frame_size: u32,
        /// Frames.
        pub tp_frame_nr: u32,
        /// Milliseconds until a block that is not full is handed over.
        pub tp_retire_blk_tov: u32,
        /// Bytes in front of each block for the program.
        pub tp_sizeof_priv: u32,
        /// TP_FT_*.
        pub tp_feature_req_word: u32,
    }
}

abi_struct! {
    /// `struct tpacket2_hdr`.
    pub struct Tpacket2Hdr: 32 {
        /// TP_STATUS_*.
        pub tp_status: u32,
        /// Bytes of the frame.
        pub tp_len: u32,
        /// Bytes of it that were kept.
        pub tp_snaplen: u32,
        /// Where the link header is.
        pub tp_mac: u16,
        /// Where the network header is.
        pub tp_net: u16,
        /// Seconds.
        pub tp_sec: u32,
        /// Nanoseconds.
        pub tp_nsec: u32,
        /// VLAN tag.
        pub tp_vlan_tci: u16,
        /// VLAN protocol.
        pub tp_vlan_tpid: u16,
        /// Padding.
        pub tp_padding: [u8; 4],
    }
}

abi_struct! {
    /// `struct tpacket3_hdr`.
    pub struct Tpacket3Hdr: 48 {
        /// Where the next frame is, from this one.
        pub tp_next_offset: u32,
        /// Seconds.
        pub tp_sec: u32,
        /// Nanoseconds.
        pub tp_nsec: u32,
        /// Bytes that were kept.
        pub tp_snaplen: u32,
        /// Bytes of the frame.
        pub tp_len: u32,
        /// TP_STATUS_*.
        pub tp_status: u32,
        /// Where the link header is.
        pub tp_mac: u16,
        /// Where the network header is.
        pub tp_net: u16,
        /// Hash.
        pub tp_rxhash: u32,
        /// VLAN tag.
        pub tp_vlan_tci: u32,
        /// VLAN protocol.
        pub tp_vlan_tpid: u16,
        /// Padding.
        pub tp_padding: u16,
        /// Padding.
        pub tp_padding2: [u8; 8],
    }
}

abi_struct! {
    /// `struct tpacket_block_desc` of version 3.
    pub struct TpacketBlock: 48 {
        /// TPACKET_V3's own number.
        pub version: u32,
        /// Where the program's part is.
        pub offset_to_priv: u32,
        /// TP_STATUS_*.
        pub block_status: u32,
        /// Frames.
        pub num_pkts: u32,
        /// Where the first is.
        pub offset_to_first_pkt: u32,
        /// Bytes used, with this.
        pub blk_len: u32,
        /// Counts blocks.
        pub seq_num: u64,
        /// When the first came: seconds, nanoseconds.
        pub ts_first_pkt: [u32; 2],
        /// When the last came.
        pub ts_last_pkt: [u32; 2],
    }
}
