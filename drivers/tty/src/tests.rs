//! Terminals on the host backend: a serial port whose line is a buffer, pairs, and a fake process tree.

use crate::file::{Acquire, TtyFile};
use crate::job::{JobControl, set_job_control};
use crate::pty::Pty;
use crate::serial::SerialPort;
use crate::tty::{Blocking, Opened, Sink, Tty};
use abi::fcntl::OpenFlags;
use abi::poll::PollEvents;
use abi::termios::*;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use machine::sync::IrqSpinLock;
use mm::io::{SliceReader, SliceWriter};
use security::Credentials;
use task::job::{BackgroundAccess, Steal};
use task::signal::Signal;
use task::tree::Number;
use vfs::DeviceId;

/// The caller leads session 10 and is its only group; group 11 is in the background.
struct FakeJobs;

static SENT: IrqSpinLock<Vec<(Number, Signal)>> = IrqSpinLock::new(Vec::new());
static HUNG_UP: IrqSpinLock<Vec<Number>> = IrqSpinLock::new(Vec::new());
static LINE: IrqSpinLock<Vec<u8>> = IrqSpinLock::new(Vec::new());

impl JobControl for FakeJobs {
    fn controls_caller(&self, tty: &Arc<Tty>) -> bool {
        tty.session_and_foreground().0 == 10
    }
    fn terminal_of_caller(&self) -> Option<Arc<Tty>> {
        Tty::of_session(10)
    }
    fn session_of_caller(&self) -> Number {
        10
    }
    fn caller_may_acquire(&self) -> bool {
        Tty::of_session(10).is_none()
    }
    fn acquire(&self, _: &Arc<Tty>, current: Number, steal: Steal) -> Result<(Number, Number)> {
        if current == 0 || steal == Steal::Yes { Ok((10, 10)) } else { Err(Errno::EPERM) }
    }
    fn give_up(&self) -> Result<()> {
        Err(Errno::ENOTTY)
    }
    fn check_background(&self, _: Number, foreground: Number, access: BackgroundAccess) -> Result<()> {
        match (foreground, access) {
            (10, _) => Ok(()),
            (_, BackgroundAccess::Read) => Err(Errno::EIO),
            (_, BackgroundAccess::Write) => Err(Errno::ERESTARTSYS),
        }
    }
    fn signal_group(&self, group: Number, signal: Signal) {
        SENT.lock().push((group, signal));
    }
    fn hang_up(&self, session: Number) {
        HUNG_UP.lock().push(session);
        if let Some(tty) = Tty::of_session(session) {
            task::job::ControllingTerminal::release_session(&*tty);
        }
    }
    fn number_for_caller(&self, number: Number) -> i32 {
        number as i32
    }
    fn find_group(&self, number: i32) -> Option<Number> {
        (10..=11).contains(&number).then_some(number as Number)
    }
    fn session_of_group(&self, _: Number) -> Option<Number> {
        Some(10)
    }
    fn credentials(&self) -> Option<Arc<Credentials>> {
        None
    }
}

/// The statics above are of the process, so one test at a time.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn run(test: impl FnOnce() + Send) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    machine::host::run(1, 1, || {
        set_job_control(&FakeJobs);
        SENT.lock().clear();
        HUNG_UP.lock().clear();
        LINE.lock().clear();
        test();
    });
}

fn read(tty: &Arc<Tty>, opened: Opened) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 5000];
    let count = tty.read(&mut SliceWriter::new(&mut buffer), Blocking::No, opened)?;
    buffer.truncate(count);
    Ok(buffer)
}

fn write(tty: &Arc<Tty>, text: &[u8], opened: Opened) -> Result<usize> {
    tty.write(&mut SliceReader::new(text), Blocking::No, opened)
}

fn master_read(pty: &Pty) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 9000];
    let count = pty.master_read(&mut SliceWriter::new(&mut buffer), Blocking::No)?;
    buffer.truncate(count);
    Ok(buffer)
}

