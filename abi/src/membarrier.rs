//! `membarrier` commands.

/// Which commands are supported.
pub const MEMBARRIER_CMD_QUERY: u32 = 0;
/// A barrier on every running thread.
pub const MEMBARRIER_CMD_GLOBAL: u32 = 1 << 0;
/// Fast, for registered processes.
pub const MEMBARRIER_CMD_GLOBAL_EXPEDITED: u32 = 1 << 1;
/// Registers for it.
pub const MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED: u32 = 1 << 2;
/// Fast, this process only.
pub const MEMBARRIER_CMD_PRIVATE_EXPEDITED: u32 = 1 << 3;
/// Registers for it.
pub const MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED: u32 = 1 << 4;
/// With core serialisation.
pub const MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE: u32 = 1 << 5;
/// Registers for it.
pub const MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: u32 = 1 << 6;
/// Restarts restartable sequences.
pub const MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ: u32 = 1 << 7;
/// Registers for it.
pub const MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ: u32 = 1 << 8;
/// What this process registered for.
pub const MEMBARRIER_CMD_GET_REGISTRATIONS: u32 = 1 << 9;
/// Only the CPU in the third argument.
pub const MEMBARRIER_CMD_FLAG_CPU: u32 = 1 << 0;
