//! netlink(7): headers, flags, the controller of generic netlink. Values from the UAPI headers `netlink.h`, `genetlink.h`.

constants! {
    /// Protocols of AF_NETLINK: which subsystem a socket talks to (netlink(7)).
    u32:
    NETLINK_ROUTE = 0;
    NETLINK_UNUSED = 1;
    NETLINK_USERSOCK = 2;
    NETLINK_FIREWALL = 3;
    NETLINK_SOCK_DIAG = 4;
    NETLINK_NFLOG = 5;
    NETLINK_XFRM = 6;
    NETLINK_SELINUX = 7;
    NETLINK_ISCSI = 8;
    NETLINK_AUDIT = 9;
    NETLINK_FIB_LOOKUP = 10;
    NETLINK_CONNECTOR = 11;
    NETLINK_NETFILTER = 12;
    NETLINK_IP6_FW = 13;
    NETLINK_DNRTMSG = 14;
    NETLINK_KOBJECT_UEVENT = 15;
    NETLINK_GENERIC = 16;
    NETLINK_SCSITRANSPORT = 18;
    NETLINK_ECRYPTFS = 19;
    NETLINK_RDMA = 20;
    NETLINK_CRYPTO = 21;
    NETLINK_SMC = 22;
}

constants! {
    /// Socket options of level SOL_NETLINK.
    i32:
    NETLINK_ADD_MEMBERSHIP = 1;
    NETLINK_DROP_MEMBERSHIP = 2;
    NETLINK_PKTINFO = 3;
    NETLINK_BROADCAST_ERROR = 4;
    NETLINK_NO_ENOBUFS = 5;
    NETLINK_RX_RING = 6;
    NETLINK_TX_RING = 7;
    NETLINK_LISTEN_ALL_NSID = 8;
    NETLINK_LIST_MEMBERSHIPS = 9;
    NETLINK_CAP_ACK = 10;
    NETLINK_EXT_ACK = 11;
    NETLINK_GET_STRICT_CHK = 12;
}

constants! {
    /// Flags of a message (`nlmsg_flags`).
    u16:
    NLM_F_REQUEST = 0x1;
    NLM_F_MULTI = 0x2;
    NLM_F_ACK = 0x4;
    NLM_F_ECHO = 0x8;
    NLM_F_DUMP_INTR = 0x10;
    NLM_F_DUMP_FILTERED = 0x20;
    NLM_F_NONREC = 0x100;
    NLM_F_REPLACE = 0x100;
    NLM_F_ROOT = 0x100;
    NLM_F_CAPPED = 0x100;
    NLM_F_EXCL = 0x200;
    NLM_F_ACK_TLVS = 0x200;
    NLM_F_BULK = 0x200;
    NLM_F_MATCH = 0x200;
    NLM_F_DUMP = 0x300;
    NLM_F_ATOMIC = 0x400;
    NLM_F_CREATE = 0x400;
    NLM_F_APPEND = 0x800;
}

constants! {
    /// Types of control messages; subsystems' own begin at NLMSG_MIN_TYPE.
    u16:
    NLMSG_NOOP = 1;
    NLMSG_ERROR = 2;
    NLMSG_DONE = 3;
    NLMSG_OVERRUN = 4;
    NLMSG_MIN_TYPE = 16;
}

constants! {
    /// Attributes of an extended acknowledgement.
    u16:
    NLMSGERR_ATTR_UNUSED = 0;
    NLMSGERR_ATTR_MSG = 1;
    NLMSGERR_ATTR_OFFS = 2;
    NLMSGERR_ATTR_COOKIE = 3;
    NLMSGERR_ATTR_POLICY = 4;
    NLMSGERR_ATTR_MISS_TYPE = 5;
    NLMSGERR_ATTR_MISS_NEST = 6;
}

constants! {
    /// Bits of an attribute's type.
    u16:
    NLA_F_NET_BYTEORDER = 0x4000;
    NLA_F_NESTED = 0x8000;
}

constants! {
    /// Attributes of a described policy.
    u16:
    NL_POLICY_TYPE_ATTR_UNSPEC = 0;
    NL_POLICY_TYPE_ATTR_TYPE = 1;
    NL_POLICY_TYPE_ATTR_MIN_VALUE_S = 2;
    NL_POLICY_TYPE_ATTR_MIN_VALUE_U = 4;
    NL_POLICY_TYPE_ATTR_MIN_LENGTH = 6;
    NL_POLICY_TYPE_ATTR_POLICY_IDX = 8;
    NL_POLICY_TYPE_ATTR_POLICY_MAXTYPE = 9;
    NL_POLICY_TYPE_ATTR_BITFIELD32_MASK = 10;
    NL_POLICY_TYPE_ATTR_PAD = 11;
    NL_POLICY_TYPE_ATTR_MASK = 12;
}

