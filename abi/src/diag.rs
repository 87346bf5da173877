//! sock_diag(7): how programs list sockets. Values from the UAPI headers `sock_diag.h`, `unix_diag.h`, `netlink_diag.h`,
//! `packet_diag.h`, `inet_diag.h`.

constants! {
    /// Types of messages.
    u16:
    TCPDIAG_GETSOCK = 18;
    DCCPDIAG_GETSOCK = 19;
    SOCK_DIAG_BY_FAMILY = 20;
    SOCK_DESTROY = 21;
}

/// Multicast groups of the protocol (`SKNLGRP_MAX`).
pub const SKNLGRP_MAX: u32 = 4;

constants! {
    /// What is asked about a UNIX socket.
    u32:
    UDIAG_SHOW_NAME = 0x1;
    UDIAG_SHOW_VFS = 0x2;
    UDIAG_SHOW_PEER = 0x4;
    UDIAG_SHOW_ICONS = 0x8;
    UDIAG_SHOW_RQLEN = 0x10;
    UDIAG_SHOW_MEMINFO = 0x20;
    UDIAG_SHOW_UID = 0x40;
}

constants! {
    /// Attributes of a UNIX socket.
    u16:
    UNIX_DIAG_NAME = 0;
    UNIX_DIAG_VFS = 1;
    UNIX_DIAG_PEER = 2;
    UNIX_DIAG_ICONS = 3;
    UNIX_DIAG_RQLEN = 4;
    UNIX_DIAG_MEMINFO = 5;
    UNIX_DIAG_SHUTDOWN = 6;
    UNIX_DIAG_UID = 7;
}

constants! {
    /// What is asked about a netlink socket, and flags of one.
    u32:
    NDIAG_SHOW_MEMINFO = 0x1;
    NDIAG_SHOW_GROUPS = 0x2;
    NDIAG_SHOW_RING_CFG = 0x4;
    NDIAG_SHOW_FLAGS = 0x8;
    NDIAG_FLAG_CB_RUNNING = 0x1;
    NDIAG_FLAG_PKTINFO = 0x2;
    NDIAG_FLAG_BROADCAST_ERROR = 0x4;
    NDIAG_FLAG_NO_ENOBUFS = 0x8;
    NDIAG_FLAG_LISTEN_ALL_NSID = 0x10;
    NDIAG_FLAG_CAP_ACK = 0x20;
}

/// All netlink protocols.
pub const NDIAG_PROTO_ALL: u8 = 255;

constants! {
    /// Attributes of a netlink socket.
    u16:
    NETLINK_DIAG_MEMINFO = 0;
    NETLINK_DIAG_GROUPS = 1;
    NETLINK_DIAG_FLAGS = 4;
}

constants! {
    /// What is asked about a packet socket, and flags of one.
    u32:
    PACKET_SHOW_INFO = 0x1;
    PACKET_SHOW_MCLIST = 0x2;
    PACKET_SHOW_RING_CFG = 0x4;
    PACKET_SHOW_FANOUT = 0x8;
    PACKET_SHOW_MEMINFO = 0x10;
    PACKET_SHOW_FILTER = 0x20;
    PDI_RUNNING = 0x1;
    PDI_AUXDATA = 0x2;
    PDI_ORIGDEV = 0x4;
    PDI_VNETHDR = 0x8;
    PDI_LOSS = 0x10;
}

constants! {
    /// Attributes of a packet socket.
    u16:
    PACKET_DIAG_INFO = 0;
    PACKET_DIAG_MCLIST = 1;
    PACKET_DIAG_RX_RING = 2;
    PACKET_DIAG_TX_RING = 3;
    PACKET_DIAG_FANOUT = 4;
    PACKET_DIAG_UID = 5;
    PACKET_DIAG_MEMINFO = 6;
    PACKET_DIAG_FILTER = 7;
}

constants! {
    /// Attributes of an Internet socket.
    u16:
    INET_DIAG_MEMINFO = 1;
    INET_DIAG_TOS = 5;
    INET_DIAG_TCLASS = 6;
    INET_DIAG_SKMEMINFO = 7;
    INET_DIAG_SHUTDOWN = 8;
    INET_DIAG_SKV6ONLY = 11;
    INET_DIAG_MARK = 15;
    INET_DIAG_CLASS_ID = 17;
    INET_DIAG_CGROUP_ID = 21;
    INET_DIAG_SOCKOPT = 22;
    INET_DIAG_PROTOCOL = 10;
    INET_DIAG_REQ_BYTECODE = 1;
    INET_DIAG_REQ_PROTOCOL = 3;
}

constants! {
    /// Operations of INET_DIAG_REQ_BYTECODE.
    u8:
    INET_DIAG_BC_NOP = 0;
    INET_DIAG_BC_JMP = 1;
    INET_DIAG_BC_S_GE = 2;
    INET_DIAG_BC_S_LE = 3;
    INET_DIAG_BC_D_GE = 4;
    INET_DIAG_BC_D_LE = 5;
    INET_DIAG_BC_AUTO = 6;
    INET_DIAG_BC_S_COND = 7;
    INET_DIAG_BC_D_COND = 8;
    INET_DIAG_BC_DEV_COND = 9;
    INET_DIAG_BC_MARK_COND = 10;
    INET_DIAG_BC_S_EQ = 11;
    INET_DIAG_BC_D_EQ = 12;
    INET_DIAG_BC_CGROUP_COND = 13;
}

