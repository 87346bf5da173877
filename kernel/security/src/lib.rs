//! Who may do what: credentials, capabilities, user namespaces and the hooks of security modules.
//!
//! Key types: [`Credentials`] (immutable, shared by `Arc`, replaced as a whole), [`Capability`] and
//! [`CapabilitySet`], [`UserNamespace`] with its identifier maps, [`SecurityModule`].
//!
//! Everything that changes credentials is a pure function from the old ones to the new ones (modules
//! `identity`, `capability_rules`, `exec`), so that the rules of credentials(7), capabilities(7) and
//! user_namespaces(7) are tested without a running kernel. The caller (crate `task`) publishes the result.
//!
//! Locks: two leaf spinlocks of a user namespace (counts, setgroups); its maps are written once, the list of modules at boot.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod capability;
mod capability_rules;
mod credentials;
mod exec;
mod identity;
mod kinds;
mod lsm;
mod namespace;

pub use capability::{Capability, CapabilitySet};
pub use capability_rules::{
    AmbientChange, CapsetRequest, ambient_contains, change_ambient, drop_from_bounding, set_capabilities,
    set_keep_capabilities, set_no_new_privileges, set_secure_bits,
};
pub use credentials::{Credentials, SecureBits};
pub use exec::{ExecFile, ExecOutcome, FileCapabilities, exec_transition, parse_file_capabilities};
pub use identity::{
    NGROUPS_MAX, enter_user_namespace, set_effective_uid, set_fs_gid, set_fs_uid, set_gid, set_groups,
    set_real_effective_gid, set_real_effective_uid, set_res_gid, set_res_uid, set_uid,
};
pub use kinds::{NamespaceHead, NamespaceKind};
pub use lsm::{Access, SecurityModule, hook_check, register_modules};
pub use namespace::{
    IdMap, IdRange, Kgid, Kuid, OVERFLOW_ID, UserNamespace, capable, capable_anywhere_above,
    initial_namespace,
};
