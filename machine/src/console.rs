//! The early console: raw bytes out to the serial port (on the host: a buffer in memory).
//!
//! Any context. Lines of concurrent writers do not mix within one call. What a panic says goes to other consoles too, if there are any
//! ([`set_last_words`]).

#[cfg(target_os = "none")]
use core::sync::atomic::{AtomicBool, Ordering};

use crate::sync::Once;

static LAST_WORDS: Once<fn(&[u8])> = Once::new();

/// Writes the bytes as they are. Works from any context, also in a panic.
pub fn write_bytes(bytes: &[u8]) {
    crate::arch::console_write(bytes);
}

/// Writes formatted text; see [`write_bytes`].
pub fn write_fmt(arguments: core::fmt::Arguments<'_>) {
    struct Writer;
    impl core::fmt::Write for Writer {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            write_bytes(text.as_bytes());
            Ok(())
        }
    }
    let _ = core::fmt::write(&mut Writer, arguments);
}

/// Sets what sends the words of a panic to other consoles; once. It is called with interrupts off and all other CPUs stopped, whatever locks they hold.
pub fn set_last_words(send: fn(&[u8])) -> bool {
    LAST_WORDS.set(send).is_ok()
}

/// Sends words of a panic to other consoles. A panic on that way is not sent there.
#[cfg(target_os = "none")]
pub(crate) fn last_words(bytes: &[u8]) {
    static SENDING: AtomicBool = AtomicBool::new(false);
    if let Some(send) = LAST_WORDS.get()
        && !SENDING.swap(true, Ordering::Relaxed)
    {
        send(bytes);
        SENDING.store(false, Ordering::Relaxed);
    }
}
