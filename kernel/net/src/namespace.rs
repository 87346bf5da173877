//! A network namespace: the root of all network state (network_namespaces(7)).
//!
//! Key type: [`NetNamespace`]. Nothing in this crate is global that Linux has per namespace. State is built when it is
//! first used, so that a namespace with nothing but a loopback device costs no more. Sockets, tasks, nsfs files and open
//! `/proc/PID/net` files hold an `Arc`; devices and ids do not.
//! Locks: each part says its own.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use machine::memory::try_arc;
use machine::sync::atomic::{AtomicU64, Ordering};
use machine::sync::{Lazy, Once};
use security::{NamespaceHead, UserNamespace};

/// `SO_NETNS_COOKIE` of the initial namespace; the others count up from it.
const FIRST_COOKIE: u64 = 1;

static NEXT_COOKIE: AtomicU64 = AtomicU64::new(FIRST_COOKIE);
static INITIAL: Lazy<Arc<NetNamespace>> =
    Lazy::new(|| Arc::new(NetNamespace::new(security::initial_namespace().clone())));

/// A network namespace.
pub struct NetNamespace {
    cookie: u64,
    owner: Arc<UserNamespace>,
    /// What it has in common with other kinds; set by who makes it known to programs.
    head: Once<NamespaceHead>,
}

impl NetNamespace {
    fn new(owner: Arc<UserNamespace>) -> NetNamespace {
        NetNamespace { cookie: NEXT_COOKIE.fetch_add(1, Ordering::Relaxed), owner, head: Once::new() }
    }

    /// The one the machine starts in.
    pub fn initial() -> &'static Arc<NetNamespace> {
        &INITIAL
    }

    /// A new one, owned by `owner`; the caller has checked CAP_SYS_ADMIN there and the limit. `ENOMEM`.
    pub fn create(owner: &Arc<UserNamespace>) -> Result<Arc<NetNamespace>> {
        try_arc(NetNamespace::new(owner.clone())).map_err(|_| Errno::ENOMEM)
    }

    /// The user namespace whose administrators administrate it.
    pub fn owner(&self) -> &Arc<UserNamespace> {
        &self.owner
    }

    /// Gives it its kind, number and owner as programs see them; only the first counts.
    pub fn identify(&self, head: NamespaceHead) {
        let _ = self.head.set(head);
    }

    /// Kind, number and owner, once it is known to programs.
    pub fn head(&self) -> Option<&NamespaceHead> {
        self.head.get()
    }

    /// A number that no other has or will have (`SO_NETNS_COOKIE`).
    pub fn cookie(&self) -> u64 {
        self.cookie
    }
}
