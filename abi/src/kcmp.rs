//! `kcmp` types.

/// Same open file?
pub const KCMP_FILE: u32 = 0;
/// Same address space?
pub const KCMP_VM: u32 = 1;
/// Same descriptor table?
pub const KCMP_FILES: u32 = 2;
/// Same root and working directory?
pub const KCMP_FS: u32 = 3;
/// Same signal handlers?
pub const KCMP_SIGHAND: u32 = 4;
/// Same I/O context?
pub const KCMP_IO: u32 = 5;
/// Same semaphore undo list?
pub const KCMP_SYSVSEM: u32 = 6;
/// Same file in an epoll set?
pub const KCMP_EPOLL_TFD: u32 = 7;
