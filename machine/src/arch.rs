//! What differs between processors: one backend per architecture, chosen at compile time.
//!
//! Nothing outside this crate uses it. The interface that every backend gives is written in `arch/README.md`.

#[cfg(target_os = "none")]
pub(crate) mod x86_64;
#[cfg(target_os = "none")]
pub(crate) use x86_64::*;

#[cfg(not(target_os = "none"))]
pub(crate) mod host;
#[cfg(not(target_os = "none"))]
pub(crate) use host::*;

#[cfg(all(test, not(target_os = "none")))]
#[path = "arch/x86_64/features.rs"]
mod features;
#[cfg(all(test, target_arch = "x86_64", not(target_os = "none")))]
#[path = "arch/x86_64/string_tests.rs"]
mod string_tests;
