//! Ids of network namespaces: which number a namespace (the *holder*) knows another (the *peer*) by.
//!
//! Each namespace has two [`Sides`]. The forward side has the ids it gave: found by number and by peer. The reverse side
//! has who gave it one, and which. An id (an edge from holder to peer) is a place in the forward side's table and one node, which
//! is in the reverse side first and tells of the id's end last. All memory is taken before any lock, so that neither
//! giving nor removing an id allocates under one.
//!
//! Removing what concerns a set D of dying namespaces ([`clean()`]) looks at the edges into D and out of D and at nothing
//! else, however many namespaces and ids there are. [`edges_visited`] counts them, and the tests hold it to that.
//!
//! Everything is written over the traits [`Holder`] and [`Lock`], so that the same code runs in the kernel, against a model
//! (`tests`) and in every interleaving of two or three threads (`loom_tests`).
//!
//! Locks, in order: a holder's delivery (may sleep), a holder's forward side, a peer's reverse side. Never two forward
//! sides, never forward under reverse. No side is held while an event is delivered.

mod clean;
mod event;
#[cfg(test)]
mod loom_tests;
mod side;
#[cfg(test)]
mod tests;

pub use clean::clean;
pub use event::{Event, EventKind};
pub use side::{Sides, Wanted};

use abi::errno::Result;
use alloc::sync::Arc;
use machine::sync::atomic::{AtomicU64, Ordering};

/// A lock as this module needs one.
pub trait Lock<T>: Send + Sync {
    /// An open lock around a value.
    fn new(value: T) -> Self;
    /// Runs `section` with the lock held.
    fn with<R>(&self, section: impl FnOnce(&mut T) -> R) -> R;
}

/// A network namespace as this module sees it.
pub trait Holder: Sized + Send + Sync + 'static {
    /// The lock of a side: short sections that do not sleep.
    type Spin<T: Send>: Lock<T>;
    /// The lock of delivery: held while events are delivered.
    type Sleep: Lock<()>;
    /// What keeps a namespace alive.
    type Live;
    /// What an event says about the request behind it.
    type Origin: Copy + Send + Default;

    /// Its sides.
    fn sides(&self) -> &Sides<Self>;
    /// A number that no other has or will have.
    fn number(&self) -> u64;
    /// Keeps it alive; `None` once the last reference is gone.
    fn live(&self) -> Option<Self::Live>;
    /// Whether anyone would be told of a change now. Called under the forward side's lock: who begins to listen after that
    /// finds the change made. Does not sleep.
    fn is_heard(&self, origin: &Self::Origin) -> bool;
    /// Tells its listeners. May sleep. Called in the order of the changes.
    fn deliver(&self, event: &Event<Self::Origin>);
}

static EDGES_VISITED: AtomicU64 = AtomicU64::new(0);

/// How many edges [`clean()`] has looked at since boot: what cleaning costs.
pub fn edges_visited() -> u64 {
    EDGES_VISITED.load(Ordering::Relaxed)
}

/// The id that `holder` has for `peer`, given now if there is none: the lowest that is free. `None` if one of them is
/// dying. `ENOMEM`, `ENOSPC`. May sleep.
pub fn get_or_allocate<N: Holder>(holder: &Arc<N>, peer: &Arc<N>) -> Result<Option<i32>> {
    use abi::errno::Errno;
    if let Some(id) = holder.sides().id_of(peer) {
        return Ok(Some(id));
    }
    match side::allocate(holder, peer, Wanted::Lowest, N::Origin::default()) {
        Ok(id) => Ok(Some(id)),
        // Someone else was faster, or the peer (or the holder) went.
        Err(Errno::EEXIST) => Ok(holder.sides().id_of(peer)),
        Err(Errno::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives `peer` an id in `holder` and tells the listeners. May sleep.
///
/// # Errors
/// `EEXIST`: it has one, or the id is taken; `ESRCH`: one of the two is dying; `ENOSPC`: no id is free; `ENOMEM`.
pub fn allocate<N: Holder>(holder: &Arc<N>, peer: &Arc<N>, wanted: Wanted, origin: N::Origin) -> Result<i32> {
    side::allocate(holder, peer, wanted, origin)
}
