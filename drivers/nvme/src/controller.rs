//! A controller: its registers, how it is started and stopped (NVMe Base 1.4, 3.1 and 7.6).
//!
//! Key type: [`Controller`]. Locks: the admin queue's (sleeping); the pairs' own.

use crate::admin::{self, Admin};
use crate::command::{self, Command};
use crate::pair::Pair;
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use device::pci::{Function, Messages};
use device::work;
use machine::cpu::{self, CpuId};
use machine::dma::DmaRegion;
use machine::irq::Handler;
use machine::mmio::MmioWindow;
use machine::sync::atomic::{AtomicBool, Ordering};
use machine::sync::{Mutex, Once, WaitKind, WaitQueue, rcu};
use machine::{PAGE_SHIFT, PAGE_SIZE};

/// Registers.
mod register {
    pub const CAPABILITIES: usize = 0x00;
    pub const CONFIGURATION: usize = 0x14;
    pub const STATUS: usize = 0x1c;
    pub const ADMIN_SIZES: usize = 0x24;
    pub const ADMIN_SUBMISSION: usize = 0x28;
    pub const ADMIN_COMPLETION: usize = 0x30;
    pub const DOORBELLS: usize = 0x1000;
}

const ENABLE: u32 = 1;
const SHUT_DOWN: u32 = 1 << 14;
const READY: u32 = 1;
const FATAL: u32 = 2;
const SHUT_DOWN_DONE: u32 = 2 << 2;
/// Entries of 64 and 16 bytes, as powers of two, where the configuration has them.
const ENTRY_SIZES: u32 = 6 << 16 | 4 << 20;
/// The feature "number of queues".
const NUMBER_OF_QUEUES: u32 = 7;
/// Entries of a pair at most.
const MAX_ENTRIES: u16 = 256;
/// A controller of fewer cannot hold one request of ours.
const MIN_ENTRIES: u16 = 2 * crate::pair::MAX_PAGES as u16;

/// Looks every millisecond whether something is so, for so long.
pub fn poll<R>(patience_ns: u64, mut look: impl FnMut() -> Option<R>) -> Option<R> {
    const STEP_NS: u64 = 1_000_000;
    let nobody = WaitQueue::new();
    let deadline = machine::time::now_ns().saturating_add(patience_ns);
    loop {
        if let Some(result) = look() {
            return Some(result);
        }
        let now = machine::time::now_ns();
        if now >= deadline {
            return None;
        }
        let _ = nobody.wait_until(WaitKind::Uninterruptible, Some(now + STEP_NS), || None::<()>);
    }
}

/// A controller.
pub struct Controller {
    registers: MmioWindow,
    /// Bytes between doorbells.
    stride: usize,
    /// How long it may take to start or stop.
    patience_ns: u64,
    admin: Mutex<Admin>,
    pairs: Once<Vec<Pair>>,
    messages: Mutex<Option<Messages>>,
    function: Arc<Function>,
    /// What is to be told when a pair has room again.
    listener: Once<Box<dyn Fn(usize) + Send + Sync>>,
    is_stopped: AtomicBool,
}

impl Controller {
    /// Starts the controller of a function. Errors: `ENODEV`: it cannot do what we need; `EIO`: it does not answer; `ENOMEM`, `ENOSPC`.
    pub fn start(function: &Arc<Function>) -> Result<Arc<Controller>> {
        function.enable();
        // Registers, and doorbells of as many queues as there are CPUs.
        let stride_of = |capabilities: u64| 4usize << (capabilities >> 32 & 0xf);
        let capabilities = function.map(0, 0, 8)?.read::<u64>(register::CAPABILITIES);
        let stride = stride_of(capabilities);
        let length = register::DOORBELLS + 2 * stride * (cpu::count() + 1);
        let length = length.min(function.memory_length(0) as usize);
        let registers = function.map(0, 0, length)?;
        if !registers.contains(register::DOORBELLS, 4 * stride) || capabilities >> 48 & 0xf != 0 {
            // No queue fits, or its pages are larger than ours.
            return Err(Errno::ENODEV);
        }
        let controller = Arc::new(Controller {
            registers,
            stride,
            patience_ns: ((capabilities >> 24 & 0xff) + 1) * 500_000_000,
            admin: Mutex::new(Admin::new()?),
            pairs: Once::new(),
            messages: Mutex::new(None),
            function: function.clone(),
            listener: Once::new(),
            is_stopped: AtomicBool::new(false),
        });
        let started = controller.enable().and_then(|()| controller.make_pairs(capabilities));
        match started {
            Ok(()) => Ok(controller),
            Err(error) => {
                controller.shut_off();
                Err(error)
            }
        }
    }

