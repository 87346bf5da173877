//! `/dev/net/tun` and the links behind it. Values from the UAPI headers `if_tun.h`, `if_link.h`, `virtio_net.h`.

constants! {
    /// Kinds and features in `ifr_flags` of TUNSETIFF and TUNSETQUEUE.
    u32:
    IFF_TUN = 0x0001;
    IFF_TAP = 0x0002;
    IFF_NO_CARRIER = 0x0040;
    IFF_MULTI_QUEUE = 0x0100;
    IFF_ATTACH_QUEUE = 0x0200;
    IFF_DETACH_QUEUE = 0x0400;
    IFF_PERSIST = 0x0800;
    IFF_NO_PI = 0x1000;
    IFF_NOFILTER = 0x1000;
    IFF_ONE_QUEUE = 0x2000;
    IFF_VNET_HDR = 0x4000;
    IFF_TUN_EXCL = 0x8000;
}

constants! {
    /// Offloads in TUNSETOFFLOAD.
    u32:
    TUN_F_CSUM = 0x01;
    TUN_F_TSO4 = 0x02;
    TUN_F_TSO6 = 0x04;
    TUN_F_TSO_ECN = 0x08;
    TUN_F_UFO = 0x10;
    TUN_F_USO4 = 0x20;
    TUN_F_USO6 = 0x40;
}

constants! {
    /// Flags in what is in front of a packet (`struct tun_pi`).
    u16:
    TUN_PKT_STRIP = 1;
}

constants! {
    /// Attributes in IFLA_INFO_DATA of a tun.
    u16:
    IFLA_TUN_OWNER = 1;
    IFLA_TUN_GROUP = 2;
    IFLA_TUN_TYPE = 3;
    IFLA_TUN_PI = 4;
    IFLA_TUN_VNET_HDR = 5;
    IFLA_TUN_PERSIST = 6;
    IFLA_TUN_MULTI_QUEUE = 7;
    IFLA_TUN_NUM_QUEUES = 8;
    IFLA_TUN_NUM_DISABLED_QUEUES = 9;
}

constants! {
    /// Flags and kinds of segmentation in `struct virtio_net_hdr`.
    u8:
    VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
    VIRTIO_NET_HDR_GSO_NONE = 0;
}

abi_struct! {
    /// What is in front of a packet unless IFF_NO_PI is on (`struct tun_pi`).
    pub struct PacketInformation: 4 {
        /// `TUN_PKT_*`.
        pub flags: u16,
        /// The protocol, in network order.
        pub proto: u16,
    }
}

abi_struct! {
    /// What is in front of a packet with IFF_VNET_HDR (`struct virtio_net_hdr`).
    pub struct VirtioNetHeader: 10 {
        /// `VIRTIO_NET_HDR_F_*`.
        pub flags: u8,
        /// `VIRTIO_NET_HDR_GSO_*`.
        pub gso_type: u8,
        /// Bytes of all headers.
        pub hdr_len: u16,
        /// Bytes of payload in a segment.
        pub gso_size: u16,
        /// Where the checksum begins to count.
        pub csum_start: u16,
        /// Where, from there, it is put.
        pub csum_offset: u16,
    }
}
