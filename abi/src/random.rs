//! `getrandom` flags.

pub use linux_raw_sys::general::{GRND_INSECURE, GRND_NONBLOCK, GRND_RANDOM};

use bitflags::bitflags;

bitflags! {
    /// Flags of `getrandom(2)`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct GetrandomFlags: u32 {
        /// Do not block.
        const NONBLOCK = GRND_NONBLOCK;
        /// From the blocking pool (today the same).
        const RANDOM = GRND_RANDOM;
        /// Even before the generator is seeded.
        const INSECURE = GRND_INSECURE;
    }
}
