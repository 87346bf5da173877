//! Power-off, reboot and the exit status that QEMU hands to its caller.

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
    todo!()
}

/// Resets the machine.
pub fn reboot(token: &PowerToken) -> ! {
    let _ = token;
    todo!()
}

/// Ends QEMU with this status through its `isa-debug-exit` device; without the device, powers off.
pub fn exit_status(token: &PowerToken, status: u8) -> ! {
    let _ = (token, status);
    todo!()
}
