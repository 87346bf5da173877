//! loom models: every interleaving, and every order that the memory model allows, of what the machine's locks are made of.
//!
//! The files of `machine/src/sync` that decide who waits and who is woken are compiled here once more, with loom's atomics:
//! the queued spin lock (`raw`), grace periods (`grace`), the words of wait queues and sleeping locks (`words`), `once`, and
//! where sleepers park (`slot`). Models of their users are in `queues`, `sleeping` and `values`.
//!
//! `cargo xtask test --host` runs them; by hand: `RUSTFLAGS="--cfg loom" cargo test -p linnet-loom --release
//! --target-dir target/loom`. Without `cfg(loom)` the crate is empty.

#![cfg(all(loom, test))]

extern crate alloc;

#[path = "../../src/sync"]
#[allow(dead_code)]
mod sync {
    pub mod atomic {
        pub use loom::sync::atomic::*;
    }
    pub mod grace;
    pub mod once;
    pub mod raw;
    pub mod slot;
    pub mod words;
}

mod queues;
mod sleeping;
mod values;

/// Explores `run` with at most this many preemptions per execution: most bugs need two.
fn explore(preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    // What the environment says comes first.
    model.preemption_bound = model.preemption_bound.or(Some(preemptions));
    model.check(run);
}
