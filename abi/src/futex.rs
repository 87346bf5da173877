//! Futexes: operations, flags, robust lists.

pub use linux_raw_sys::general::{
    FUTEX_32, FUTEX_BITSET_MATCH_ANY, FUTEX_CLOCK_REALTIME, FUTEX_CMD_MASK, FUTEX_CMP_REQUEUE,
    FUTEX_CMP_REQUEUE_PI, FUTEX_CMP_REQUEUE_PI_PRIVATE, FUTEX_CMP_REQUEUE_PRIVATE, FUTEX_FD, FUTEX_LOCK_PI,
    FUTEX_LOCK_PI_PRIVATE, FUTEX_LOCK_PI2, FUTEX_LOCK_PI2_PRIVATE, FUTEX_NO_NODE, FUTEX_OP_ADD,
    FUTEX_OP_ANDN, FUTEX_OP_CMP_EQ, FUTEX_OP_CMP_GE, FUTEX_OP_CMP_GT, FUTEX_OP_CMP_LE, FUTEX_OP_CMP_LT,
    FUTEX_OP_CMP_NE, FUTEX_OP_OPARG_SHIFT, FUTEX_OP_OR, FUTEX_OP_SET, FUTEX_OP_XOR, FUTEX_OWNER_DIED,
    FUTEX_PRIVATE_FLAG, FUTEX_REQUEUE, FUTEX_REQUEUE_PRIVATE, FUTEX_TID_MASK, FUTEX_TRYLOCK_PI,
    FUTEX_TRYLOCK_PI_PRIVATE, FUTEX_UNLOCK_PI, FUTEX_UNLOCK_PI_PRIVATE, FUTEX_WAIT, FUTEX_WAIT_BITSET,
    FUTEX_WAIT_BITSET_PRIVATE, FUTEX_WAIT_PRIVATE, FUTEX_WAIT_REQUEUE_PI, FUTEX_WAIT_REQUEUE_PI_PRIVATE,
    FUTEX_WAITERS, FUTEX_WAITV_MAX, FUTEX_WAKE, FUTEX_WAKE_BITSET, FUTEX_WAKE_BITSET_PRIVATE, FUTEX_WAKE_OP,
    FUTEX_WAKE_OP_PRIVATE, FUTEX_WAKE_PRIVATE, FUTEX2_MPOL, FUTEX2_NUMA, FUTEX2_PRIVATE, FUTEX2_SIZE_MASK,
    FUTEX2_SIZE_U8, FUTEX2_SIZE_U16, FUTEX2_SIZE_U32, FUTEX2_SIZE_U64, ROBUST_LIST_LIMIT,
};

abi_struct! {
    /// `struct futex_waitv`.
    pub struct FutexWaitv: 24 {
        /// Expected value.
        pub val: u64,
        /// Address.
        pub uaddr: u64,
        /// `FUTEX2_*`.
        pub flags: u32,
        /// Reserved, zero.
        pub reserved: u32,
    }
}

abi_struct! {
    /// `struct robust_list_head`; the pointers are user addresses.
    pub struct RobustListHead: 24 {
        /// First entry; the head's own address if empty.
        pub list: u64,
        /// From an entry to its futex word.
        pub futex_offset: i64,
        /// Entry being added or removed; bit 0 says PI.
        pub list_op_pending: u64,
    }
}