abi_struct! {
    /// `struct unix_diag_req`.
    pub struct UnixDiagReq: 24 {
        /// AF_UNIX.
        pub sdiag_family: u8,
        /// 0.
        pub sdiag_protocol: u8,
        /// Padding.
        pub pad: u16,
        /// Which states, as bits.
        pub udiag_states: u32,
        /// Which socket.
        pub udiag_ino: u32,
        /// UDIAG_SHOW_*.
        pub udiag_show: u32,
        /// Its cookie.
        pub udiag_cookie: [u32; 2],
    }
}

abi_struct! {
    /// `struct unix_diag_msg`.
    pub struct UnixDiagMsg: 16 {
        /// AF_UNIX.
        pub udiag_family: u8,
        /// SOCK_*.
        pub udiag_type: u8,
        /// State.
        pub udiag_state: u8,
        /// Padding.
        pub pad: u8,
        /// Inode.
        pub udiag_ino: u32,
        /// Cookie.
        pub udiag_cookie: [u32; 2],
    }
}

abi_struct! {
    /// `struct netlink_diag_req` and `struct packet_diag_req`.
    pub struct SimpleDiagReq: 20 {
        /// AF_NETLINK or AF_PACKET.
        pub sdiag_family: u8,
        /// NETLINK_* or NDIAG_PROTO_ALL; 0.
        pub sdiag_protocol: u8,
        /// Padding.
        pub pad: u16,
        /// Which socket.
        pub ino: u32,
        /// NDIAG_SHOW_*, PACKET_SHOW_*.
        pub show: u32,
        /// Its cookie.
        pub cookie: [u32; 2],
    }
}

abi_struct! {
    /// `struct netlink_diag_msg`.
    pub struct NetlinkDiagMsg: 28 {
        /// AF_NETLINK.
        pub ndiag_family: u8,
        /// SOCK_*.
        pub ndiag_type: u8,
        /// NETLINK_*.
        pub ndiag_protocol: u8,
        /// State.
        pub ndiag_state: u8,
        /// Its port.
        pub ndiag_portid: u32,
        /// The port it is connected to.
        pub ndiag_dst_portid: u32,
        /// The group it is connected to.
        pub ndiag_dst_group: u32,
        /// Inode.
        pub ndiag_ino: u32,
        /// Cookie.
        pub ndiag_cookie: [u32; 2],
    }
}

abi_struct! {
    /// `struct packet_diag_msg`.
    pub struct PacketDiagMsg: 16 {
        /// AF_PACKET.
        pub pdiag_family: u8,
        /// SOCK_*.
        pub pdiag_type: u8,
        /// Protocol, host order.
        pub pdiag_num: u16,
        /// Inode.
        pub pdiag_ino: u32,
        /// Cookie.
        pub pdiag_cookie: [u32; 2],
    }
}

abi_struct! {
    /// `struct packet_diag_info`.
    pub struct PacketDiagInfo: 24 {
        /// Interface.
        pub pdi_index: u32,
        /// Version of the ring.
        pub pdi_version: u32,
        /// PACKET_RESERVE.
        pub pdi_reserve: u32,
        /// PACKET_COPY_THRESH.
        pub pdi_copy_thresh: u32,
        /// PACKET_TIMESTAMP.
        pub pdi_tstamp: u32,
        /// PDI_*.
        pub pdi_flags: u32,
    }
}

abi_struct! {
    /// `struct packet_diag_mclist`.
    pub struct PacketDiagMclist: 44 {
        /// Interface.
        pub pdmc_index: u32,
        /// How often.
        pub pdmc_count: u32,
        /// PACKET_MR_*.
        pub pdmc_type: u16,
        /// Bytes of the address.
        pub pdmc_alen: u16,
        /// The address.
        pub pdmc_addr: [u8; 32],
    }
}

abi_struct! {
    /// `struct inet_diag_sockid`.
    #[derive(PartialEq, Eq)]
    pub struct InetDiagSockid: 48 {
        /// Own port, network order.
        pub idiag_sport: u16,
        /// The other side's port, network order.
        pub idiag_dport: u16,
        /// Own address.
        pub idiag_src: [u8; 16],
        /// The other side's address.
        pub idiag_dst: [u8; 16],
        /// Interface.
        pub idiag_if: u32,
        /// Cookie.
        pub idiag_cookie: [u32; 2],
    }
}

abi_struct! {
    /// `struct inet_diag_req_v2` (`pad` is the protocol of a raw socket).
    pub struct InetDiagReq: 56 {
        /// AF_INET or AF_INET6.
        pub sdiag_family: u8,
        /// IPPROTO_*.
        pub sdiag_protocol: u8,
        /// Which attributes, as bits from INET_DIAG_MEMINFO on.
        pub idiag_ext: u8,
        /// A raw socket's protocol.
        pub pad: u8,
        /// Which states, as bits.
        pub idiag_states: u32,
        /// Which socket.
        pub id: InetDiagSockid,
    }
}

abi_struct! {
    /// `struct inet_diag_msg`.
    pub struct InetDiagMsg: 72 {
        /// AF_INET or AF_INET6.
        pub idiag_family: u8,
        /// State.
        pub idiag_state: u8,
        /// Which timer runs.
        pub idiag_timer: u8,
        /// Retransmissions.
        pub idiag_retrans: u8,
        /// Which socket.
        pub id: InetDiagSockid,
        /// When the timer ends.
        pub idiag_expires: u32,
        /// Bytes to be read.
        pub idiag_rqueue: u32,
        /// Bytes on their way.
        pub idiag_wqueue: u32,
        /// Owner.
        pub idiag_uid: u32,
        /// Inode.
        pub idiag_inode: u32,
    }
}
