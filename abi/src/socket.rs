//! Socket address families, types and message flags.

pub use linux_raw_sys::net::{
    AF_ALG, AF_APPLETALK, AF_ASH, AF_ATMPVC, AF_ATMSVC, AF_AX25, AF_BLUETOOTH, AF_BRIDGE, AF_CAIF, AF_CAN,
    AF_DECnet, AF_ECONET, AF_IEEE802154, AF_INET, AF_INET6, AF_IPX, AF_IRDA, AF_ISDN, AF_IUCV, AF_KCM,
    AF_KEY, AF_LLC, AF_MAX, AF_MCTP, AF_NETBEUI, AF_NETLINK, AF_NETROM, AF_NFC, AF_PACKET, AF_PHONET,
    AF_PPPOX, AF_QIPCRTR, AF_RDS, AF_ROSE, AF_RXRPC, AF_SECURITY, AF_SMC, AF_SNA, AF_TIPC, AF_UNIX,
    AF_UNSPEC, AF_VSOCK, AF_WANPIPE, AF_X25, AF_XDP, IPPROTO_DSTOPTS, IPPROTO_FRAGMENT, IPPROTO_HOPOPTS,
    IPPROTO_ICMPV6, IPPROTO_MH, IPPROTO_NONE, IPPROTO_ROUTING, MSG_CMSG_CLOEXEC, MSG_CONFIRM, MSG_CTRUNC,
    MSG_DONTROUTE, MSG_DONTWAIT, MSG_EOR, MSG_ERRQUEUE, MSG_FIN, MSG_MORE, MSG_NOSIGNAL, MSG_OOB, MSG_PEEK,
    MSG_PROBE, MSG_RST, MSG_SYN, MSG_TRUNC, MSG_WAITALL, SCM_CREDENTIALS, SCM_DEVMEM_DMABUF,
    SCM_DEVMEM_LINEAR, SCM_INQ, SCM_RIGHTS, SCM_SECURITY, SCM_TIMESTAMP, SCM_TIMESTAMPING,
    SCM_TIMESTAMPING_OPT_STATS, SCM_TIMESTAMPING_PKTINFO, SCM_TIMESTAMPNS, SCM_TS_OPT_ID, SCM_TXTIME,
    SCM_WIFI_STATUS, SHUT_RD, SHUT_RDWR, SHUT_WR, SIOCGSTAMP_OLD, SIOCGSTAMPNS_OLD, SO_ACCEPTCONN,
    SO_ATTACH_BPF, SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF, SO_BINDTODEVICE,
    SO_BINDTOIFINDEX, SO_BPF_EXTENSIONS, SO_BROADCAST, SO_BSDCOMPAT, SO_BUF_LOCK, SO_BUSY_POLL,
    SO_BUSY_POLL_BUDGET, SO_CNX_ADVICE, SO_COOKIE, SO_DEBUG, SO_DETACH_BPF, SO_DETACH_FILTER,
    SO_DETACH_REUSEPORT_BPF, SO_DEVMEM_DMABUF, SO_DEVMEM_DONTNEED, SO_DEVMEM_LINEAR, SO_DOMAIN, SO_DONTROUTE,
    SO_ERROR, SO_GET_FILTER, SO_INCOMING_CPU, SO_INCOMING_NAPI_ID, SO_INQ, SO_KEEPALIVE, SO_LINGER,
    SO_LOCK_FILTER, SO_MARK, SO_MAX_PACING_RATE, SO_MEMINFO, SO_NETNS_COOKIE, SO_NO_CHECK, SO_NOFCS,
    SO_OOBINLINE, SO_ORIGINAL_DST, SO_PASSCRED, SO_PASSPIDFD, SO_PASSRIGHTS, SO_PASSSEC, SO_PEEK_OFF,
    SO_PEERCRED, SO_PEERGROUPS, SO_PEERNAME, SO_PEERPIDFD, SO_PEERSEC, SO_PREFER_BUSY_POLL, SO_PRIORITY,
    SO_PROTOCOL, SO_RCVBUF, SO_RCVBUFFORCE, SO_RCVLOWAT, SO_RCVMARK, SO_RCVPRIORITY, SO_RCVTIMEO,
    SO_RCVTIMEO_NEW, SO_RCVTIMEO_OLD, SO_RESERVE_MEM, SO_REUSEADDR, SO_REUSEPORT, SO_RXQ_OVFL,
    SO_SECURITY_AUTHENTICATION, SO_SECURITY_ENCRYPTION_NETWORK, SO_SECURITY_ENCRYPTION_TRANSPORT,
    SO_SELECT_ERR_QUEUE, SO_SNDBUF, SO_SNDBUFFORCE, SO_SNDLOWAT, SO_SNDTIMEO, SO_SNDTIMEO_NEW,
    SO_SNDTIMEO_OLD, SO_TIMESTAMP, SO_TIMESTAMP_NEW, SO_TIMESTAMP_OLD, SO_TIMESTAMPING, SO_TIMESTAMPING_NEW,
    SO_TIMESTAMPING_OLD, SO_TIMESTAMPNS, SO_TIMESTAMPNS_NEW, SO_TIMESTAMPNS_OLD, SO_TXREHASH, SO_TXTIME,
    SO_TYPE, SO_WIFI_STATUS, SO_ZEROCOPY, SOCK_BUF_LOCK_MASK, SOCK_RCVBUF_LOCK, SOCK_SNDBUF_LOCK,
    SOCK_TXREHASH_DEFAULT, SOCK_TXREHASH_DISABLED, SOCK_TXREHASH_ENABLED, SOL_AAL, SOL_ALG, SOL_ATALK,
    SOL_ATM, SOL_AX25, SOL_BLUETOOTH, SOL_CAIF, SOL_DCCP, SOL_DECNET, SOL_ICMPV6, SOL_IP, SOL_IPV6, SOL_IPX,
    SOL_IRDA, SOL_IUCV, SOL_KCM, SOL_LLC, SOL_MCTP, SOL_MPTCP, SOL_NETBEUI, SOL_NETLINK, SOL_NETROM, SOL_NFC,
    SOL_PACKET, SOL_PNPIPE, SOL_PPPOL2TP, SOL_RAW, SOL_RDS, SOL_ROSE, SOL_RXRPC, SOL_SCTP, SOL_SMC,
    SOL_SOCKET, SOL_TCP, SOL_TIPC, SOL_TLS, SOL_UDP, SOL_UDPLITE, SOL_X25, SOL_XDP, SYS_ACCEPT, SYS_ACCEPT4,
    SYS_BIND, SYS_CONNECT, SYS_GETPEERNAME, SYS_GETSOCKNAME, SYS_GETSOCKOPT, SYS_LISTEN, SYS_RECV,
    SYS_RECVFROM, SYS_RECVMMSG, SYS_RECVMSG, SYS_SEND, SYS_SENDMMSG, SYS_SENDMSG, SYS_SENDTO, SYS_SETSOCKOPT,
    SYS_SHUTDOWN, SYS_SOCKET, SYS_SOCKETPAIR,
};

