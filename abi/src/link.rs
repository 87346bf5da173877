//! Kinds of links. Values from the UAPI headers `if_link.h`, `if_bridge.h`, `if_vlan.h`, `if_ether.h`.

constants! {
    /// Families of messages.
    u8:
    AF_BRIDGE = 7;
}

constants! {
    /// Attributes in IFLA_INFO_DATA of a bridge.
    u16:
    IFLA_BR_FORWARD_DELAY = 1;
    IFLA_BR_HELLO_TIME = 2;
    IFLA_BR_MAX_AGE = 3;
    IFLA_BR_AGEING_TIME = 4;
    IFLA_BR_STP_STATE = 5;
    IFLA_BR_PRIORITY = 6;
    IFLA_BR_VLAN_FILTERING = 7;
    IFLA_BR_VLAN_PROTOCOL = 8;
    IFLA_BR_GROUP_FWD_MASK = 9;
    IFLA_BR_ROOT_ID = 10;
    IFLA_BR_BRIDGE_ID = 11;
    IFLA_BR_ROOT_PORT = 12;
    IFLA_BR_ROOT_PATH_COST = 13;
    IFLA_BR_TOPOLOGY_CHANGE = 14;
    IFLA_BR_TOPOLOGY_CHANGE_DETECTED = 15;
    IFLA_BR_HELLO_TIMER = 16;
    IFLA_BR_TCN_TIMER = 17;
    IFLA_BR_TOPOLOGY_CHANGE_TIMER = 18;
    IFLA_BR_GC_TIMER = 19;
    IFLA_BR_GROUP_ADDR = 20;
    IFLA_BR_FDB_FLUSH = 21;
    IFLA_BR_MCAST_ROUTER = 22;
    IFLA_BR_MCAST_SNOOPING = 23;
    IFLA_BR_NF_CALL_IPTABLES = 36;
    IFLA_BR_NF_CALL_ARPTABLES = 38;
    IFLA_BR_VLAN_DEFAULT_PVID = 39;
    IFLA_BR_PAD = 40;
    IFLA_BR_VLAN_STATS_ENABLED = 41;
    IFLA_BR_MCAST_STATS_ENABLED = 42;
    IFLA_BR_MCAST_MLD_VERSION = 44;
    IFLA_BR_VLAN_STATS_PER_PORT = 45;
    IFLA_BR_MULTI_BOOLOPT = 46;
    IFLA_BR_MCAST_QUERIER_STATE = 47;
    IFLA_BR_FDB_N_LEARNED = 48;
    IFLA_BR_FDB_MAX_LEARNED = 49;
}

constants! {
    /// Attributes in IFLA_INFO_SLAVE_DATA and IFLA_PROTINFO of a bridge's port.
    u16:
    IFLA_BRPORT_STATE = 1;
    IFLA_BRPORT_PRIORITY = 2;
    IFLA_BRPORT_COST = 3;
    IFLA_BRPORT_MODE = 4;
    IFLA_BRPORT_GUARD = 5;
    IFLA_BRPORT_PROTECT = 6;
    IFLA_BRPORT_FAST_LEAVE = 7;
    IFLA_BRPORT_LEARNING = 8;
    IFLA_BRPORT_UNICAST_FLOOD = 9;
    IFLA_BRPORT_PROXYARP = 10;
    IFLA_BRPORT_LEARNING_SYNC = 11;
    IFLA_BRPORT_PROXYARP_WIFI = 12;
    IFLA_BRPORT_ROOT_ID = 13;
    IFLA_BRPORT_BRIDGE_ID = 14;
    IFLA_BRPORT_DESIGNATED_PORT = 15;
    IFLA_BRPORT_DESIGNATED_COST = 16;
    IFLA_BRPORT_ID = 17;
    IFLA_BRPORT_NO = 18;
    IFLA_BRPORT_TOPOLOGY_CHANGE_ACK = 19;
    IFLA_BRPORT_CONFIG_PENDING = 20;
    IFLA_BRPORT_MESSAGE_AGE_TIMER = 21;
    IFLA_BRPORT_FORWARD_DELAY_TIMER = 22;
    IFLA_BRPORT_HOLD_TIMER = 23;
    IFLA_BRPORT_FLUSH = 24;
    IFLA_BRPORT_MULTICAST_ROUTER = 25;
    IFLA_BRPORT_MCAST_FLOOD = 27;
    IFLA_BRPORT_MCAST_TO_UCAST = 28;
    IFLA_BRPORT_VLAN_TUNNEL = 29;
    IFLA_BRPORT_BCAST_FLOOD = 30;
    IFLA_BRPORT_GROUP_FWD_MASK = 31;
    IFLA_BRPORT_NEIGH_SUPPRESS = 32;
    IFLA_BRPORT_ISOLATED = 33;
    IFLA_BRPORT_BACKUP_PORT = 34;
    IFLA_BRPORT_MRP_RING_OPEN = 35;
    IFLA_BRPORT_MRP_IN_OPEN = 36;
    IFLA_BRPORT_LOCKED = 39;
    IFLA_BRPORT_MAB = 40;
    IFLA_BRPORT_NEIGH_VLAN_SUPPRESS = 43;
    IFLA_BRPORT_BACKUP_NHID = 44;
}

