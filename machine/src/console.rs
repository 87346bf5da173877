//! The early console: raw bytes out to the serial port (on the host: a buffer in memory).
//!
//! Any context. Lines of concurrent writers do not mix within one call.

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
