//! A device in software: a console, one with several ports, ones that say nonsense or break the rules. The terminals are the tests' own.
//!
//! Key types: [`Fake`] (the device's side: split rings, what the driver has said and sent), [`FakeUser`] (a terminal). Locks: the fake's own; none is held
//! while the driver is called.

use super::*;
use abi::poll::PollEvents;
use alloc::vec;
use channel::line::{self, Line, Terminals, User};
use device::virtio::{Addresses, Driver, Start, Transport};
use machine::PAGE_SIZE;
use machine::host::dma;
use machine::irq;
use machine::sync::IrqSpinLock;
use mm::io::{SliceReader, SliceWriter};

const VERSION_1: u64 = 1 << 32;
const MS: u64 = 1_000_000;

/// A queue as the device has it.
struct Side {
    size: u16,
    at: Addresses,
    taken: u16,
    used: u16,
}

#[derive(Default)]
struct State {
    status: u8,
    sides: BTreeMap<u16, Side>,
    /// What the driver has said, in messages of eight bytes.
    heard: Vec<Message>,
    /// What came out of each queue.
    output: BTreeMap<u16, Vec<u8>>,
    /// The host takes no output.
    is_stuck: bool,
    config: [u8; 12],
    emergency: Vec<u8>,
}

struct Fake {
    offered: u64,
    state: IrqSpinLock<State>,
    handlers: IrqSpinLock<BTreeMap<u16, Arc<Handler>>>,
    config_changed: IrqSpinLock<Option<Arc<Handler>>>,
}

fn read<const N: usize>(address: u64) -> [u8; N] {
    let mut bytes = [0; N];
    dma::read(address, &mut bytes).expect("the driver gave a wrong address");
    bytes
}

fn read_u16(address: u64) -> u16 {
    u16::from_le_bytes(read(address))
}

fn write(address: u64, bytes: &[u8]) {
    dma::write(address, bytes).expect("the driver gave a wrong address");
}

impl Side {
    /// The next buffer: its id, address and length.
    fn take(&mut self) -> Option<(u16, u64, u32)> {
        if read_u16(self.at.driver.0 + 2) == self.taken {
            return None;
        }
        let id = read_u16(self.at.driver.0 + 4 + 2 * u64::from(self.taken % self.size));
        self.taken = self.taken.wrapping_add(1);
        let at = self.at.descriptors.0 + 16 * u64::from(id);
        Some((id, u64::from_le_bytes(read(at)), u32::from_le_bytes(read(at + 8))))
    }

    fn give(&mut self, id: u32, written: u32) {
        let entry = self.at.device.0 + 4 + 8 * u64::from(self.used % self.size);
        write(entry, &id.to_le_bytes());
        write(entry + 4, &written.to_le_bytes());
        self.used = self.used.wrapping_add(1);
        write(self.at.device.0 + 2, &self.used.to_le_bytes());
    }
}

impl Fake {
    fn new(offered: u64) -> Arc<Fake> {
        // 100 columns, 30 rows, 4 ports.
        let state = State { config: [100, 0, 30, 0, 4, 0, 0, 0, 0, 0, 0, 0], ..State::default() };
        Arc::new(Fake {
            offered: offered | VERSION_1,
            state: IrqSpinLock::new(state),
            handlers: IrqSpinLock::new(BTreeMap::new()),
            config_changed: IrqSpinLock::new(None),
        })
    }

    /// Interrupts for a queue.
    fn raise(&self, queue: u16) {
        let handler = self.handlers.lock().get(&queue).cloned();
        let _off = irq::disable();
        if let Some(handler) = handler {
            handler();
        }
    }

    fn change_config(&self) {
        let handler = self.config_changed.lock().clone();
        let _off = irq::disable();
        if let Some(handler) = handler {
            handler();
        }
    }

    /// Fills the next page of a queue. Gives `false` if the driver has given none.
    fn deliver(&self, queue: u16, bytes: &[u8]) -> bool {
        {
            let mut state = self.state.lock();
            let Some(side) = state.sides.get_mut(&queue) else { return false };
            let Some((id, address, length)) = side.take() else { return false };
            assert!(bytes.len() <= length as usize);
            write(address, bytes);
            side.give(u32::from(id), bytes.len() as u32);
        }
        self.raise(queue);
        true
    }