fn type_in(pty: &Pty, text: &[u8]) -> Result<usize> {
    pty.master_write(&mut SliceReader::new(text), Blocking::No)
}

fn pair() -> (Arc<Pty>, Arc<Tty>) {
    let pty = Pty::new(3).unwrap();
    assert_eq!(TtyFile::open(pty.slave().clone(), OpenFlags::RDWR, Acquire::Never).err(), Some(Errno::EIO));
    pty.set_locked(false);
    let slave = pty.slave().clone();
    (pty, slave)
}

fn modes(tty: &Tty, change: impl FnOnce(&mut Termios2)) {
    let mut termios = tty.termios();
    change(&mut termios);
    tty.set_termios(termios);
}

#[test]
fn a_serial_line_echoes_and_gives_lines() {
    run(|| {
        let port = Arc::new(SerialPort::new(|bytes| LINE.lock().extend_from_slice(bytes)).unwrap());
        let tty = Arc::new(Tty::new(DeviceId::new(4, 64), Sink::Serial(port.clone())).unwrap());
        let opened = tty.open().unwrap();
        b"ls\x7fa\r".iter().for_each(|byte| port.receive(*byte));
        assert_eq!(read(&tty, opened), Err(Errno::EAGAIN));
        while port.deliver(&tty) {}
        assert_eq!(read(&tty, opened).unwrap(), b"la\n");
        assert_eq!(&LINE.lock()[..], b"ls\x08 \x08a\r\n");
        LINE.lock().clear();
        assert_eq!(write(&tty, b"out\n", opened), Ok(4));
        assert_eq!(&LINE.lock()[..], b"out\r\n");
        // Stopped output waits, and goes out when it is started.
        port.receive(0x13);
        while port.deliver(&tty) {}
        assert_eq!(write(&tty, b"held", opened), Ok(4));
        assert_eq!((LINE.lock().len(), tty.output_len()), (5, 4));
        port.receive(0x11);
        while port.deliver(&tty) {}
        assert!(LINE.lock().ends_with(b"held"));
    });
}

#[test]
fn output_that_does_not_fit_waits_or_is_refused() {
    run(|| {
        let (pty, slave) = pair();
        let file = TtyFile::open(slave.clone(), OpenFlags::RDWR, Acquire::Never).unwrap();
        let opened = slave.hang_up_mark();
        let text = vec![b'x'; 10_000];
        let first = write(&slave, &text, opened).unwrap();
        assert!((4000..=4096).contains(&first));
        assert_eq!(write(&slave, b"y", opened), Err(Errno::EAGAIN));
        assert!(!file.readiness().contains(PollEvents::OUT));
        assert_eq!(master_read(&pty).unwrap().len(), first);
        assert!(file.readiness().contains(PollEvents::OUT));
    });
}

#[test]
fn control_characters_signal_the_foreground_group() {
    run(|| {
        let (pty, slave) = pair();
        let _file = TtyFile::open(slave.clone(), OpenFlags::RDWR, Acquire::Allowed).unwrap();
        assert_eq!(slave.session_and_foreground(), (10, 10));
        type_in(&pty, b"abc\x03\x1a").unwrap();
        slave.set_window(Winsize { ws_row: 24, ws_col: 80, ..Winsize::default() });
        slave.set_window(Winsize { ws_row: 24, ws_col: 80, ..Winsize::default() });
        let expected = [(10, Signal::SIGINT), (10, Signal::SIGTSTP), (10, Signal::SIGWINCH)];
        assert_eq!(&SENT.lock()[..], expected);
        // In the background reading fails; writing only with TOSTOP.
        let opened = slave.hang_up_mark();
        task::job::ControllingTerminal::set_foreground(&*slave, 11);
        assert_eq!(read(&slave, opened), Err(Errno::EIO));
        assert_eq!(write(&slave, b"x", opened), Ok(1));
        modes(&slave, |termios| termios.c_lflag |= TOSTOP);
        assert_eq!(write(&slave, b"x", opened), Err(Errno::ERESTARTSYS));
        pty.master_closed();
    });
}

