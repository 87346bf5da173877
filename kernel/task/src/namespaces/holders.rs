//! IPC and control-group namespaces: objects that other subsystems hang their state on.
//!
//! Key types: [`IpcNamespace`] (ipc_namespaces(7); its objects are `ipc`'s), [`CgroupNamespace`] (cgroup_namespaces(7); no
//! hierarchy of control groups is there yet, so `/proc/PID/cgroup` is empty in each). Locks: none.

use alloc::sync::Arc;
use machine::sync::Lazy;
use security::{NamespaceHead, NamespaceKind};

macro_rules! holder {
    ($name:ident, $kind:expr, $initial:ident, $content:ty, $what:literal) => {
        #[doc = $what]
        pub struct $name {
            head: NamespaceHead,
            content: $content,
        }

        static $initial: Lazy<Arc<$name>> = Lazy::new(|| $name::new(NamespaceHead::initial($kind)));

        impl $name {
            /// The first one.
            pub fn initial() -> &'static Arc<$name> {
                &$initial
            }

            pub(crate) fn new(head: NamespaceHead) -> Arc<$name> {
                Arc::new($name { head, content: Default::default() })
            }

            /// Kind, number and owner.
            pub fn head(&self) -> &NamespaceHead {
                &self.head
            }

            /// What it holds.
            pub fn content(&self) -> &$content {
                &self.content
            }
        }
    };
}

holder!(
    IpcNamespace,
    NamespaceKind::Ipc,
    INITIAL_IPC,
    ipc::sysv::Objects,
    "Where IPC objects have their names."
);
holder!(
    CgroupNamespace,
    NamespaceKind::Cgroup,
    INITIAL_CGROUP,
    (),
    "Which control group is shown as the root."
);