    /// Says something of a port, once the driver has given a page for it.
    fn say(&self, id: u32, event: u16, value: u16, rest: &[u8]) {
        let mut bytes = vec![0; 8];
        bytes[..4].copy_from_slice(&id.to_le_bytes());
        bytes[4..6].copy_from_slice(&event.to_le_bytes());
        bytes[6..8].copy_from_slice(&value.to_le_bytes());
        bytes.extend_from_slice(rest);
        self.say_bytes(&bytes);
    }

    fn say_bytes(&self, bytes: &[u8]) {
        settle(|| self.deliver(2, bytes));
    }

    /// Takes what the driver has given to a queue that it sends on.
    fn take_output(&self, queue: u16) {
        let mut any = false;
        {
            let mut state = self.state.lock();
            let State { sides, output, heard, .. } = &mut *state;
            let Some(side) = sides.get_mut(&queue) else { return };
            while let Some((id, address, length)) = side.take() {
                let mut bytes = vec![0; length as usize];
                dma::read(address, &mut bytes).unwrap();
                if queue == 3 {
                    heard.extend(Message::parse(&bytes));
                } else {
                    output.entry(queue).or_default().extend_from_slice(&bytes);
                }
                side.give(u32::from(id), 0);
                any = true;
            }
        }
        if any {
            self.raise(queue);
        }
    }

    fn output(&self, queue: u16) -> Vec<u8> {
        self.state.lock().output.remove(&queue).unwrap_or_default()
    }

    fn heard(&self, id: u32, event: u16, value: u16) -> usize {
        let wanted = Message { id, event, value };
        self.state.lock().heard.iter().filter(|message| **message == wanted).count()
    }

    fn set_stuck(&self, is_stuck: bool) {
        self.state.lock().is_stuck = is_stuck;
    }
}

/// The device as its driver reaches it.
struct Registers(Arc<Fake>);

impl Transport for Registers {
    fn status(&self) -> u8 {
        self.0.state.lock().status
    }
    fn set_status(&self, status: u8) {
        let mut state = self.0.state.lock();
        state.status = status;
        if status == 0 {
            state.sides.clear();
        }
    }
    fn features(&self) -> u64 {
        self.0.offered
    }
    fn accept_features(&self, _features: u64) {}
    fn queue_size(&self, index: u16) -> u16 {
        let queues = if self.0.offered & 1 << MULTIPORT != 0 { 10 } else { 2 };
        if index < queues { 32 } else { 0 }
    }
    fn start(&self, config_changed: Handler, queues: Vec<Start>) -> Result<()> {
        *self.0.config_changed.lock() = Some(Arc::new(config_changed));
        for start in queues {
            let side = Side { size: start.size, at: start.addresses, taken: 0, used: 0 };
            self.0.state.lock().sides.insert(start.index, side);
            self.0.handlers.lock().insert(start.index, Arc::new(start.handler));
        }
        Ok(())
    }
    fn notify(&self, index: u16) {
        // What is said is always heard.
        if index % 2 == 1 && (index == 3 || !self.0.state.lock().is_stuck) {
            self.0.take_output(index);
        }
    }
    fn stop(&self) {
        self.0.handlers.lock().clear();
        *self.0.config_changed.lock() = None;
    }
    fn config(&self, offset: usize, width: usize) -> u32 {
        let state = self.0.state.lock();
        (0..width).fold(0, |all, byte| {
            all | u32::from(*state.config.get(offset + byte).unwrap_or(&0)) << (8 * byte)
        })
    }
    fn config_generation(&self) -> u32 {
        0
    }
    fn set_config(&self, offset: usize, value: u32) {
        assert_eq!(offset, EMERGENCY);
        self.0.state.lock().emergency.push(value as u8);
    }
}

/// What the terminals were told.
static TOLD: SpinLock<Vec<String>> = SpinLock::new(Vec::new());
static LINES: SpinLock<Vec<Arc<dyn Line>>> = SpinLock::new(Vec::new());
static ROOM: AtomicU32 = AtomicU32::new(0);

struct FakeUser;

impl User for FakeUser {
    fn input(&self) {}
    fn room(&self) {
        ROOM.fetch_add(1, Ordering::Relaxed);
    }
    fn resized(&self, rows: u16, columns: u16) {
        TOLD.lock().push(alloc::format!("{rows} rows {columns} columns"));
    }
    fn gone(&self) {
        TOLD.lock().push("gone".into());
    }
}

struct FakeTerminals;

impl Terminals for FakeTerminals {
    fn attach(&self, line: Arc<dyn Line>) -> Result<Arc<dyn User>> {
        LINES.lock().push(line);
        Ok(Arc::new(FakeUser))
    }
}