constants! {
    /// Attributes in IFLA_AF_SPEC of a bridge or port, and in an entry of its VLANs.
    u16:
    IFLA_BRIDGE_FLAGS = 0;
    IFLA_BRIDGE_MODE = 1;
    IFLA_BRIDGE_VLAN_INFO = 2;
    IFLA_BRIDGE_VLAN_TUNNEL_INFO = 3;
    BRIDGE_VLANDB_ENTRY = 1;
    BRIDGE_VLANDB_GLOBAL_OPTIONS = 2;
    BRIDGE_VLANDB_ENTRY_INFO = 1;
    BRIDGE_VLANDB_ENTRY_RANGE = 2;
    BRIDGE_VLANDB_ENTRY_STATE = 3;
    BRIDGE_VLANDB_DUMP_FLAGS = 1;
}

constants! {
    /// For whom IFLA_BRIDGE_FLAGS says that a request is, and what is said of a VLAN.
    u16:
    BRIDGE_FLAGS_MASTER = 1;
    BRIDGE_FLAGS_SELF = 2;
    BRIDGE_VLAN_INFO_MASTER = 0x01;
    BRIDGE_VLAN_INFO_PVID = 0x02;
    BRIDGE_VLAN_INFO_UNTAGGED = 0x04;
    BRIDGE_VLAN_INFO_RANGE_BEGIN = 0x08;
    BRIDGE_VLAN_INFO_RANGE_END = 0x10;
    BRIDGE_VLAN_INFO_ONLY_OPTS = 0x40;
}

constants! {
    /// What a listing of VLANs shall have in it besides.
    u32:
    BRIDGE_VLANDB_DUMPF_STATS = 1;
    BRIDGE_VLANDB_DUMPF_GLOBAL = 2;
}

constants! {
    /// States of a bridge's port.
    u8:
    BR_STATE_DISABLED = 0;
    BR_STATE_LISTENING = 1;
    BR_STATE_LEARNING = 2;
    BR_STATE_FORWARDING = 3;
    BR_STATE_BLOCKING = 4;
}

constants! {
    /// Attributes in IFLA_INFO_DATA of a VLAN, and in the nests of its maps.
    u16:
    IFLA_VLAN_ID = 1;
    IFLA_VLAN_FLAGS = 2;
    IFLA_VLAN_EGRESS_QOS = 3;
    IFLA_VLAN_INGRESS_QOS = 4;
    IFLA_VLAN_PROTOCOL = 5;
    IFLA_VLAN_QOS_MAPPING = 1;
}

constants! {
    /// Flags of a VLAN.
    u32:
    VLAN_FLAG_REORDER_HDR = 1;
    VLAN_FLAG_GVRP = 2;
    VLAN_FLAG_LOOSE_BINDING = 4;
    VLAN_FLAG_MVRP = 8;
    VLAN_FLAG_BRIDGE_BINDING = 16;
}

constants! {
    /// Numbers of protocols in Ethernet headers.
    u16:
    ETH_P_8021Q = 0x8100;
    ETH_P_8021AD = 0x88a8;
}

constants! {
    /// Attributes in IFLA_INFO_DATA of a macvlan.
    u16:
    IFLA_MACVLAN_MODE = 1;
    IFLA_MACVLAN_FLAGS = 2;
    IFLA_MACVLAN_MACADDR_MODE = 3;
    IFLA_MACVLAN_MACADDR = 4;
    IFLA_MACVLAN_MACADDR_DATA = 5;
    IFLA_MACVLAN_MACADDR_COUNT = 6;
    IFLA_MACVLAN_BC_QUEUE_LEN = 7;
    IFLA_MACVLAN_BC_QUEUE_LEN_USED = 8;
    IFLA_MACVLAN_BC_CUTOFF = 9;
}

constants! {
    /// Modes of a macvlan.
    u32:
    MACVLAN_MODE_PRIVATE = 1;
    MACVLAN_MODE_VEPA = 2;
    MACVLAN_MODE_BRIDGE = 4;
    MACVLAN_MODE_PASSTHRU = 8;
    MACVLAN_MODE_SOURCE = 16;
}

abi_struct! {
    /// One VLAN, or an end of a range (`struct bridge_vlan_info`).
    pub struct BridgeVlan: 4 {
        /// `BRIDGE_VLAN_INFO_*`.
        pub flags: u16,
        /// Its number.
        pub vid: u16,
    }
}

abi_struct! {
    /// What RTM_NEWVLAN and its like begin with (`struct br_vlan_msg`).
    pub struct BridgeVlanMessage: 8 {
        /// `AF_BRIDGE`.
        pub family: u8,
        /// Nothing.
        pub reserved1: u8,
        /// Nothing.
        pub reserved2: u16,
        /// Which bridge or port.
        pub ifindex: u32,
    }
}

abi_struct! {
    /// Flags with which of them are meant (`struct ifla_vlan_flags`, `struct br_boolopt_multi`).
    pub struct MaskedFlags: 8 {
        /// The flags.
        pub flags: u32,
        /// The meant ones.
        pub mask: u32,
    }
}

abi_struct! {
    /// One rule of a VLAN's map (`struct ifla_vlan_qos_mapping`).
    pub struct PriorityMapping: 8 {
        /// From.
        pub from: u32,
        /// To.
        pub to: u32,
    }
}