    fn status(&self) -> u32 {
        self.registers.read(register::STATUS)
    }

    /// Waits for bits of the status. Errors: `EIO`: they do not come, or it has failed for good.
    fn wait_for(&self, mask: u32, value: u32) -> Result<()> {
        let look = || {
            let status = self.status();
            let failed = status & FATAL != 0 && value != 0;
            if status & mask == value { Some(Ok(())) } else { failed.then_some(Err(Errno::EIO)) }
        };
        poll(self.patience_ns, look).unwrap_or(Err(Errno::EIO))
    }

    fn disable(&self) -> Result<()> {
        let configuration = self.registers.read::<u32>(register::CONFIGURATION);
        self.registers.write(register::CONFIGURATION, configuration & !ENABLE);
        self.wait_for(READY, 0)
    }

    /// Resets it and gives it the admin queues.
    fn enable(&self) -> Result<()> {
        self.disable()?;
        let admin = self.admin.lock();
        let entries = u32::from(admin::ENTRIES - 1);
        self.registers.write(register::ADMIN_SIZES, entries << 16 | entries);
        self.write_address(register::ADMIN_SUBMISSION, admin.submission.address().0);
        self.write_address(register::ADMIN_COMPLETION, admin.completion.address().0);
        self.registers.write(register::CONFIGURATION, ENTRY_SIZES | ENABLE);
        self.wait_for(READY, READY)
    }

    fn write_address(&self, register: usize, address: u64) {
        self.registers.write(register, address as u32);
        self.registers.write(register + 4, (address >> 32) as u32);
    }

    /// Carries out an admin command. Thread context. Errors: `EIO`.
    pub fn execute(&self, command: Command) -> Result<u32> {
        let mut admin = self.admin.lock();
        admin.execute(command, &self.registers, register::DOORBELLS, self.stride)
    }

    /// A page of what the controller tells of itself (`what` 1), of a namespace (0) or of which there are (2).
    pub fn identify(&self, what: u32, namespace: u32) -> Result<DmaRegion> {
        let page = DmaRegion::alloc(PAGE_SIZE)?;
        let rest = [what, 0, 0, 0, 0, 0];
        let command = Command { opcode: command::admin::IDENTIFY, namespace, rest, ..Default::default() };
        match self.execute(command.at(page.address())) {
            Ok(_) => Ok(page),
            Err(error) => {
                // It may yet answer: the page stays its own.
                core::mem::forget(page);
                Err(error)
            }
        }
    }

    /// Makes a pair for each CPU, or as many as there can be.
    fn make_pairs(self: &Arc<Self>, capabilities: u64) -> Result<()> {
        let entries = (capabilities as u16).saturating_add(1).min(MAX_ENTRIES);
        let doorbells = (self.registers.len() - register::DOORBELLS) / (2 * self.stride) - 1;
        let wanted =
            cpu::count().min(doorbells).min(self.function.message_count()).min(usize::from(u16::MAX));
        if wanted == 0 || entries < MIN_ENTRIES {
            return Err(Errno::ENODEV);
        }
        let last = wanted as u32 - 1;
        let rest = [NUMBER_OF_QUEUES, last << 16 | last, 0, 0, 0, 0];
        let command = Command { opcode: command::admin::SET_FEATURES, rest, ..Default::default() };
        let granted = self.execute(command)?;
        let count = wanted.min((granted & 0xffff) as usize + 1).min((granted >> 16) as usize + 1);
        let mut pairs = Vec::new();
        for _ in 0..count {
            pairs.push(Pair::new(entries)?);
        }
        let _ = self.pairs.set(pairs);
        let handler = |index: usize| -> (CpuId, Handler) {
            let controller = Arc::downgrade(self);
            let handler = move || {
                if let Some(controller) = controller.upgrade() {
                    controller.interrupt(index);
                }
            };
            (CpuId::new(index).unwrap_or_default(), Box::new(handler))
        };
        *self.messages.lock() = Some(self.function.send_messages((0..count).map(handler).collect())?);
        self.pairs().iter().enumerate().try_for_each(|(index, pair)| self.give_pair(index, pair, entries))
    }

