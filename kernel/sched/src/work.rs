//! Deferred work: closures run soon in a thread, for those who are in an interrupt or hold a lock now.
//!
//! One worker thread per CPU with a queue of its own; work runs on the CPU that queued it, in order. A piece of
//! work may sleep, but delays what comes after it on the same CPU meanwhile.
//!
//! Neighbours: [`crate::boot`] starts the workers. Locks: each queue has a leaf lock, usable in interrupts.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;

use abi::errno::{Errno, Result};
use machine::cpu::{self as machine_cpu, CpuId, PerCpu};
use machine::sync::{IrqSpinLock, Once, WaitKind, WaitQueue};

use crate::sleep::park;
use crate::thread::{SpawnOptions, Thread, spawn};

type Work = Box<dyn FnOnce() + Send>;

struct Worker {
    queue: IrqSpinLock<VecDeque<Work>>,
    thread: IrqSpinLock<Option<Arc<Thread>>>,
}

static WORKERS: Once<PerCpu<Worker>> = Once::new();

/// Makes the queues, empty.
pub(crate) fn init() {
    let fresh = |_| Worker { queue: IrqSpinLock::new(VecDeque::new()), thread: IrqSpinLock::new(None) };
    if WORKERS.set(PerCpu::new_with(fresh)).is_err()
        && let Some(workers) = WORKERS.get()
    {
        for (_, worker) in workers.iter() {
            worker.queue.lock().clear();
            *worker.thread.lock() = None;
        }
    }
}

fn worker(cpu: CpuId) -> &'static Worker {
    match WORKERS.get() {
        Some(workers) => workers.get_on(cpu),
        None => panic!("sched::init has not run"),
    }
}

pub(crate) fn start_worker(cpu: CpuId, options: SpawnOptions) -> Result<()> {
    let thread = spawn(&format!("kworker/{}", cpu.index()), options, move || run(cpu))?;
    *worker(cpu).thread.lock() = Some(thread);
    Ok(())
}

fn run(cpu: CpuId) {
    let worker = worker(cpu);
    loop {
        let next = worker.queue.lock().pop_front();
        match next {
            Some(work) => work(),
            None => {
                park(None, WaitKind::Interruptible);
            }
        }
    }
}

/// Runs `work` soon, in thread context, on this CPU. Any context. Before the workers are started it waits for them.
///
/// # Errors
/// `ENOMEM`.
pub fn queue(work: impl FnOnce() + Send + 'static) -> Result<()> {
    queue_on(machine_cpu::current(), work)
}

/// The same on another CPU.
///
/// # Errors
/// `ENOMEM`.
pub fn queue_on(cpu: CpuId, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let work: Work = Box::new(work);
    let worker = worker(cpu);
    let mut queue = worker.queue.lock();
    queue.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    queue.push_back(work);
    drop(queue);
    let thread = worker.thread.lock().clone();
    if let Some(thread) = thread {
        thread.wake();
    }
    Ok(())
}

/// Waits until everything queued before on any CPU has run. Sleeps.
///
/// # Errors
/// `ENOMEM`.
pub fn flush() -> Result<()> {
    let done = Arc::new((WaitQueue::new(), core::sync::atomic::AtomicUsize::new(0)));
    let mut expected = 0;
    for cpu in machine_cpu::online() {
        let done = done.clone();
        queue_on(cpu, move || {
            done.1.fetch_add(1, core::sync::atomic::Ordering::Release);
            done.0.wake_all();
        })?;
        expected += 1;
    }
    let all = || (done.1.load(core::sync::atomic::Ordering::Acquire) == expected).then_some(());
    let _ = done.0.wait_until(WaitKind::Uninterruptible, None, all);
    Ok(())
}
