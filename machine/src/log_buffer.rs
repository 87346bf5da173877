//! The kernel's log: records in a ring, in order, for `dmesg` and `/dev/kmsg`; the `log` facade writes here.
//!
//! Any context may write. Old records are overwritten.

use alloc::string::String;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Number of the record, from 0, without gaps.
    pub sequence: u64,
    /// When it was written ([`crate::time::now_ns`]).
    pub time_ns: u64,
    /// Severity as in `syslog(3)`: 0 emergency to 7 debug.
    pub level: u8,
    /// The text, without a newline.
    pub text: String,
}

/// The oldest record with a number of at least `sequence`, or `None` if there is none yet. Its number is larger than
/// asked when records were lost.
pub fn read(sequence: u64) -> Option<Record> {
    let _ = sequence;
    todo!()
}

/// The number that the next record will have.
pub fn next_sequence() -> u64 {
    todo!()
}

/// Adds a record (from user space through `/dev/kmsg`, or the kernel); long text is cut.
pub fn write(level: u8, text: &str) {
    let _ = (level, text);
    todo!()
}

/// Records with a level below this go to the console too (`dmesg -n`). The default is 7, or as `loglevel=` says.
pub fn set_console_level(level: u8) {
    let _ = level;
    todo!()
}

/// See [`set_console_level`].
pub fn console_level() -> u8 {
    todo!()
}

/// Makes the `log` crate write here. Called once by early boot; harmless again.
pub fn init() {
    todo!()
}

/// Called with nothing but the fact that there is a new record (any context, irqs possibly off): wakes `/dev/kmsg`.
pub fn set_notify(notify: fn()) {
    let _ = notify;
    todo!()
}
