//! The admin queue: one command at a time, whose end is waited for by looking (NVMe Base 1.4, 5).
//!
//! Key type: [`Admin`]. Used while a controller starts, seldom and by one thread, so it has no interrupt. Locks: its controller's, sleeping.

use crate::command::{COMMAND_BYTES, COMPLETION_BYTES, Command, Completed};
use abi::errno::{Errno, Result};
use machine::dma::{self, DmaRegion};
use machine::mmio::MmioWindow;

/// Entries of both queues.
pub const ENTRIES: u16 = 16;
/// How long a command may take.
const PATIENCE_NS: u64 = 10_000_000_000;

/// The queues.
pub struct Admin {
    pub submission: DmaRegion,
    pub completion: DmaRegion,
    tail: u16,
    head: u16,
    lap: bool,
    id: u16,
}

impl Admin {
    /// Queues that the controller does not know yet. Errors: `ENOMEM`.
    pub fn new() -> Result<Admin> {
        let submission = DmaRegion::alloc(usize::from(ENTRIES) * COMMAND_BYTES)?;
        let completion = DmaRegion::alloc(usize::from(ENTRIES) * COMPLETION_BYTES)?;
        Ok(Admin { submission, completion, tail: 0, head: 0, lap: true, id: 0 })
    }

    /// The controller was disabled: both queues are empty, and what it was told it has forgotten.
    pub fn restart(&mut self) {
        clear(&self.completion);
        (self.tail, self.head, self.lap) = (0, 0, true);
    }

    /// Carries out a command; gives its result. Doorbells are `stride` bytes apart from `doorbells` on.
    ///
    /// Errors: `EIO`: it failed, took too long, or the controller answered something else.
    pub fn execute(
        &mut self,
        command: Command,
        registers: &MmioWindow,
        doorbells: usize,
        stride: usize,
    ) -> Result<u32> {
        self.id = self.id.wrapping_add(1);
        command.write(&self.submission, usize::from(self.tail) * COMMAND_BYTES, self.id);
        self.tail = (self.tail + 1) % ENTRIES;
        registers.write(doorbells, u32::from(self.tail));
        let entry = usize::from(self.head) * COMPLETION_BYTES;
        let completed = crate::controller::poll(PATIENCE_NS, || {
            dma::acquire();
            Completed::read(&self.completion, entry, self.lap)
        });
        let completed = completed.ok_or(Errno::EIO)?;
        self.head = (self.head + 1) % ENTRIES;
        if self.head == 0 {
            self.lap = !self.lap;
        }
        registers.write(doorbells + stride, u32::from(self.head));
        let is_right = completed.id == self.id && completed.status == 0;
        if is_right { Ok(completed.result) } else { Err(Errno::EIO) }
    }
}

/// Makes a queue's memory zeros, so that no entry looks new.
pub fn clear(queue: &DmaRegion) {
    (0..queue.len() / 8).for_each(|word| queue.write(8 * word, 0u64));
}
