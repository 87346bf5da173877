//! Power-off, reboot and the exit status that QEMU hands to its caller.

use crate::arch;

/// The right to stop the machine; minted once at boot for `image`, which lends it to who may use it.
#[derive(Debug)]
pub struct PowerToken {
    _private: (),
}

impl PowerToken {
    /// The one token: `Some` at the first call.
    pub fn mint() -> Option<PowerToken> {
        use core::sync::atomic::{AtomicBool, Ordering};
        static MINTED: AtomicBool = AtomicBool::new(false);
        (!MINTED.swap(true, Ordering::Relaxed)).then_some(PowerToken { _private: () })
    }
}

/// Switches the machine off (ACPI S5).
pub fn off(token: &PowerToken) -> ! {
    let _ = token;
    arch::power_off()
}

/// Resets the machine.
pub fn reboot(token: &PowerToken) -> ! {
    let _ = token;
    arch::reboot()
}

/// Ends QEMU with status `2 × status + 1` through its `isa-debug-exit` device; without the device, powers off. 0x32 is
/// what a panic writes.
pub fn exit_status(token: &PowerToken, status: u8) -> ! {
    let _ = token;
    arch::debug_exit(status);
    arch::power_off()
}
