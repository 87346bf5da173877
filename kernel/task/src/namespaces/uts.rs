//! Host and domain names (uts_namespaces(7)).
//!
//! Key type: [`UtsNamespace`]. Locks: one leaf spinlock.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use machine::sync::{Lazy, SpinLock};
use security::{NamespaceHead, NamespaceKind, UserNamespace};

/// Longest host or domain name (`__NEW_UTS_LEN`).
pub const NAME_MAX: usize = 64;

/// A host or domain name.
pub type Name = ArrayVec<u8, NAME_MAX>;

/// Host and domain name (uts_namespaces(7)).
pub struct UtsNamespace {
    head: NamespaceHead,
    names: SpinLock<Names>,
}

#[derive(Clone, Default)]
struct Names {
    host: Name,
    domain: Name,
}

static INITIAL_UTS: Lazy<Arc<UtsNamespace>> = Lazy::new(|| {
    let mut names = Names::default();
    let _ = names.host.try_extend_from_slice(b"(none)");
    let _ = names.domain.try_extend_from_slice(b"(none)");
    Arc::new(UtsNamespace { head: NamespaceHead::initial(NamespaceKind::Uts), names: SpinLock::new(names) })
});

impl UtsNamespace {
    /// The first one.
    pub fn initial() -> &'static Arc<UtsNamespace> {
        &INITIAL_UTS
    }

    /// A copy with the same names.
    pub(crate) fn copy(&self, head: NamespaceHead) -> Arc<UtsNamespace> {
        Arc::new(UtsNamespace { head, names: SpinLock::new(self.names.lock().clone()) })
    }

    /// Kind, number and owner.
    pub fn head(&self) -> &NamespaceHead {
        &self.head
    }

    /// The user namespace whose administrators may change the names.
    pub fn owner(&self) -> &Arc<UserNamespace> {
        self.head.owner()
    }

    /// The host name.
    pub fn host_name(&self) -> Name {
        self.names.lock().host.clone()
    }

    /// The NIS domain name.
    pub fn domain_name(&self) -> Name {
        self.names.lock().domain.clone()
    }

    /// Sets the host name. The caller has checked CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// EINVAL: too long.
    pub fn set_host_name(&self, name: &[u8]) -> Result<()> {
        let name = Name::try_from(name).map_err(|_| Errno::EINVAL)?;
        self.names.lock().host = name;
        Ok(())
    }

    /// Sets the domain name. The caller has checked CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// EINVAL: too long.
    pub fn set_domain_name(&self, name: &[u8]) -> Result<()> {
        let name = Name::try_from(name).map_err(|_| Errno::EINVAL)?;
        self.names.lock().domain = name;
        Ok(())
    }
}