#[test]
fn a_pair_carries_both_ways() {
    run(|| {
        let (pty, slave) = pair();
        let file = TtyFile::open(slave.clone(), OpenFlags::RDWR, Acquire::Never).unwrap();
        let opened = slave.hang_up_mark();
        assert_eq!(master_read(&pty), Err(Errno::EAGAIN));
        assert_eq!(type_in(&pty, b"ls\n"), Ok(3));
        assert!(file.readiness().contains(PollEvents::IN));
        assert_eq!(read(&slave, opened).unwrap(), b"ls\n");
        assert_eq!(master_read(&pty).unwrap(), b"ls\r\n");
        assert_eq!(write(&slave, b"a\nb\n", opened), Ok(4));
        assert!(pty.master_readiness().contains(PollEvents::IN | PollEvents::OUT));
        assert_eq!(master_read(&pty).unwrap(), b"a\r\nb\r\n");
        // The last close of the slave leaves what was written, then EIO; another open makes it live again.
        write(&slave, b"end", opened).unwrap();
        drop(file);
        assert!(pty.master_readiness().contains(PollEvents::HUP));
        assert_eq!(master_read(&pty).unwrap(), b"end");
        assert_eq!(master_read(&pty), Err(Errno::EIO));
        let _again = TtyFile::open(slave.clone(), OpenFlags::RDWR, Acquire::Never).unwrap();
        assert_eq!(master_read(&pty), Err(Errno::EAGAIN));
    });
}

#[test]
fn closing_the_master_hangs_the_slave_up() {
    run(|| {
        let (pty, slave) = pair();
        let file = TtyFile::open(slave.clone(), OpenFlags::RDWR, Acquire::Allowed).unwrap();
        let opened = slave.hang_up_mark();
        type_in(&pty, b"unread\n").unwrap();
        pty.master_closed();
        assert_eq!(read(&slave, opened).unwrap(), b"");
        assert_eq!(write(&slave, b"x", opened), Err(Errno::EIO));
        assert!(file.readiness().contains(PollEvents::HUP | PollEvents::ERR));
        assert_eq!(&HUNG_UP.lock()[..], [10]);
        assert_eq!(slave.session_and_foreground(), (0, 0));
        assert_eq!(TtyFile::open(slave, OpenFlags::RDWR, Acquire::Never).err(), Some(Errno::EIO));
    });
}

#[test]
fn the_console_survives_the_end_of_a_session() {
    run(|| {
        let port = Arc::new(SerialPort::new(|bytes| LINE.lock().extend_from_slice(bytes)).unwrap());
        let tty = Arc::new(Tty::new(DeviceId::new(4, 64), Sink::Serial(port)).unwrap());
        let console = TtyFile::open(tty.clone(), OpenFlags::RDWR, Acquire::Console).unwrap();
        let shell = TtyFile::open(tty.clone(), OpenFlags::RDWR, Acquire::Allowed).unwrap();
        let opened = tty.hang_up_mark();
        assert_eq!(tty.session_and_foreground(), (10, 10));
        // The leader of the session ends.
        task::job::ControllingTerminal::release_session(&*tty);
        assert_eq!(write(&tty, b"x", opened), Err(Errno::EIO));
        assert!(shell.readiness().contains(PollEvents::HUP));
        assert!(!console.readiness().contains(PollEvents::HUP));
        assert_eq!(write(&tty, b"still here", Opened::CONSOLE), Ok(10));
        assert_eq!(&LINE.lock()[..], b"still here");
    });
}

