//! The thread of a mounted file system: what becomes due when nobody is there to do it.
//!
//! Key types: [`Worker`], [`Shared`]. It brings home what the device has written ([`crate::flight`]), writes times that are late, and notes
//! errors in the superblock. It keeps the file system alive only while it works for it.
//!
//! Locks: the list of flights (interrupts off) is a leaf; completions of transfers push to it.

use crate::filesystem::FileSystem;
use crate::flight::{self, Flight};
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use machine::sync::atomic::{AtomicBool, Ordering};
use machine::sync::{IrqSpinLock, WaitKind, WaitQueue};
use sched::SpawnOptions;

/// How the thread is reached, from any context.
pub struct Shared {
    bell: WaitQueue,
    landed: IrqSpinLock<Option<Box<Flight>>>,
    rung: AtomicBool,
    ended: AtomicBool,
    stopped: AtomicBool,
}

/// The thread's handle; see the head of this file.
pub struct Worker {
    shared: Arc<Shared>,
}

impl Default for Worker {
    fn default() -> Worker {
        Worker::new()
    }
}

impl Worker {
    /// Not running yet.
    pub fn new() -> Worker {
        let flag = || AtomicBool::new(false);
        let (rung, ended, stopped) = (flag(), flag(), AtomicBool::new(true));
        let (bell, landed) = (WaitQueue::new(), IrqSpinLock::new(None));
        Worker { shared: Arc::new(Shared { bell, landed, rung, ended, stopped }) }
    }

    /// Where completions push.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Begins. Errors: `ENOMEM`.
    pub fn start(&self, fs: &Arc<FileSystem>) -> Result<()> {
        let (weak, shared) = (Arc::downgrade(fs), self.shared.clone());
        let name = alloc::format!("ext4/{}", fs.device.name());
        self.shared.ended.store(false, Ordering::Relaxed);
        self.shared.stopped.store(false, Ordering::Relaxed);
        let spawned = sched::spawn(&name, SpawnOptions::default(), move || run(&weak, &shared));
        if spawned.is_err() {
            self.shared.stopped.store(true, Ordering::Relaxed);
        }
        spawned.map(|_| ())
    }

    /// Ends it, when it has done what is there to do. Sleeps.
    pub fn stop(&self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.ring();
        let stopped = || self.shared.stopped.load(Ordering::Acquire).then_some(());
        let _ = self.shared.bell.wait_until(WaitKind::Uninterruptible, None, stopped);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Not waiting: it may be the thread itself that drops the last reference.
        self.shared.ended.store(true, Ordering::Release);
        self.shared.ring();
    }
}

impl Shared {
    /// There is something to do. Any context.
    pub fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.bell.wake_all();
    }

    /// A transfer has ended. Any context.
    pub fn push(&self, mut flight: Box<Flight>) {
        {
            let mut landed = self.landed.lock();
            flight.next = landed.take();
            *landed = Some(flight);
        }
        self.ring();
    }

    /// All that was pushed, the oldest first.
    fn take(&self) -> Option<Box<Flight>> {
        let mut newest = self.landed.lock().take();
        let mut oldest = None;
        while let Some(mut flight) = newest {
            newest = flight.next.take();
            flight.next = oldest;
            oldest = Some(flight);
        }
        oldest
    }
}

fn run(fs: &Weak<FileSystem>, shared: &Arc<Shared>) {
    loop {
        while let Some(flights) = shared.take() {
            flight::land_all(flights);
        }
        let mut deadline = None;
        if let Some(fs) = fs.upgrade() {
            deadline = fs.do_late_work();
        }
        if shared.ended.load(Ordering::Acquire) {
            break;
        }
        let rung = || shared.rung.swap(false, Ordering::AcqRel).then_some(());
        let _ = shared.bell.wait_until(WaitKind::Uninterruptible, deadline, rung);
    }
    shared.stopped.store(true, Ordering::Release);
    shared.bell.wake_all();
}
