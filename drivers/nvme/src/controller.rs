//! A controller: its registers, how it is started, watched and stopped (NVMe Base 1.4, 3.1, 7.6 and 9.1).
//!
//! Key types: [`Controller`], [`Place`] (what it hangs on). A command that takes longer than 30 s is to be aborted; if that takes as long too, the
//! controller is reset and all that it had is tried again; if it cannot be reset it is shut off, and everything fails with `EIO`.
//! Locks: who resets it or shuts it off (sleeping), then the admin queue's (sleeping); the pairs' own.

use crate::admin::{self, Admin};
use crate::command::{self, Command};
use crate::pair::{Late, PATIENCE_NS, Pair};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
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
use sched::timer::{Timer, TimerAction, TimerCallback};

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

/// What a controller hangs on: a PCI function, or a test.
pub struct Place {
    /// What it is called in the log.
    pub name: String,
    /// Registers, and doorbells.
    pub registers: MmioWindow,
    /// How many messages it can send.
    pub messages: usize,
    /// Has message N handled by handler N.
    pub wire: Wire,
    /// Whether it is still there.
    pub is_present: Box<dyn Fn() -> bool + Send + Sync>,
    /// Keeps it from memory.
    pub detach: Box<dyn Fn() + Send + Sync>,
}

/// A source of interrupts: handlers in, what keeps them out.
pub type Wire = Box<dyn Fn(Vec<(CpuId, Handler)>) -> Result<Option<Messages>> + Send + Sync>;

impl Place {
    /// The place of a function. Errors: as [`Function::map`].
    pub fn of(function: &Arc<Function>) -> Result<Place> {
        function.enable();
        // Registers, and doorbells of as many queues as there are CPUs.
        let stride = stride_of(function.map(0, 0, 8)?.read::<u64>(register::CAPABILITIES));
        let length = register::DOORBELLS + 2 * stride * (cpu::count() + 1);
        let length = length.min(function.memory_length(0) as usize);
        let (sender, asked, detached) = (function.clone(), function.clone(), function.clone());
        Ok(Place {
            name: function.name(),
            registers: function.map(0, 0, length)?,
            messages: function.message_count(),
            wire: Box::new(move |handlers| sender.send_messages(handlers).map(Some)),
            is_present: Box::new(move || asked.is_present()),
            detach: Box::new(move || detached.disable()),
        })
    }
}

/// Bytes between doorbells.
fn stride_of(capabilities: u64) -> usize {
    4 << (capabilities >> 32 & 0xf)
}

/// A controller.
pub struct Controller {
    place: Place,
    /// Bytes between doorbells.
    stride: usize,
    /// How long it may take to start or stop.
    patience_ns: u64,
    /// Held by who resets it or shuts it off.
    life: Mutex<()>,
    admin: Mutex<Admin>,
    pairs: Once<Vec<Pair>>,
    messages: Mutex<Option<Messages>>,
    /// What is to be told when a pair has room again.
    listener: Once<Box<dyn Fn(usize) + Send + Sync>>,
    is_stopped: AtomicBool,
    /// Looks at commands that take long. None: no memory for it.
    watch: Option<Timer>,
    /// It is armed, or somebody looks.
    is_watched: AtomicBool,
}

/// The callback of a controller's timer.
struct Watch(Weak<Controller>);

impl TimerCallback for Watch {
    fn expire(&self, _now_ns: u64) -> TimerAction {
        let controller = self.0.clone();
        work::later(Box::new(move || {
            if let Some(controller) = controller.upgrade() {
                controller.look();
            }
        }));
        TimerAction::Done
    }
}

