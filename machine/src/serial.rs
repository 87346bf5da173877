//! The serial ports, for terminal drivers: buffered output, input by callback.
//!
//! Key types: [`SerialPort`], [`SerialHandler`]. The first port is also the early console ([`crate::console`]), which
//! writes past the buffer. Any context; handlers run in interrupt context.

use crate::arch;
use crate::sync::Once;

/// A serial port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SerialPort {
    /// ttyS0, the console.
    First,
    /// ttyS1.
    Second,
}

/// Who gets a port's events. Interrupt context: must not sleep.
pub trait SerialHandler: Send + Sync {
    /// Bytes have come in.
    fn received(&self, bytes: &[u8]);
    /// The output buffer has room again (it is at most half full after having been fuller).
    fn has_room(&self);
}

static HANDLERS: [Once<&'static dyn SerialHandler>; 2] = [const { Once::new() }; 2];

impl SerialPort {
    /// Both ports.
    pub const ALL: [SerialPort; 2] = [SerialPort::First, SerialPort::Second];

    /// Whether the machine has it.
    pub fn is_present(self) -> bool {
        arch::serial_is_present(self)
    }

    /// Queues bytes for output; gives how many fitted.
    pub fn write(self, bytes: &[u8]) -> usize {
        arch::serial_write(self, bytes)
    }

    /// Bytes that are queued and have not left yet (`TIOCOUTQ`).
    pub fn queued(self) -> usize {
        arch::serial_queued(self)
    }

    /// Throws away what is queued (`TCOFLUSH`).
    pub fn discard_output(self) {
        arch::serial_discard(self);
    }

    /// Sets who gets the port's events; once per port (`false`: there is one already).
    pub fn set_handler(self, handler: &'static dyn SerialHandler) -> bool {
        HANDLERS[self as usize].set(handler).is_ok()
    }
}

/// The backend has input.
#[cfg(target_os = "none")]
pub(crate) fn received(port: SerialPort, bytes: &[u8]) {
    if let Some(handler) = HANDLERS[port as usize].get() {
        handler.received(bytes);
    } else if port == SerialPort::First {
        bytes.iter().for_each(|&byte| crate::hooks::serial_input(byte));
    }
}

/// The backend has room again.
#[cfg(target_os = "none")]
pub(crate) fn has_room(port: SerialPort) {
    if let Some(handler) = HANDLERS[port as usize].get() {
        handler.has_room();
    }
}
