//! A transaction, and what a buffer knows of the transactions that it is in.
//!
//! Key types: [`Transaction`], [`Membership`].

use super::{OrderedData, Tid};
use crate::buffer::Buffer;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::SpinLock;

/// Changes that reach the disk together.
pub struct Transaction {
    /// Its number, and that of its blocks in the log.
    pub tid: Tid,
    /// When the first handle joined.
    pub begun_ns: u64,
    /// What it is made of.
    pub parts: SpinLock<Parts>,
}

/// What a transaction is made of.
#[derive(Default)]
pub struct Parts {
    /// Handles under way.
    pub handles: u32,
    /// No handle joins any more.
    pub locked: bool,
    /// Blocks that it has or that its handles may still add.
    pub reserved: u32,
    /// The buffers changed in it.
    pub buffers: Vec<Arc<Buffer>>,
    /// Buffers of earlier transactions whose blocks were freed in it.
    pub forgotten: Vec<Arc<Buffer>>,
    /// The blocks not to be replayed from earlier transactions.
    pub revoked: BTreeSet<u64>,
    /// Contents to be written first, by the address of their owner.
    pub ordered: BTreeMap<usize, Arc<dyn OrderedData>>,
    /// What happens when it survives.
    pub actions: Vec<Box<dyn FnOnce() + Send>>,
}

impl Transaction {
    /// An empty one.
    pub fn new(tid: Tid) -> Arc<Transaction> {
        let begun_ns = machine::time::now_ns();
        Arc::new(Transaction { tid, begun_ns, parts: SpinLock::new(Parts::default()) })
    }
}

/// What the journal knows of a buffer. At most two transactions are not complete, the running and the committing one; that makes few cases.
pub struct Membership {
    /// The newest transaction that changed it, as long as the contents in memory are what is to be copied to the log for it.
    pub owner: Option<Tid>,
    /// What is to be copied for the committing transaction, when the running one has changed the buffer since.
    pub frozen: Option<(Tid, Box<[u8]>)>,
    /// The newest transaction that has it in the log, until it is where it belongs.
    pub logged: Option<Tid>,
    /// The block was freed in this transaction, which is not complete.
    pub forgotten: Option<Tid>,
    /// A write to where it belongs is under way.
    pub writing: bool,
}

impl Membership {
    /// In no transaction.
    pub fn new() -> Membership {
        Membership { owner: None, frozen: None, logged: None, forgotten: None, writing: false }
    }
}
