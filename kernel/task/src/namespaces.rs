//! The namespaces of a task: one shared set, replaced as a whole by unshare(2) and setns(2).
//!
//! Key types: [`Namespaces`] (Linux's `nsproxy`), [`UtsNamespace`]. The user namespace is in the credentials. Mounts,
//! pids and host names are real; IPC, network, cgroup and time namespaces join this set with their subsystems.
//! A `UtsNamespace` has one leaf spinlock.

use crate::pid::{self, PidNamespace};
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use machine::sync::{Lazy, SpinLock};
use security::UserNamespace;
use vfs::MountNamespace;

/// Longest host or domain name (`__NEW_UTS_LEN`).
pub const NAME_MAX: usize = 64;

/// A host or domain name.
pub type Name = ArrayVec<u8, NAME_MAX>;

/// Host and domain name (uts_namespaces(7)).
pub struct UtsNamespace {
    names: SpinLock<Names>,
    owner: Arc<UserNamespace>,
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
    Arc::new(UtsNamespace { names: SpinLock::new(names), owner: security::initial_namespace().clone() })
});

impl UtsNamespace {
    /// The first one.
    pub fn initial() -> &'static Arc<UtsNamespace> {
        &INITIAL_UTS
    }

    /// The user namespace whose administrators may change the names.
    pub fn owner(&self) -> &Arc<UserNamespace> {
        &self.owner
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

/// The set of namespaces a task is in.
#[derive(Clone)]
pub struct Namespaces {
    /// Mounts.
    pub mount: Arc<MountNamespace>,
    /// Process ids of the children it will make.
    pub pid_for_children: Arc<PidNamespace>,
    /// Host name.
    pub uts: Arc<UtsNamespace>,
}

impl Namespaces {
    /// The first set, with these mounts.
    pub fn initial(mount: Arc<MountNamespace>) -> Namespaces {
        Namespaces { mount, pid_for_children: pid::root().clone(), uts: UtsNamespace::initial().clone() }
    }
}