constants! {
    /// Kinds of attributes in a described policy.
    u32:
    NL_ATTR_TYPE_INVALID = 0;
    NL_ATTR_TYPE_FLAG = 1;
    NL_ATTR_TYPE_U8 = 2;
    NL_ATTR_TYPE_U16 = 3;
    NL_ATTR_TYPE_U32 = 4;
    NL_ATTR_TYPE_U64 = 5;
    NL_ATTR_TYPE_S8 = 6;
    NL_ATTR_TYPE_S16 = 7;
    NL_ATTR_TYPE_S32 = 8;
    NL_ATTR_TYPE_S64 = 9;
    NL_ATTR_TYPE_BINARY = 10;
    NL_ATTR_TYPE_STRING = 11;
    NL_ATTR_TYPE_NUL_STRING = 12;
    NL_ATTR_TYPE_NESTED = 13;
    NL_ATTR_TYPE_NESTED_ARRAY = 14;
    NL_ATTR_TYPE_BITFIELD32 = 15;
}

constants! {
    /// The controller of generic netlink: commands, attributes, flags.
    u16:
    CTRL_CMD_UNSPEC = 0;
    CTRL_ATTR_UNSPEC = 0;
    CTRL_ATTR_OP_UNSPEC = 0;
    CTRL_ATTR_MCAST_GRP_UNSPEC = 0;
    CTRL_ATTR_POLICY_UNSPEC = 0;
    CTRL_CMD_NEWFAMILY = 1;
    CTRL_ATTR_FAMILY_ID = 1;
    CTRL_ATTR_OP_ID = 1;
    CTRL_ATTR_MCAST_GRP_NAME = 1;
    CTRL_ATTR_POLICY_DO = 1;
    GENL_ADMIN_PERM = 1;
    CTRL_CMD_DELFAMILY = 2;
    CTRL_ATTR_FAMILY_NAME = 2;
    CTRL_ATTR_OP_FLAGS = 2;
    CTRL_ATTR_MCAST_GRP_ID = 2;
    CTRL_ATTR_POLICY_DUMP = 2;
    GENL_CMD_CAP_DO = 2;
    CTRL_CMD_GETFAMILY = 3;
    CTRL_ATTR_VERSION = 3;
    CTRL_CMD_NEWOPS = 4;
    CTRL_ATTR_HDRSIZE = 4;
    CTRL_ATTR_MAXATTR = 5;
    GENL_CMD_CAP_DUMP = 4;
    CTRL_CMD_DELOPS = 5;
    CTRL_CMD_GETOPS = 6;
    CTRL_ATTR_OPS = 6;
    CTRL_CMD_NEWMCAST_GRP = 7;
    CTRL_ATTR_MCAST_GROUPS = 7;
    CTRL_CMD_DELMCAST_GRP = 8;
    CTRL_ATTR_POLICY = 8;
    GENL_CMD_CAP_HASPOL = 8;
    CTRL_CMD_GETMCAST_GRP = 9;
    CTRL_ATTR_OP_POLICY = 9;
    CTRL_CMD_GETPOLICY = 10;
    CTRL_ATTR_OP = 10;
    GENL_ID_CTRL = 16;
    GENL_MIN_ID = 16;
    GENL_UNS_ADMIN_PERM = 16;
    GENL_MAX_ID = 1023;
}

abi_struct! {
    /// Header of every netlink message (`struct nlmsghdr`).
    pub struct MessageHeader: 16 {
        /// Bytes of the message with this header.
        pub nlmsg_len: u32,
        /// What it is.
        pub nlmsg_type: u16,
        /// `NLM_F_*`.
        pub nlmsg_flags: u16,
        /// The asker's number, repeated in answers.
        pub nlmsg_seq: u32,
        /// The port it came from; 0 is the kernel.
        pub nlmsg_pid: u32,
    }
}

abi_struct! {
    /// Header of an attribute (`struct nlattr`).
    pub struct AttributeHeader: 4 {
        /// Bytes with this header, without padding.
        pub nla_len: u16,
        /// Kind, and the bits NLA_F_*.
        pub nla_type: u16,
    }
}

abi_struct! {
    /// Address of a netlink socket (`struct sockaddr_nl`).
    pub struct SocketAddressNetlink: 12 {
        /// `AF_NETLINK`.
        pub nl_family: u16,
        /// Zero.
        pub nl_pad: u16,
        /// The port.
        pub nl_pid: u32,
        /// Multicast groups as bits.
        pub nl_groups: u32,
    }
}

abi_struct! {
    /// Header of a generic netlink message (`struct genlmsghdr`).
    pub struct GenericHeader: 4 {
        /// The command.
        pub cmd: u8,
        /// Of the family.
        pub version: u8,
        /// Zero.
        pub reserved: u16,
    }
}