/// Stream socket.
pub const SOCK_STREAM: u32 = 1;
/// Datagram socket.
pub const SOCK_DGRAM: u32 = 2;
/// Raw socket.
pub const SOCK_RAW: u32 = 3;
/// Reliable datagrams.
pub const SOCK_RDM: u32 = 4;
/// Sequenced packets.
pub const SOCK_SEQPACKET: u32 = 5;
/// Close on exec.
pub const SOCK_CLOEXEC: u32 = 0o2000000;
/// Do not block.
pub const SOCK_NONBLOCK: u32 = 0o4000;

/// `SOCK_MAX`: one more than the highest socket type.
pub const SOCK_MAX: u32 = 11;
/// The bits of socket(2)'s `type` that are the type.
pub const SOCK_TYPE_MASK: u32 = 0xf;
/// `SCM_PIDFD`: a descriptor of the sender's process.
pub const SCM_PIDFD: u32 = 4;
/// The most descriptors in one message (`SCM_MAX_FD`).
pub const SCM_MAX_FD: usize = 253;
/// Send a datagram's pieces as they are (`MSG_BATCH`, internal to sendmmsg(2)).
pub const MSG_BATCH: u32 = 0x40000;
/// recvmmsg(2): block for the first message only.
pub const MSG_WAITFORONE: u32 = 0x10000;
/// Splice pages (internal; never from a program).
pub const MSG_SPLICE_PAGES: u32 = 0x800_0000;
/// Flags that only the kernel may set.
pub const MSG_INTERNAL_SEND_FLAGS: u32 = MSG_SPLICE_PAGES | 0x100_0000 | 0x80000;
/// Compatibility calls of 32-bit programs (never on 64-bit).
pub const MSG_CMSG_COMPAT: u32 = 0x8000_0000;
/// Bytes waiting to be read.
pub const SIOCINQ: u32 = 0x541b;
/// Bytes not yet taken by the receiver.
pub const SIOCOUTQ: u32 = 0x5411;
/// A descriptor of the place a UNIX socket is bound to.
pub const SIOCUNIXFILE: u32 = 0x89e0;
/// `struct sockaddr_un`: bytes of `sun_path`.
pub const UNIX_PATH_MAX: usize = 108;
/// Values in the answer of `SO_MEMINFO`.
pub const SK_MEMINFO_VARS: usize = 9;

