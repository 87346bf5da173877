//! inotify masks and event structure.

pub use linux_raw_sys::general::{
    IN_ACCESS, IN_ALL_EVENTS, IN_ATTRIB, IN_CLOEXEC, IN_CLOSE, IN_CLOSE_NOWRITE, IN_CLOSE_WRITE, IN_CREATE,
    IN_DELETE, IN_DELETE_SELF, IN_DONT_FOLLOW, IN_EXCL_UNLINK, IN_IGNORED, IN_ISDIR, IN_MASK_ADD,
    IN_MASK_CREATE, IN_MODIFY, IN_MOVE, IN_MOVE_SELF, IN_MOVED_FROM, IN_MOVED_TO, IN_NONBLOCK, IN_ONESHOT,
    IN_ONLYDIR, IN_OPEN, IN_Q_OVERFLOW, IN_UNMOUNT,
};

abi_struct! {
    /// `struct inotify_event`; `len` bytes of name follow.
    pub struct InotifyEvent: 16 {
        /// Watch.
        pub wd: i32,
        /// `IN_*`.
        pub mask: u32,
        /// Joins the two halves of a rename.
        pub cookie: u32,
        /// Length of the name with its NULs.
        pub len: u32,
    }
}
