//! `prctl` and `arch_prctl` operations.

pub use linux_raw_sys::prctl::{
    PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, PR_CAP_AMBIENT_IS_SET, PR_CAP_AMBIENT_LOWER,
    PR_CAP_AMBIENT_RAISE, PR_CAPBSET_DROP, PR_CAPBSET_READ, PR_ENDIAN_BIG, PR_ENDIAN_LITTLE,
    PR_ENDIAN_PPC_LITTLE, PR_FP_EXC_ASYNC, PR_FP_EXC_DISABLED, PR_FP_EXC_DIV, PR_FP_EXC_INV,
    PR_FP_EXC_NONRECOV, PR_FP_EXC_OVF, PR_FP_EXC_PRECISE, PR_FP_EXC_RES, PR_FP_EXC_SW_ENABLE, PR_FP_EXC_UND,
    PR_FP_MODE_FR, PR_FP_MODE_FRE, PR_FPEMU_NOPRINT, PR_FPEMU_SIGFPE, PR_FUTEX_HASH, PR_FUTEX_HASH_GET_SLOTS,
    PR_FUTEX_HASH_SET_SLOTS, PR_GET_AUXV, PR_GET_CHILD_SUBREAPER, PR_GET_DUMPABLE, PR_GET_ENDIAN,
    PR_GET_FP_MODE, PR_GET_FPEMU, PR_GET_FPEXC, PR_GET_IO_FLUSHER, PR_GET_KEEPCAPS, PR_GET_MDWE,
    PR_GET_MEMORY_MERGE, PR_GET_NAME, PR_GET_NO_NEW_PRIVS, PR_GET_PDEATHSIG, PR_GET_SECCOMP,
    PR_GET_SECUREBITS, PR_GET_SHADOW_STACK_STATUS, PR_GET_SPECULATION_CTRL, PR_GET_TAGGED_ADDR_CTRL,
    PR_GET_THP_DISABLE, PR_GET_TID_ADDRESS, PR_GET_TIMERSLACK, PR_GET_TIMING, PR_GET_TSC, PR_GET_UNALIGN,
    PR_LOCK_SHADOW_STACK_STATUS, PR_MCE_KILL, PR_MCE_KILL_CLEAR, PR_MCE_KILL_DEFAULT, PR_MCE_KILL_EARLY,
    PR_MCE_KILL_GET, PR_MCE_KILL_LATE, PR_MCE_KILL_SET, PR_MDWE_NO_INHERIT, PR_MDWE_REFUSE_EXEC_GAIN,
    PR_PMLEN_MASK, PR_PMLEN_SHIFT, PR_SCHED_CORE, PR_SCHED_CORE_CREATE, PR_SCHED_CORE_GET, PR_SCHED_CORE_MAX,
    PR_SCHED_CORE_SCOPE_PROCESS_GROUP, PR_SCHED_CORE_SCOPE_THREAD, PR_SCHED_CORE_SCOPE_THREAD_GROUP,
    PR_SCHED_CORE_SHARE_FROM, PR_SCHED_CORE_SHARE_TO, PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE, PR_SET_ENDIAN,
    PR_SET_FP_MODE, PR_SET_FPEMU, PR_SET_FPEXC, PR_SET_IO_FLUSHER, PR_SET_KEEPCAPS, PR_SET_MDWE,
    PR_SET_MEMORY_MERGE, PR_SET_MM, PR_SET_MM_ARG_END, PR_SET_MM_ARG_START, PR_SET_MM_AUXV, PR_SET_MM_BRK,
    PR_SET_MM_END_CODE, PR_SET_MM_END_DATA, PR_SET_MM_ENV_END, PR_SET_MM_ENV_START, PR_SET_MM_EXE_FILE,
    PR_SET_MM_MAP, PR_SET_MM_MAP_SIZE, PR_SET_MM_START_BRK, PR_SET_MM_START_CODE, PR_SET_MM_START_DATA,
    PR_SET_MM_START_STACK, PR_SET_NAME, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, PR_SET_PTRACER,
    PR_SET_SECCOMP, PR_SET_SECUREBITS, PR_SET_SHADOW_STACK_STATUS, PR_SET_SPECULATION_CTRL,
    PR_SET_SYSCALL_USER_DISPATCH, PR_SET_TAGGED_ADDR_CTRL, PR_SET_THP_DISABLE, PR_SET_TIMERSLACK,
    PR_SET_TIMING, PR_SET_TSC, PR_SET_UNALIGN, PR_SET_VMA, PR_SET_VMA_ANON_NAME, PR_SHADOW_STACK_ENABLE,
    PR_SHADOW_STACK_PUSH, PR_SHADOW_STACK_WRITE, PR_SPEC_DISABLE, PR_SPEC_DISABLE_NOEXEC, PR_SPEC_ENABLE,
    PR_SPEC_FORCE_DISABLE, PR_SPEC_INDIRECT_BRANCH, PR_SPEC_L1D_FLUSH, PR_SPEC_NOT_AFFECTED, PR_SPEC_PRCTL,
    PR_SPEC_STORE_BYPASS, PR_SYS_DISPATCH_EXCLUSIVE_ON, PR_SYS_DISPATCH_INCLUSIVE_ON, PR_SYS_DISPATCH_OFF,
    PR_SYS_DISPATCH_ON, PR_TAGGED_ADDR_ENABLE, PR_TASK_PERF_EVENTS_DISABLE, PR_TASK_PERF_EVENTS_ENABLE,
    PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_GET, PR_TIMER_CREATE_RESTORE_IDS_OFF,
    PR_TIMER_CREATE_RESTORE_IDS_ON, PR_TIMING_STATISTICAL, PR_TIMING_TIMESTAMP, PR_TSC_ENABLE,
    PR_TSC_SIGSEGV, PR_UNALIGN_NOPRINT, PR_UNALIGN_SIGBUS,
};