fn told() -> Vec<String> {
    core::mem::take(&mut *TOLD.lock())
}

fn line() -> Arc<dyn Line> {
    LINES.lock().first().cloned().expect("a console")
}

/// Lets the others work until it is so.
fn settle(mut is_so: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        let _ = sched::sleep_until(machine::time::now_ns() + MS, WaitKind::Uninterruptible);
    }
    panic!("it never came to that");
}

/// Everything that is under way is done.
fn pause() {
    let _ = sched::sleep_until(machine::time::now_ns() + 20 * MS, WaitKind::Uninterruptible);
}

/// Runs a test on two CPUs, with a few seeds.
fn run(test: impl Fn() + Send + Sync + 'static) {
    sched::host::run_seeds(6, 2, move || {
        line::serve(&FakeTerminals);
        TOLD.lock().clear();
        LINES.lock().clear();
        test();
    });
}

/// The driver at work on a device with these features.
fn probe(features: u64) -> (Arc<Fake>, Box<dyn Instance>) {
    let fake = Fake::new(features);
    let device = Virtio::new(Box::new(Registers(fake.clone())), KIND, 0);
    let place = Device::new("virtio5".into(), virtio::BUS, None, Arc::new(()), &[], String::new());
    let served = ConsoleDriver.probe(device, &place).expect("a device like others");
    (fake, served)
}

/// One with several ports, of which the first has been added and opened by the host.
fn probe_port() -> (Arc<Fake>, Box<dyn Instance>, Arc<port::PortFile>) {
    let (fake, served) = probe(1 << MULTIPORT);
    fake.say(1, event::DEVICE_ADD, 0, b"");
    settle(|| fake.heard(1, event::PORT_READY, 1) == 1);
    let file = open(1).expect("nobody else has it");
    fake.say(1, event::PORT_OPEN, 1, b"");
    settle(|| !file.readiness().contains(PollEvents::HUP));
    (fake, served, file)
}

/// The only device's port.
fn open(id: u32) -> Result<Arc<port::PortFile>> {
    let consoles = CONSOLES.lock().clone();
    let console = consoles.iter().rev().find_map(Weak::upgrade).ok_or(Errno::ENXIO)?;
    console.port(id).ok_or(Errno::ENXIO)?.open()
}

fn read_all(file: &port::PortFile) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 100_000];
    let count = file.read_from(&mut SliceWriter::new(&mut bytes), true)?;
    bytes.truncate(count);
    Ok(bytes)
}

fn write_all(file: &port::PortFile, bytes: &[u8]) -> Result<usize> {
    file.write_to(&mut SliceReader::new(bytes), true)
}

#[test]
fn a_plain_device_is_a_console() {
    run(|| {
        let (fake, served) = probe(1 << SIZE);
        assert_eq!(told(), ["30 rows 100 columns"]);
        assert_eq!(line().send(b"hello"), 5);
        assert!(line().send_message(b" kernel"));
        assert_eq!(fake.output(1), b"hello kernel");
        assert_eq!(line().unsent(), 0);
        // Many times as much as there are pages.
        for round in 0u8..100 {
            settle(|| fake.deliver(0, &[round; 3]));
            let mut bytes = [0; 8];
            settle(|| line().peek(&mut bytes) == 3);
            assert_eq!(bytes[..3], [round; 3]);
            line().consume(1);
            assert_eq!((line().has_input(), line().peek(&mut bytes)), (true, 2));
            line().consume(2);
            assert!(!line().has_input());
        }
        fake.state.lock().config[..4].copy_from_slice(&[80, 0, 25, 0]);
        fake.change_config();
        settle(|| told() == ["25 rows 80 columns"]);
        served.remove();
        assert_eq!(told(), ["gone"]);
        assert_eq!((line().send(b"lost"), line().has_input(), line().unsent()), (4, false, 0));
    });
}

#[test]
fn a_host_that_does_not_read_is_waited_for() {
    run(|| {
        let (fake, served) = probe(0);
        fake.set_stuck(true);
        let mut sent = 0;
        while line().send(&[b'x'; PAGE_SIZE]) > 0 {
            sent += PAGE_SIZE;
        }
        assert_eq!((sent, line().unsent()), (pair::BUFFERS * PAGE_SIZE, pair::BUFFERS * PAGE_SIZE));
        assert!(!line().send_message(b"no room"));
        let before = ROOM.load(Ordering::Relaxed);
        fake.set_stuck(false);
        fake.take_output(1);
        assert_eq!((fake.output(1).len(), line().unsent()), (sent, 0));
        assert!(ROOM.load(Ordering::Relaxed) > before && line().send_message(b"room"));
        assert_eq!(fake.output(1), b"room");
        served.remove();
    });
}