#[test]
fn a_pair_outlives_the_session() {
    run(|| {
        let (pty, slave) = pair();
        let file = TtyFile::open(slave.clone(), OpenFlags::RDWR, Acquire::Allowed).unwrap();
        let opened = slave.hang_up_mark();
        write(&slave, b"bye", opened).unwrap();
        task::job::ControllingTerminal::release_session(&*slave);
        assert!(!file.readiness().contains(PollEvents::HUP));
        assert!(!pty.master_readiness().contains(PollEvents::HUP));
        assert_eq!(write(&slave, b", not yet", opened), Ok(9));
        assert_eq!(master_read(&pty).unwrap(), b"bye, not yet");
        drop(file);
        assert_eq!(master_read(&pty), Err(Errno::EIO));
    });
}

#[test]
fn packets_say_what_they_carry() {
    run(|| {
        let (pty, slave) = pair();
        let _file = TtyFile::open(slave.clone(), OpenFlags::RDWR, Acquire::Never).unwrap();
        let opened = slave.hang_up_mark();
        pty.set_packet_mode(true);
        write(&slave, b"hi", opened).unwrap();
        assert_eq!(master_read(&pty).unwrap(), b"\0hi");
        type_in(&pty, b"\x13").unwrap();
        assert!(pty.master_readiness().contains(PollEvents::PRI));
        assert_eq!(master_read(&pty).unwrap(), [TIOCPKT_STOP as u8]);
        type_in(&pty, b"\x11").unwrap();
        assert_eq!(master_read(&pty).unwrap(), [TIOCPKT_START as u8]);
        let old = slave.termios();
        modes(&slave, |termios| termios.c_iflag &= !IXON);
        pty.note_modes_changed(&old, &slave.termios());
        assert_eq!(master_read(&pty).unwrap(), [TIOCPKT_NOSTOP as u8]);
    });
}

#[test]
fn reads_by_count_and_time() {
    run(|| {
        let (pty, slave) = pair();
        let _file = TtyFile::open(slave.clone(), OpenFlags::RDWR, Acquire::Never).unwrap();
        let opened = slave.hang_up_mark();
        modes(&slave, |termios| {
            termios.c_lflag &= !(ICANON | ECHO);
            termios.c_cc[VMIN as usize] = 0;
        });
        // Neither minimum nor time: never waits, not even to say EAGAIN.
        assert_eq!(read(&slave, opened).unwrap(), b"");
        type_in(&pty, b"ab").unwrap();
        assert_eq!(read(&slave, opened).unwrap(), b"ab");
        modes(&slave, |termios| termios.c_cc[VMIN as usize] = 3);
        assert_eq!(read(&slave, opened), Err(Errno::EAGAIN));
        type_in(&pty, b"ab").unwrap();
        // What is there is not kept back from a reader who does not wait.
        assert_eq!(read(&slave, opened).unwrap(), b"ab");
        let mut buffer = [0; 3];
        type_in(&pty, b"abcd").unwrap();
        assert_eq!(slave.read(&mut SliceWriter::new(&mut buffer), Blocking::Yes, opened), Ok(3));
        assert_eq!(read(&slave, opened).unwrap(), b"d");
        // A time without a minimum runs out.
        modes(&slave, |termios| {
            termios.c_cc[VMIN as usize] = 0;
            termios.c_cc[VTIME as usize] = 1;
        });
        assert_eq!(slave.read(&mut SliceWriter::new(&mut buffer), Blocking::Yes, opened), Ok(0));
    });
}

#[test]
fn a_full_slave_takes_no_more_input() {
    run(|| {
        let (pty, slave) = pair();
        let _file = TtyFile::open(slave.clone(), OpenFlags::RDWR, Acquire::Never).unwrap();
        modes(&slave, |termios| termios.c_lflag &= !(ICANON | ECHO));
        assert_eq!(type_in(&pty, &vec![b'x'; 5000]), Ok(4095));
        assert_eq!(type_in(&pty, b"y"), Err(Errno::EAGAIN));
        assert!(!pty.master_readiness().contains(PollEvents::OUT));
    });
}