impl Controller {
    /// Starts the controller at a place. Errors: `ENODEV`: it cannot do what we need; `EIO`: it does not answer; `ENOMEM`, `ENOSPC`.
    pub fn start(place: Place) -> Result<Arc<Controller>> {
        let capabilities = place.registers.read::<u64>(register::CAPABILITIES);
        let stride = stride_of(capabilities);
        if !place.registers.contains(register::DOORBELLS, 4 * stride) || capabilities >> 48 & 0xf != 0 {
            // No queue fits, or its pages are larger than ours.
            return Err(Errno::ENODEV);
        }
        let admin = Mutex::new(Admin::new()?);
        let controller = Arc::new_cyclic(|own: &Weak<Controller>| Controller {
            place,
            stride,
            patience_ns: ((capabilities >> 24 & 0xff) + 1) * 500_000_000,
            life: Mutex::new(()),
            admin,
            pairs: Once::new(),
            messages: Mutex::new(None),
            listener: Once::new(),
            is_stopped: AtomicBool::new(false),
            watch: Timer::new(Arc::new(Watch(own.clone()))).ok(),
            is_watched: AtomicBool::new(false),
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
        self.place.registers.read(register::STATUS)
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
        let configuration = self.place.registers.read::<u32>(register::CONFIGURATION);
        self.place.registers.write(register::CONFIGURATION, configuration & !ENABLE);
        self.wait_for(READY, 0)
    }

    /// Resets it and gives it the admin queues.
    fn enable(&self) -> Result<()> {
        self.disable()?;
        let mut admin = self.admin.lock();
        admin.restart();
        let entries = u32::from(admin::ENTRIES - 1);
        self.place.registers.write(register::ADMIN_SIZES, entries << 16 | entries);
        self.write_address(register::ADMIN_SUBMISSION, admin.submission.address().0);
        self.write_address(register::ADMIN_COMPLETION, admin.completion.address().0);
        self.place.registers.write(register::CONFIGURATION, ENTRY_SIZES | ENABLE);
        self.wait_for(READY, READY)
    }

    fn write_address(&self, register: usize, address: u64) {
        self.place.registers.write(register, address as u32);
        self.place.registers.write(register + 4, (address >> 32) as u32);
    }

    /// Carries out an admin command. Thread context. Errors: `EIO`.
    pub fn execute(&self, command: Command) -> Result<u32> {
        let mut admin = self.admin.lock();
        admin.execute(command, &self.place.registers, register::DOORBELLS, self.stride)
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
        let doorbells = (self.place.registers.len() - register::DOORBELLS) / (2 * self.stride) - 1;
        let wanted = cpu::count().min(doorbells).min(self.place.messages).min(usize::from(u16::MAX));
        if wanted == 0 || entries < MIN_ENTRIES {
            return Err(Errno::ENODEV);
        }
        let count = wanted.min(self.ask_for_pairs(wanted)?);
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
        *self.messages.lock() = (self.place.wire)((0..count).map(handler).collect())?;
        self.give_pairs()
    }

    /// Says how many pairs are wanted; gives how many there can be.
    fn ask_for_pairs(&self, wanted: usize) -> Result<usize> {
        let last = wanted as u32 - 1;
        let rest = [NUMBER_OF_QUEUES, last << 16 | last, 0, 0, 0, 0];
        let command = Command { opcode: command::admin::SET_FEATURES, rest, ..Default::default() };
        let granted = self.execute(command)?;
        Ok(((granted & 0xffff) as usize + 1).min((granted >> 16) as usize + 1))
    }

    fn give_pairs(&self) -> Result<()> {
        self.pairs().iter().enumerate().try_for_each(|(index, pair)| self.give_pair(index, pair))
    }

    /// Tells the controller of a pair; queue 0 is the admin queue.
    fn give_pair(&self, index: usize, pair: &Pair) -> Result<()> {
        const IN_A_ROW: u32 = 1;
        const INTERRUPTS: u32 = 2;
        let number = index as u32 + 1;
        let size = u32::from(pair.entries() - 1) << 16 | number;
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
            self.place.registers.write(self.doorbell(index), u32::from(tail));
        }
    }

    /// The doorbell of a pair's submission queue; that of its completion queue is next.
    fn doorbell(&self, index: usize) -> usize {
        register::DOORBELLS + 2 * (index + 1) * self.stride
    }

    /// Commands of a pair are done. Interrupt context.
    fn interrupt(self: &Arc<Self>, index: usize) {
        let Some(pair) = self.pairs().get(index) else { return };
        let head =
            |head: u16| self.place.registers.write(self.doorbell(index) + self.stride, u32::from(head));
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

    /// Whether it is there and works. Thread context.
    pub fn is_present(&self) -> bool {
        !self.is_stopped() && (self.place.is_present)()
    }

    /// Has commands looked after that take long. Any context.
    pub fn watch(&self) {
        if !self.is_watched.swap(true, Ordering::AcqRel)
            && let Some(watch) = &self.watch
        {
            watch.arm(machine::time::now_ns().saturating_add(PATIENCE_NS));
        }
    }

    /// Looks at commands that take long, and when to look again. Thread context.
    fn look(self: &Arc<Self>) {
        let mut next = None;
        for index in 0..self.pairs().len() {
            // Perhaps only the interrupt was lost.
            self.interrupt(index);
            let late = self.pairs().get(index).map(|pair| pair.late(machine::time::now_ns()));
            let due = match late {
                None | Some(Late::Nothing(None)) => continue,
                Some(Late::Nothing(Some(due))) => due,
                Some(Late::Abort(id)) if self.abort(index, id).is_ok() => machine::time::now_ns(),
                Some(Late::Abort(_) | Late::Reset) => {
                    self.reset();
                    // What it had begins anew.
                    machine::time::now_ns().saturating_add(PATIENCE_NS)
                }
            };
            next = Some(next.map_or(due, |next: u64| next.min(due)));
        }
        match (next, &self.watch) {
            (Some(next), Some(watch)) if !self.is_stopped() => watch.arm(next),
            _ => {
                self.is_watched.store(false, Ordering::Release);
                // Somebody may have come since, and relied on us.
                let has_commands = |pair: &Pair| pair.late(0) != Late::Nothing(None);
                if self.pairs().iter().any(has_commands) {
                    self.watch();
                }
            }
        }
    }

    /// Asks the controller to give up a command. Errors: `EIO`: it does not even answer that.
    fn abort(&self, index: usize, id: u16) -> Result<()> {
        log::warn!(
            "nvme {}: command {id} of queue {} takes too long: aborting it",
            self.place.name,
            index + 1
        );
        let queue = index as u32 + 1;
        let rest = [queue | u32::from(id) << 16, 0, 0, 0, 0, 0];
        let command = Command { opcode: command::admin::ABORT, rest, ..Default::default() };
        self.execute(command).map(drop)
    }

    /// Starts it anew; all that it had is tried again. If it does not start it is shut off. Thread context.
    fn reset(self: &Arc<Self>) {
        let life = self.life.lock();
        if self.is_stopped() {
            return;
        }
        log::warn!("nvme {}: does not answer: resetting it", self.place.name);
        self.pairs().iter().for_each(Pair::pause);
        let stopped = self.disable();
        let requests: Vec<_> = match stopped {
            Ok(()) => self.pairs().iter().flat_map(Pair::take_back).collect(),
            Err(_) => Vec::new(),
        };
        let count = self.pairs().len();
        let restarted =
            stopped.and_then(|()| self.enable()).and_then(|()| match self.ask_for_pairs(count)? {
                granted if granted < count => Err(Errno::EIO),
                _ => self.give_pairs(),
            });
        drop(life);
        match restarted {
            Ok(()) => self.pairs().iter().for_each(Pair::resume),
            Err(_) => {
                log::error!("nvme {}: cannot be reset and is shut off", self.place.name);
                self.shut_off();
            }
        }
        requests.into_iter().for_each(block::Request::retry);
        if let Some(listener) = self.listener.get() {
            (0..count).for_each(listener);
        }
    }

    /// It breaks the rules: shuts it off, not here. Any context.
    fn give_up(self: &Arc<Self>) {
        if !self.is_stopped.swap(true, Ordering::AcqRel) {
            let controller = self.clone();
            work::later(Box::new(move || {
                log::error!("nvme {}: breaks the rules and is shut off", controller.place.name);
                controller.shut_off();
            }));
        }
    }

    /// Has it write what it keeps in its cache, if it works.
    fn shut_down(&self) {
        let configuration = self.place.registers.read::<u32>(register::CONFIGURATION);
        if configuration & ENABLE != 0 {
            self.place.registers.write(register::CONFIGURATION, configuration | SHUT_DOWN);
            let _ = self.wait_for(SHUT_DOWN_DONE, SHUT_DOWN_DONE);
        }
    }

    /// Stops it and ends what it has. Thread context.
    pub fn shut_off(self: &Arc<Self>) {
        self.is_stopped.store(true, Ordering::Release);
        let _life = self.life.lock();
        let stopped = match (self.place.is_present)() {
            true => {
                self.shut_down();
                self.disable()
            }
            // What is not there writes nowhere.
            false => Ok(()),
        };
        let messages = self.messages.lock().take();
        if messages.is_some() {
            drop(messages);
            rcu::synchronize();
        }
        (self.place.detach)();
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
