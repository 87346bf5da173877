//! The two queues of a port: bytes in and bytes out, whoever uses the port.
//!
//! Key types: [`Pair`], [`Buffer`] (a page that the device has, or that is full or free here). Each queue has so many pages and never more. What has come in
//! keeps its pages until it is read, so a host that sends to a guest that does not read has to wait; what goes out takes pages that the host
//! gives back, so a guest whose host does not read has to wait.
//!
//! Pages are given to the device again in thread context only: an interrupt sees each page once, however fast the device is.
//!
//! Locks, interrupt-safe: `input` and `output`, each outside its queue's; `user`, which is held while the terminal is told. A message of the kernel's
//! own only tries `output` and its queue: whoever holds these has the terminal told of room afterwards.

use abi::errno::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use channel::line::User;
use device::virtio::{Broken, Direction, Part, Queue, Virtio};
use machine::PAGE_SIZE;
use machine::dma::DmaRegion;
use machine::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use machine::sync::{IrqSpinLock, WaitQueue};
use mm::io::IoReader;

/// Pages of each queue: 64 KiB.
pub const BUFFERS: usize = 16;

/// A page. Bytes `start..end` are what it holds.
pub struct Buffer {
    memory: DmaRegion,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty one. Errors: `ENOMEM`.
    pub fn new() -> Result<Buffer> {
        Ok(Buffer { memory: DmaRegion::alloc(PAGE_SIZE)?, start: 0, end: 0 })
    }

    /// All of it, for the device to write.
    pub fn to_fill(&self) -> Part {
        Part { address: self.memory.address(), length: PAGE_SIZE as u32, direction: Direction::FromDevice }
    }

    /// What it holds, for the device to read.
    pub fn to_send(&self) -> Part {
        Part { address: self.memory.address(), length: self.end as u32, direction: Direction::ToDevice }
    }

    /// The device has written so many bytes.
    pub fn set_filled(&mut self, written: u32) {
        (self.start, self.end) = (0, (written as usize).min(PAGE_SIZE));
    }

    /// Holds these bytes from now on, as many as fit; gives how many.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let bytes = bytes.get(..PAGE_SIZE).unwrap_or(bytes);
        self.memory.copy_in(0, bytes);
        (self.start, self.end) = (0, bytes.len());
        bytes.len()
    }

    /// Holds what `from` gives from now on, at most `most` bytes and a page; gives how much. Errors: `EFAULT`, if that was before the first byte.
    pub fn fill_from(&mut self, from: &mut dyn IoReader, most: usize) -> Result<usize> {
        let mut chunk = [0; 512];
        (self.start, self.end) = (0, 0);
        let most = most.min(PAGE_SIZE);
        while self.end < most {
            let wanted = chunk.len().min(most - self.end);
            let count = match from.read_bytes(chunk.get_mut(..wanted).unwrap_or_default()) {
                Ok(0) => break,
                Ok(count) => count,
                Err(_) if self.end > 0 => break,
                Err(error) => return Err(error),
            };
            self.memory.copy_in(self.end, chunk.get(..count).unwrap_or_default());
            self.end += count;
        }
        Ok(self.end)
    }

    /// What it holds, as much as `into` takes; gives how much.
    pub fn peek(&self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.end - self.start);
        if let Some(into) = into.get_mut(..count) {
            self.memory.copy_out(self.start, into);
        }
        count
    }

    fn len(&self) -> usize {
        self.end - self.start
    }
}

#[derive(Default)]
struct Input {
    /// With something in them, the oldest first.
    full: VecDeque<Buffer>,
    /// That came back with nothing in them.
    empty: Vec<Buffer>,
    made: usize,
}

#[derive(Default)]
struct Output {
    spare: Vec<Buffer>,
    made: usize,
}

/// The queues.
pub struct Pair {
    /// From the device.
    pub receive: Queue<Buffer>,
    /// To the device.
    pub transmit: Queue<Buffer>,
    input: IrqSpinLock<Input>,
    output: IrqSpinLock<Output>,
    /// How many buffers are in `Output::spare`.
    spare: AtomicUsize,
    unsent: AtomicUsize,
    /// Somebody is there for what comes in.
    pub is_wanted: AtomicBool,
    /// Woken when something has come in, and when anything else about the port changes.
    pub readable: Arc<WaitQueue>,
    /// Woken when there is room for output, and when anything else about the port changes.
    pub writable: Arc<WaitQueue>,
    user: IrqSpinLock<Option<Arc<dyn User>>>,
}