#[test]
fn who_does_not_read_makes_the_host_wait() {
    run(|| {
        let (fake, served) = probe(0);
        let given = (0..100).take_while(|_| fake.deliver(0, &[7; PAGE_SIZE])).count();
        assert_eq!(given, pair::BUFFERS);
        pause();
        assert!(!fake.deliver(0, b"more"));
        line().consume(PAGE_SIZE);
        assert!(fake.deliver(0, b"more") && !fake.deliver(0, b"and more"));
        served.remove();
    });
}

#[test]
fn empty_pages_go_back() {
    run(|| {
        let (fake, served) = probe(0);
        (0..200).for_each(|_| settle(|| fake.deliver(0, b"") || line().has_input()));
        assert!(!line().has_input());
        settle(|| fake.deliver(0, b"data"));
        assert!(line().has_input());
        served.remove();
    });
}

#[test]
fn last_words_take_the_short_way() {
    run(|| {
        let (fake, served) = probe(1 << EMERGENCY_WRITE);
        fake.set_stuck(true);
        line().send_last_words(b"panic");
        assert_eq!(fake.state.lock().emergency, b"panic");
        served.remove();
        LINES.lock().clear();
        let (fake, served) = probe(0);
        line().send_last_words(b"panic");
        assert_eq!(fake.output(1), b"panic");
        fake.set_stuck(true);
        line().send_last_words(b"nobody hears it, and it ends all the same");
        served.remove();
    });
}

#[test]
fn ports_come_and_go_and_carry_bytes() {
    run(|| {
        let (fake, served, file) = probe_port();
        assert_eq!(fake.heard(NO_PORT, event::DEVICE_READY, 1), 1);
        assert_eq!(fake.heard(1, event::PORT_OPEN, 1), 1);
        assert_eq!(open(1).err(), Some(Errno::EBUSY));
        assert_eq!(read_all(&file), Err(Errno::EAGAIN));
        assert_eq!(file.readiness(), PollEvents::WRITABLE);
        assert_eq!(write_all(&file, b"to the host"), Ok(11));
        assert_eq!(fake.output(5), b"to the host");
        assert!(fake.deliver(4, b"from the host ") && fake.deliver(4, b"in parts"));
        assert_eq!(file.readiness(), PollEvents::READABLE | PollEvents::WRITABLE);
        assert_eq!(read_all(&file).unwrap(), b"from the host in parts");
        // The host goes: what it sent is still read, then comes the end.
        assert!(fake.deliver(4, b"last"));
        fake.say(1, event::PORT_OPEN, 0, b"");
        settle(|| file.readiness().contains(PollEvents::HUP));
        assert_eq!(file.readiness(), PollEvents::READABLE | PollEvents::HUP);
        assert_eq!(read_all(&file).unwrap(), b"last");
        assert_eq!(read_all(&file).unwrap(), b"");
        assert_eq!(write_all(&file, b"nobody"), Err(Errno::EAGAIN));
        drop(file);
        assert_eq!(fake.heard(1, event::PORT_OPEN, 0), 1);
        // What comes while nobody has it open is for nobody.
        assert!(fake.deliver(4, b"too early"));
        pause();
        let file = open(1).unwrap();
        fake.say(1, event::PORT_OPEN, 1, b"");
        settle(|| !file.readiness().contains(PollEvents::HUP));
        assert_eq!(read_all(&file), Err(Errno::EAGAIN));
        // Pulled out under its reader.
        fake.say(1, event::DEVICE_REMOVE, 0, b"");
        settle(|| file.readiness() == PollEvents::HUP);
        assert_eq!((read_all(&file), write_all(&file, b"x")), (Err(Errno::ENODEV), Err(Errno::ENODEV)));
        assert_eq!(open(1).err(), Some(Errno::ENXIO));
        // And plugged in again while the old one is still open.
        fake.say(1, event::DEVICE_ADD, 0, b"");
        settle(|| fake.heard(1, event::PORT_READY, 1) == 2);
        let again = open(1).unwrap();
        drop(file);
        assert_eq!(fake.heard(1, event::PORT_OPEN, 0), 1, "the old one is nobody's any more");
        served.remove();
        assert_eq!(read_all(&again), Err(Errno::ENODEV));
        drop(again);
    });
}