/// `arch_prctl`: set the GS base.
pub const ARCH_SET_GS: u32 = 0x1001;
/// `arch_prctl`: set the FS base.
pub const ARCH_SET_FS: u32 = 0x1002;
/// `arch_prctl`: get the FS base.
pub const ARCH_GET_FS: u32 = 0x1003;
/// `arch_prctl`: get the GS base.
pub const ARCH_GET_GS: u32 = 0x1004;
/// `arch_prctl`: is CPUID allowed?
pub const ARCH_GET_CPUID: u32 = 0x1011;
/// `arch_prctl`: allow or forbid CPUID.
pub const ARCH_SET_CPUID: u32 = 0x1012;
/// `arch_prctl`: extended state components the kernel supports.
pub const ARCH_GET_XCOMP_SUPP: u32 = 0x1021;
/// `arch_prctl`: extended state components this process may use.
pub const ARCH_GET_XCOMP_PERM: u32 = 0x1022;
/// `arch_prctl`: ask for an extended state component.
pub const ARCH_REQ_XCOMP_PERM: u32 = 0x1023;
/// `arch_prctl`: the same for guests.
pub const ARCH_GET_XCOMP_GUEST_PERM: u32 = 0x1024;
/// `arch_prctl`: the same for guests.
pub const ARCH_REQ_XCOMP_GUEST_PERM: u32 = 0x1025;
/// `arch_prctl`: switch a part of the shadow stack on.
pub const ARCH_SHSTK_ENABLE: u32 = 0x5001;
/// `arch_prctl`: switch it off.
pub const ARCH_SHSTK_DISABLE: u32 = 0x5002;
/// `arch_prctl`: which parts are on.
pub const ARCH_SHSTK_STATUS: u32 = 0x5005;
/// `arch_prctl`: map the 64-bit vDSO.
pub const ARCH_MAP_VDSO_64: u32 = 0x2003;

abi_struct! {
    /// `struct prctl_mm_map` of `PR_SET_MM_MAP`.
    pub struct PrctlMmMap: 104 {
        /// Start of the code.
        pub start_code: u64,
        /// End of the code.
        pub end_code: u64,
        /// Start of the data.
        pub start_data: u64,
        /// End of the data.
        pub end_data: u64,
        /// Start of the heap.
        pub start_brk: u64,
        /// End of the heap.
        pub brk: u64,
        /// Start of the stack.
        pub start_stack: u64,
        /// Start of the arguments.
        pub arg_start: u64,
        /// End of the arguments.
        pub arg_end: u64,
        /// Start of the environment.
        pub env_start: u64,
        /// End of the environment.
        pub env_end: u64,
        /// Address of the auxiliary vector.
        pub auxv: u64,
        /// Its size, bytes.
        pub auxv_size: u32,
        /// Descriptor of `/proc/self/exe`.
        pub exe_fd: u32,
    }
}