impl Pair {
    /// Makes the rings of queues `first` and `first + 1`. Errors: `ENODEV`: the device has not so many; `ENOMEM`.
    pub fn new(device: &Arc<Virtio>, first: u16) -> Result<Arc<Pair>> {
        Ok(Arc::new(Pair {
            receive: Queue::new(device, first, 1)?,
            transmit: Queue::new(device, first + 1, 1)?,
            input: IrqSpinLock::new(Input::default()),
            output: IrqSpinLock::new(Output::default()),
            spare: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
            is_wanted: AtomicBool::new(false),
            readable: Arc::new(WaitQueue::new()),
            writable: Arc::new(WaitQueue::new()),
            user: IrqSpinLock::new(None),
        }))
    }

    /// Gives the device pages to fill. Thread context, one at a time. Errors: `ENOMEM`: not even one.
    pub fn fill(&self) -> Result<()> {
        let wanted = BUFFERS.min(usize::from(self.receive.size()));
        let (mut full, mut empty) = (VecDeque::new(), Vec::new());
        full.try_reserve_exact(wanted).map_err(|_| Errno::ENOMEM)?;
        empty.try_reserve_exact(wanted).map_err(|_| Errno::ENOMEM)?;
        let mut input = self.input.lock();
        if input.made == 0 {
            // The first time: nothing has come in yet, and what comes has its place.
            (input.full, input.empty) = (full, empty);
        }
        let missing = wanted - input.made.min(wanted);
        drop(input);
        for _ in 0..missing {
            let Ok(buffer) = Buffer::new() else { break };
            self.input.lock().made += 1;
            self.give_back(buffer);
        }
        self.receive.kick();
        if self.input.lock().made == 0 { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Makes pages for output. Thread context, one at a time. Errors: `ENOMEM`: not even one.
    pub fn prepare_output(&self) -> Result<()> {
        let wanted = BUFFERS.min(usize::from(self.transmit.size()));
        let mut spare = Vec::new();
        spare.try_reserve_exact(wanted).map_err(|_| Errno::ENOMEM)?;
        let mut output = self.output.lock();
        if output.made == 0 {
            output.spare = spare;
        }
        let missing = wanted - output.made.min(wanted);
        drop(output);
        for _ in 0..missing {
            let Ok(buffer) = Buffer::new() else { break };
            self.output.lock().made += 1;
            self.put_spare(buffer);
        }
        if self.output.lock().made == 0 { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    fn put_spare(&self, buffer: Buffer) {
        let mut output = self.output.lock();
        output.spare.push(buffer);
        self.spare.store(output.spare.len(), Ordering::Release);
    }

    /// Gives the device a page to fill again.
    fn give_back(&self, buffer: Buffer) {
        if self.receive.lock().add(&[buffer.to_fill()], buffer).is_err() {
            // The queue is broken or drained: it takes nothing any more.
            self.input.lock().made -= 1;
        }
    }

    /// Who is told of what happens.
    pub fn set_user(&self, user: Option<Arc<dyn User>>) -> Option<Arc<dyn User>> {
        core::mem::replace(&mut *self.user.lock(), user)
    }

    /// Who is told.
    pub fn user(&self) -> Option<Arc<dyn User>> {
        self.user.lock().clone()
    }

    /// The device has filled pages. Interrupt context. Errors: it breaks the rules.
    pub fn received(&self) -> core::result::Result<(), Broken> {
        let outcome = self.receive.complete(
            |_| (),
            |mut buffer, written| {
                buffer.set_filled(written);
                let mut input = self.input.lock();
                // There is a place for each page that was made.
                if buffer.len() > 0 {
                    input.full.push_back(buffer);
                } else {
                    input.empty.push(buffer);
                }
            },
        );
        if let Some(user) = &*self.user.lock() {
            user.input();
        }
        self.readable.wake_all();
        outcome
    }

    /// The device has taken what it was given. Interrupt context. Errors: it breaks the rules.
    pub fn sent(&self) -> core::result::Result<(), Broken> {
        let outcome = self.transmit.complete(|_| (), |buffer, _| self.take_back(buffer));
        if let Some(user) = &*self.user.lock() {
            user.room();
        }
        self.writable.wake_all();
        outcome
    }

    fn take_back(&self, buffer: Buffer) {
        self.unsent.fetch_sub(buffer.len(), Ordering::AcqRel);
        self.put_spare(buffer);
    }

    /// Sends what it takes at once; gives how many bytes: 0 if there is no page. What the device is too broken to take is lost. Thread context.
    pub fn send(&self, bytes: &[u8]) -> usize {
        let Some(mut buffer) = self.take_spare() else { return 0 };
        let count = buffer.put(bytes);
        self.send_page(buffer);
        count
    }

    /// Takes a free page, to be given to [`Pair::send_page`]. Thread context.
    pub fn take_spare(&self) -> Option<Buffer> {
        let mut output = self.output.lock();
        let buffer = output.spare.pop()?;
        self.spare.store(output.spare.len(), Ordering::Release);
        Some(buffer)
    }

    /// Sends what a page holds, if anything. Gives `false` if the device is too broken to take it. Thread context.
    pub fn send_page(&self, buffer: Buffer) -> bool {
        let count = buffer.len();
        self.unsent.fetch_add(count, Ordering::AcqRel);
        if count == 0 {
            self.take_back(buffer);
            return true;
        }
        if let Err(buffer) = { self.transmit.lock().add(&[buffer.to_send()], buffer) } {
            self.take_back(buffer);
            return false;
        }
        self.transmit.kick();
        true
    }

    /// Sends all of it or nothing. Any context, any locks held.
    pub fn send_message(&self, bytes: &[u8]) -> bool {
        let Some(mut output) = self.output.try_lock() else { return false };
        let Some(mut buffer) = output.spare.pop() else { return false };
        let count = buffer.put(bytes);
        self.unsent.fetch_add(count, Ordering::AcqRel);
        let given = match self.transmit.try_add(&[buffer.to_send()], buffer) {
            Ok(is_to_be_told) => Some(is_to_be_told),
            Err(buffer) => {
                self.unsent.fetch_sub(count, Ordering::AcqRel);
                output.spare.push(buffer);
                None
            }
        };
        self.spare.store(output.spare.len(), Ordering::Release);
        drop(output);
        if given == Some(true) {
            self.transmit.tell();
        }
        given.is_some()
    }

    /// Takes back what the device has taken, without interrupts and locks that are held.
    pub fn poll_sent(&self) {
        for _ in 0..BUFFERS {
            let Some((buffer, _)) = self.transmit.try_take_used() else { return };
            let Some(mut output) = self.output.try_lock() else { return };
            self.unsent.fetch_sub(buffer.len(), Ordering::AcqRel);
            output.spare.push(buffer);
        }
    }

    /// Whether so many pages are free for output, or all there are.
    pub fn is_roomy(&self, pages: usize) -> bool {
        let spare = self.spare();
        spare >= pages || spare > 0 && spare >= self.output.lock().made
    }

    /// Bytes that the device has not taken yet.
    pub fn unsent(&self) -> usize {
        self.unsent.load(Ordering::Acquire)
    }

    /// Pages that are free for output.
    pub fn spare(&self) -> usize {
        self.spare.load(Ordering::Acquire)
    }

    /// Gives empty pages back. Thread context.
    fn recycle_empty(&self) {
        let mut any = false;
        while let Some(buffer) = { self.input.lock().empty.pop() } {
            self.give_back(buffer);
            any = true;
        }
        if any {
            self.receive.kick();
        }
    }

    /// Has something come in that was not read? Thread context.
    pub fn has_input(&self) -> bool {
        let input = self.input.lock();
        let (is_some, has_empty) = (!input.full.is_empty(), !input.empty.is_empty());
        drop(input);
        if has_empty {
            self.recycle_empty();
        }
        is_some
    }

    /// Copies the oldest of what has come in; gives how much: not more than one page holds. Thread context.
    pub fn peek(&self, into: &mut [u8]) -> usize {
        self.input.lock().full.front().map_or(0, |buffer| buffer.peek(into))
    }

    /// Drops the oldest `count` bytes of what has come in. Thread context.
    pub fn consume(&self, mut count: usize) {
        while count > 0 {
            let mut input = self.input.lock();
            let Some(first) = input.full.front_mut() else { return };
            let part = count.min(first.len());
            first.start += part;
            count -= part;
            if first.len() == 0
                && let Some(buffer) = input.full.pop_front()
            {
                drop(input);
                self.give_back(buffer);
                self.receive.kick();
            }
        }
    }

    /// Drops what has come in. Thread context. Ends: at most as many pages as there are, each once.
    pub fn discard(&self) {
        for _ in 0..BUFFERS {
            let Some(buffer) = ({ self.input.lock().full.pop_front() }) else { break };
            self.give_back(buffer);
        }
        self.receive.kick();
    }
}
