//! IPC and control-group namespaces: objects that other subsystems hang their state on.
//!
//! Key types: [`IpcNamespace`] (ipc_namespaces(7); there are no IPC objects yet), [`CgroupNamespace`] (cgroup_namespaces(7); no
//! hierarchy of control groups is there yet, so `/proc/PID/cgroup` is empty in each). Locks: none.

use alloc::sync::Arc;
use machine::sync::Lazy;
use security::{NamespaceHead, NamespaceKind};

macro_rules! holder {
    ($name:ident, $kind:expr, $initial:ident, $what:literal) => {
        #[doc = $what]
        pub struct $name {
            head: NamespaceHead,
        }

        static $initial: Lazy<Arc<$name>> =
            Lazy::new(|| Arc::new($name { head: NamespaceHead::initial($kind) }));

        impl $name {
            /// The first one.
            pub fn initial() -> &'static Arc<$name> {
                &$initial
            }

            pub(crate) fn new(head: NamespaceHead) -> Arc<$name> {
                Arc::new($name { head })
            }

            /// Kind, number and owner.
            pub fn head(&self) -> &NamespaceHead {
                &self.head
            }
        }
    };
}

holder!(IpcNamespace, NamespaceKind::Ipc, INITIAL_IPC, "Where IPC objects have their names.");
holder!(CgroupNamespace, NamespaceKind::Cgroup, INITIAL_CGROUP, "Which control group is shown as the root.");