    /// Tells the controller of a pair; queue 0 is the admin queue.
    fn give_pair(&self, index: usize, pair: &Pair, entries: u16) -> Result<()> {
        const IN_A_ROW: u32 = 1;
        const INTERRUPTS: u32 = 2;
        let number = index as u32 + 1;
        let size = u32::from(entries - 1) << 16 | number;
        let completion = Command {
            opcode: command::admin::CREATE_COMPLETION,
            rest: [size, (index as u32) << 16 | INTERRUPTS | IN_A_ROW, 0, 0, 0, 0],
            ..Default::default()
        };
        self.execute(completion.at(pair.completion_address()))?;
        let submission = Command {
            opcode: command::admin::CREATE_SUBMISSION,
            rest: [size, number << 16 | IN_A_ROW, 0, 0, 0, 0],
            ..Default::default()
        };
        self.execute(submission.at(pair.submission_address()))?;
        Ok(())
    }

    /// The pairs; none before it is started.
    pub fn pairs(&self) -> &[Pair] {
        self.pairs.get().map_or(&[], |pairs| pairs)
    }

    /// Whom to tell when a pair has room again. Once.
    pub fn set_listener(&self, listener: Box<dyn Fn(usize) + Send + Sync>) {
        let _ = self.listener.set(listener);
    }

    /// Whether nothing is given to it any more.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Tells the controller of new commands. Any context.
    pub fn ring(&self, index: usize, tail: u16) {
        if !self.is_stopped() {
            self.registers.write(self.doorbell(index), u32::from(tail));
        }
    }

    /// The doorbell of a pair's submission queue; that of its completion queue is next.
    fn doorbell(&self, index: usize) -> usize {
        register::DOORBELLS + 2 * (index + 1) * self.stride
    }

    /// Commands of a pair are done. Interrupt context.
    fn interrupt(self: &Arc<Self>, index: usize) {
        let Some(pair) = self.pairs().get(index) else { return };
        let head = |head: u16| self.registers.write(self.doorbell(index) + self.stride, u32::from(head));
        match pair.complete(head) {
            Err(()) => self.give_up(),
            Ok(true) => {
                if let Some(listener) = self.listener.get() {
                    listener(index);
                }
            }
            Ok(false) => {}
        }
    }

    /// It breaks the rules: shuts it off, not here. Any context.
    fn give_up(self: &Arc<Self>) {
        if !self.is_stopped.swap(true, Ordering::AcqRel) {
            let controller = self.clone();
            work::later(Box::new(move || {
                log::error!("nvme {}: breaks the rules and is shut off", controller.function.name());
                controller.shut_off();
            }));
        }
    }

    /// Stops it and ends what it has. Thread context.
    pub fn shut_off(self: &Arc<Self>) {
        self.is_stopped.store(true, Ordering::Release);
        let configuration = self.registers.read::<u32>(register::CONFIGURATION);
        if configuration & ENABLE != 0 {
            self.registers.write(register::CONFIGURATION, configuration | SHUT_DOWN);
            let _ = self.wait_for(SHUT_DOWN_DONE, SHUT_DOWN_DONE);
        }
        let stopped = self.disable();
        let messages = self.messages.lock().take();
        if messages.is_some() {
            drop(messages);
            rcu::synchronize();
        }
        self.function.disable();
        if stopped.is_err() {
            // It may still write to its queues.
            core::mem::forget(self.clone());
        }
        for (index, pair) in self.pairs().iter().enumerate() {
            pair.drain(stopped.is_ok());
            if let Some(listener) = self.listener.get() {
                listener(index);
            }
        }
    }
}

const _: () = assert!(PAGE_SHIFT == 12);