#[test]
fn sleepers_wake_when_the_device_goes() {
    run(|| {
        let (fake, served, file) = probe_port();
        fake.set_stuck(true);
        assert_eq!(write_all(&file, &[1; 100_000]), Ok(32 << 10));
        assert_eq!(write_all(&file, &[1; 100_000]), Ok(32 << 10));
        assert_eq!(write_all(&file, &[1; 100_000]), Err(Errno::EAGAIN));
        let crew = sched::host::Crew::new();
        let reader = file.clone();
        crew.spawn("reader", move || {
            let mut bytes = [0; 10];
            let outcome = reader.read_from(&mut SliceWriter::new(&mut bytes), false);
            assert_eq!(outcome, Err(Errno::ENODEV));
        });
        let writer = file.clone();
        crew.spawn("writer", move || {
            let outcome = writer.write_to(&mut SliceReader::new(b"waits"), false);
            assert_eq!(outcome, Err(Errno::ENODEV));
        });
        pause();
        served.remove();
        crew.join();
    });
}

#[test]
fn consoles_among_ports() {
    run(|| {
        let (fake, served) = probe(1 << MULTIPORT | 1 << SIZE);
        fake.say(0, event::DEVICE_ADD, 0, b"");
        fake.say(0, event::CONSOLE_PORT, 1, b"");
        settle(|| fake.heard(0, event::PORT_OPEN, 1) == 1);
        assert_eq!(open(0).err(), Some(Errno::ENXIO));
        fake.say(0, event::RESIZE, 0, &[132, 0, 50, 0]);
        settle(|| told() == ["50 rows 132 columns"]);
        // Twice is once.
        fake.say(0, event::CONSOLE_PORT, 1, b"");
        fake.say(0, event::DEVICE_ADD, 0, b"");
        settle(|| fake.heard(0, event::PORT_READY, 1) == 2);
        assert_eq!(LINES.lock().len(), 1);
        fake.say(0, event::DEVICE_REMOVE, 0, b"");
        settle(|| told() == ["gone"]);
        served.remove();
        assert!(told().is_empty());
    });
}

#[test]
fn nonsense_is_passed_over() {
    run(|| {
        let (fake, served, file) = probe_port();
        for id in [4, 5, 63, 64, 1000, u32::MAX] {
            fake.say(id, event::DEVICE_ADD, 0, b"");
            settle(|| fake.heard(id, event::PORT_READY, 0) == 1);
        }
        for length in 0..8 {
            fake.say_bytes(&[0xff; 8][..length]);
        }
        fake.say(3, event::PORT_NAME, 1, b"no such port");
        fake.say(1, event::PORT_NAME, 1, b"\xff\xfe\0");
        fake.say(1, event::PORT_NAME, 1, &[b'n'; 4000]);
        fake.say(1, event::RESIZE, 0, &[1, 2]);
        // Port 1 is left alone: it must still work afterwards.
        let mut seed = 1u32;
        for _ in 0..300 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (id, event, value) = (seed >> 28, (seed >> 16) as u16 & 15, (seed >> 8) as u16 & 3);
            if id != 1 {
                fake.say(id, event, value, &seed.to_le_bytes());
            }
        }
        assert!(fake.deliver(4, b"still here"));
        settle(|| read_all(&file) == Ok(b"still here".to_vec()));
        assert_eq!(write_all(&file, b"both ways"), Ok(9));
        assert!(fake.output(5).ends_with(b"both ways"));
        served.remove();
    });
}

/// What a device does wrong with a page of a queue: the id that it names, and how much it says to have written there.
#[test]
fn a_device_that_breaks_the_rules_is_shut_off() {
    for (queue, id, written) in
        [(4, 31, 1), (4, 0xffff, 1), (4, 0, 4097), (2, 77, 8), (2, 0, 5000), (5, 0, 1)]
    {
        run(move || {
            let (fake, served, file) = probe_port();
            fake.say(0, event::DEVICE_ADD, 0, b"");
            fake.say(0, event::CONSOLE_PORT, 1, b"");
            settle(|| LINES.lock().len() == 1);
            if let Some(side) = fake.state.lock().sides.get_mut(&queue) {
                side.give(id, written);
            }
            fake.raise(queue);
            settle(|| file.readiness() == PollEvents::HUP);
            settle(|| told().iter().any(|what| what == "gone"));
            assert_eq!(read_all(&file), Err(Errno::ENODEV));
            settle(|| fake.state.lock().status == 0);
            served.remove();
        });
    }
}