abi_struct! {
    /// `struct msghdr` (`struct user_msghdr`).
    pub struct Msghdr: 56 {
        /// Address of the name.
        pub msg_name: u64,
        /// Its length.
        pub msg_namelen: i32,
        /// Explicit padding.
        pub pad0: u32,
        /// Address of the `struct iovec` array.
        pub msg_iov: u64,
        /// Its length.
        pub msg_iovlen: u64,
        /// Address of the control messages.
        pub msg_control: u64,
        /// Their length.
        pub msg_controllen: u64,
        /// Flags of a received message.
        pub msg_flags: u32,
        /// Explicit padding.
        pub pad1: u32,
    }
}

abi_struct! {
    /// `struct mmsghdr`.
    pub struct Mmsghdr: 64 {
        /// The message.
        pub msg_hdr: Msghdr,
        /// Bytes moved.
        pub msg_len: u32,
        /// Explicit padding.
        pub pad0: u32,
    }
}

abi_struct! {
    /// `struct cmsghdr`.
    pub struct Cmsghdr: 16 {
        /// Bytes, with this header.
        pub cmsg_len: u64,
        /// Protocol.
        pub cmsg_level: i32,
        /// Type in it.
        pub cmsg_type: i32,
    }
}

/// Where the next control message starts: control messages are aligned to words.
pub const fn cmsg_align(length: usize) -> usize {
    length.next_multiple_of(8)
}

abi_struct! {
    /// `struct ucred`.
    #[derive(PartialEq, Eq)]
    pub struct Ucred: 12 {
        /// Process.
        pub pid: i32,
        /// User.
        pub uid: u32,
        /// Group.
        pub gid: u32,
    }
}

abi_struct! {
    /// `struct linger`.
    #[derive(PartialEq, Eq)]
    pub struct Linger: 8 {
        /// Whether to linger.
        pub l_onoff: i32,
        /// Seconds.
        pub l_linger: i32,
    }
}

abi_struct! {
    /// `struct sock_filter`: an instruction of classic BPF.
    #[derive(PartialEq, Eq)]
    pub struct SockFilter: 8 {
        /// Operation.
        pub code: u16,
        /// Jump if true.
        pub jt: u8,
        /// Jump if false.
        pub jf: u8,
        /// Operand.
        pub k: u32,
    }
}

abi_struct! {
    /// `struct sock_fprog`.
    pub struct SockFprog: 16 {
        /// Instructions.
        pub len: u16,
        /// Explicit padding.
        pub pad0: [u16; 3],
        /// Their address.
        pub filter: u64,
    }
}
