//! What a path means to a process: its root, its working directory, its umask and its mounts.
//!
//! Key types: [`FsContext`] (shared by `CLONE_FS`), [`FsState`] (its contents, read under RCU by path walks).
//! Locks: one spin lock orders changes; readers take none.

use alloc::sync::Arc;
use core::ops::Deref;

use machine::sync::{RcuArc, RcuGuard, SpinLock};
use security::Credentials;

use crate::mount::MountNamespace;
use crate::path::Path;

/// The contents of an [`FsContext`]; immutable.
#[derive(Clone)]
pub struct FsState {
    /// Where paths that begin with a slash start.
    pub root: Path,
    /// Where the others start.
    pub working_directory: Path,
    /// Permission bits that new files do not get.
    pub umask: u32,
    /// The mounts one sees.
    pub namespace: Arc<MountNamespace>,
}

/// The contents of a context, which keep their directories' contents though those may be removed.
pub struct KeptState {
    state: FsState,
    holds: [bool; 2],
}

impl KeptState {
    fn new(state: FsState) -> Arc<KeptState> {
        // One that is removed just now is as empty as it will ever be.
        let holds = [&state.root, &state.working_directory]
            .map(|place| place.inode().is_ok_and(|inode| inode.hold().is_ok()));
        Arc::new(KeptState { state, holds })
    }
}

impl Deref for KeptState {
    type Target = FsState;
    fn deref(&self) -> &FsState {
        &self.state
    }
}

impl Drop for KeptState {
    /// Any context.
    fn drop(&mut self) {
        for (place, held) in [&self.state.root, &self.state.working_directory].into_iter().zip(self.holds) {
            if held && let Ok(inode) = place.inode() {
                inode.release();
            }
        }
    }
}

/// Root, working directory and umask, as tasks share them.
pub struct FsContext {
    state: RcuArc<KeptState>,
    changes: SpinLock<()>,
}

impl FsContext {
    /// A context with these contents.
    pub fn new(state: FsState) -> Arc<FsContext> {
        Arc::new(FsContext { state: RcuArc::new(Some(KeptState::new(state))), changes: SpinLock::new(()) })
    }

    /// A context of its own with the same contents (fork without `CLONE_FS`, `unshare`).
    pub fn fork(&self) -> Arc<FsContext> {
        Arc::new(FsContext { state: RcuArc::new(self.state.load_arc()), changes: SpinLock::new(()) })
    }

    /// The contents, as long as the guard lives.
    #[inline]
    pub fn load<'g>(&self, guard: &'g RcuGuard) -> Option<&'g FsState> {
        self.state.load(guard).map(|kept| &kept.state)
    }

    /// The contents, counted. (Never `None` between [`FsContext::new`] and the drop.)
    pub fn state(&self) -> Option<Arc<KeptState>> {
        self.state.load_arc()
    }

    /// Changes the contents.
    pub fn update(&self, change: impl FnOnce(&mut FsState)) {
        let _changes = self.changes.lock();
        if let Some(state) = self.state.load_arc() {
            let mut state = state.state.clone();
            change(&mut state);
            self.state.replace(Some(KeptState::new(state)));
        }
    }

    /// Puts `new` where `old` is root or working directory (pivot_root(2)).
    pub fn replace_place(&self, old: &Path, new: &Path) {
        let concerned =
            self.state().is_some_and(|state| state.root.is_same(old) || state.working_directory.is_same(old));
        if concerned {
            self.update(|state| {
                for place in [&mut state.root, &mut state.working_directory] {
                    if place.is_same(old) {
                        *place = new.clone();
                    }
                }
            });
        }
    }

    /// The umask.
    pub fn umask(&self) -> u32 {
        let guard = machine::sync::rcu::read_lock();
        self.load(&guard).map_or(0, |state| state.umask)
    }

    /// umask(2): gives the old one.
    pub fn set_umask(&self, umask: u32) -> u32 {
        let mut old = 0;
        self.update(|state| old = core::mem::replace(&mut state.umask, umask & 0o777));
        old
    }
}

/// On whose behalf a call on the file system is made.
#[derive(Clone, Copy)]
pub struct LookupContext<'a> {
    /// Root, working directory, umask.
    pub fs: &'a FsContext,
    /// Identity.
    pub credentials: &'a Arc<Credentials>,
}
