//! Tests of the line discipline: what POSIX and termios(3) say, and what Linux echoes.

use super::*;
use abi::termios::*;
use proptest::prelude::*;
use std::borrow::ToOwned;
use std::string::String;
use std::vec;
use std::vec::Vec;

#[derive(Default)]
struct Screen {
    out: Vec<u8>,
    urgent: Vec<u8>,
    signals: Vec<TerminalSignal>,
    flushes: usize,
    flows: Vec<Flow>,
}

impl Terminal for Screen {
    fn put(&mut self, byte: u8) {
        self.out.push(byte);
    }
    fn put_urgent(&mut self, byte: u8) {
        self.urgent.push(byte);
    }
    fn signal(&mut self, signal: TerminalSignal) {
        self.signals.push(signal);
    }
    fn flush_output(&mut self) {
        self.flushes += 1;
    }
    fn flow_changed(&mut self, flow: Flow) {
        self.flows.push(flow);
    }
}

struct Bench {
    ldisc: LineDiscipline,
    screen: Screen,
}

impl Bench {
    fn new() -> Self {
        Self { ldisc: LineDiscipline::new().unwrap(), screen: Screen::default() }
    }

    fn with(change: impl FnOnce(&mut Termios2)) -> Self {
        let mut bench = Self::new();
        bench.change(change);
        bench
    }

    fn change(&mut self, change: impl FnOnce(&mut Termios2)) {
        let mut termios = *self.ldisc.termios();
        change(&mut termios);
        self.ldisc.set_termios(termios, &mut self.screen);
    }

    fn raw() -> Self {
        Self::with(|t| {
            t.c_iflag = 0;
            t.c_oflag = 0;
            t.c_lflag = 0;
            t.c_cc[VMIN as usize] = 1;
        })
    }

    fn type_in(&mut self, bytes: &[u8]) -> usize {
        self.ldisc.receive(bytes, &mut self.screen)
    }

    fn read(&mut self, size: usize) -> Option<Vec<u8>> {
        let mut buffer = vec![0; size];
        let count = self.ldisc.read(&mut buffer, &mut self.screen)?;
        buffer.truncate(count);
        Some(buffer)
    }

    fn line(&mut self) -> Option<String> {
        self.read(5000).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn echoed(&mut self) -> String {
        String::from_utf8_lossy(&core::mem::take(&mut self.screen.out)).into_owned()
    }

    fn print(&mut self, text: &str) -> String {
        assert_eq!(self.ldisc.write(text.as_bytes(), 10_000, &mut self.screen), text.len());
        self.echoed()
    }
}

#[test]
fn a_line_is_read_when_it_ends() {
    let mut bench = Bench::new();
    bench.type_in(b"hello");
    assert_eq!(bench.line(), None);
    assert!(!bench.ldisc.is_poll_readable());
    bench.type_in(b"\r");
    assert_eq!(bench.ldisc.readable_bytes(), 6);
    assert_eq!(bench.echoed(), "hello\r\n");
    assert_eq!(bench.line().unwrap(), "hello\n");
    assert_eq!(bench.line(), None);
}

#[test]
fn one_read_gets_one_line_and_part_reads_continue() {
    let mut bench = Bench::new();
    bench.type_in(b"one\ntwo\n");
    assert_eq!(bench.read(2).unwrap(), b"on");
    assert_eq!(bench.read(100).unwrap(), b"e\n");
    assert_eq!(bench.read(4).unwrap(), b"two\n");
    assert_eq!(bench.read(4), None);
}

#[test]
fn end_of_file() {
    let mut bench = Bench::new();
    bench.type_in(b"\x04");
    assert_eq!(bench.read(10).unwrap(), b"");
    bench.type_in(b"abc\x04");
    assert_eq!(bench.ldisc.readable_bytes(), 3);
    assert_eq!(bench.read(10).unwrap(), b"abc");
    assert_eq!(bench.read(10), None);
    // A buffer that is just filled takes the mark with it.
    bench.type_in(b"abc\x04");
    assert_eq!(bench.read(3).unwrap(), b"abc");
    assert_eq!(bench.read(3), None);
    // Two in a row are an end of file after the data.
    bench.type_in(b"abc\x04\x04");
    assert_eq!(bench.read(3).unwrap(), b"abc");
    assert_eq!(bench.read(3).unwrap(), b"");
    assert_eq!(bench.echoed(), "abcabcabc");
}

#[test]
fn other_line_ends() {
    let mut bench = Bench::with(|t| {
        t.c_cc[VEOL as usize] = b';';
        t.c_cc[VEOL2 as usize] = b'!';
    });
    bench.type_in(b"a;b!c");
    assert_eq!(bench.line().unwrap(), "a;");
    assert_eq!(bench.line().unwrap(), "b!");
    assert_eq!(bench.line(), None);
    bench.change(|t| t.c_lflag &= !IEXTEN);
    bench.type_in(b"!\n");
    assert_eq!(bench.line().unwrap(), "c!\n");
}

#[test]
fn erase() {
    let mut bench = Bench::new();
    bench.type_in(b"ab\x7f\x7f\x7fc\n");
    assert_eq!(bench.echoed(), "ab\x08 \x08\x08 \x08c\r\n");
    assert_eq!(bench.line().unwrap(), "c\n");
    // Never back into a line that is complete.
    bench.type_in(b"x\n\x7fy\n");
    assert_eq!(bench.line().unwrap(), "x\n");
    assert_eq!(bench.line().unwrap(), "y\n");
}

#[test]
fn erase_of_control_characters_takes_two_columns() {
    let mut bench = Bench::new();
    bench.type_in(b"\x01\x7f");
    assert_eq!(bench.echoed(), "^A\x08 \x08\x08 \x08");
    bench.change(|t| t.c_lflag &= !ECHOCTL);
    bench.type_in(b"\x01\x7f");
    assert_eq!(bench.echoed(), "\x01");
}

#[test]
fn erase_of_utf8_takes_whole_characters() {
    let mut bench = Bench::with(|t| t.c_iflag |= IUTF8);
    bench.type_in("aé€".as_bytes());
    bench.echoed();
    bench.type_in(b"\x7f\x7f\n");
    assert_eq!(bench.echoed(), "\x08 \x08\x08 \x08\r\n");
    assert_eq!(bench.line().unwrap(), "a\n");
    // Without IUTF8 every byte is one.
    bench.change(|t| t.c_iflag &= !IUTF8);
    bench.type_in("é".as_bytes());
    bench.type_in(b"\x7f\n");
    assert_eq!(bench.read(9).unwrap(), b"\xc3\n");
    // A lone tail of a character is not erased in part.
    bench.change(|t| t.c_iflag |= IUTF8);
    bench.type_in(b"\xa9\x7f\n");
    assert_eq!(bench.read(9).unwrap(), b"\xa9\n");
}

#[test]
fn erase_of_tabs_goes_back_to_where_they_began() {
    let mut bench = Bench::new();
    bench.type_in(b"abc\t\x7f");
    assert_eq!(bench.echoed(), "abc\t\x08\x08\x08\x08\x08");
    bench.type_in(b"\x15\t\t\x7f\x7f");
    assert_eq!(bench.echoed(), "\x08 \x08\x08 \x08\x08 \x08\t\t".to_owned() + &"\x08".repeat(16));
    // After a prompt of three columns the first tab is five wide.
    bench.print("$  ");
    bench.type_in(b"\t\x7f");
    assert_eq!(bench.echoed(), "\t".to_owned() + &"\x08".repeat(5));
    // A control character before it counts two.
    bench.type_in(b"\x01\t\x7f");
    assert_eq!(bench.echoed(), "^A\t".to_owned() + &"\x08".repeat(3));
}

#[test]
fn kill_in_its_three_manners() {
    let mut bench = Bench::new();
    bench.type_in(b"abc\x15d\n");
    assert_eq!(bench.echoed(), "abc\x08 \x08\x08 \x08\x08 \x08d\r\n");
    assert_eq!(bench.line().unwrap(), "d\n");
    bench.change(|t| t.c_lflag &= !ECHOKE);
    bench.type_in(b"abc\x15d\n");
    assert_eq!(bench.echoed(), "abc^U\r\nd\r\n");
    bench.change(|t| t.c_lflag &= !ECHOK);
    bench.type_in(b"abc\x15d\n");
    assert_eq!(bench.echoed(), "abc^Ud\r\n");
    bench.change(|t| t.c_lflag &= !ECHO);
    bench.type_in(b"abc\x15d\n");
    assert_eq!(bench.echoed(), "");
    for _ in 0..3 {
        assert_eq!(bench.line().unwrap(), "d\n");
    }
}

#[test]
fn word_erase() {
    let mut bench = Bench::new();
    bench.type_in(b"foo bar_2  \x17\n");
    assert_eq!(bench.line().unwrap(), "foo \n");
    bench.type_in(b"a-b\x17\x17c\n");
    assert_eq!(bench.line().unwrap(), "c\n");
    bench.change(|t| t.c_lflag &= !IEXTEN);
    bench.type_in(b"ab\x17\n");
    assert_eq!(bench.line().unwrap(), "ab\x17\n");
}

#[test]
fn hardcopy_erase() {
    let mut bench = Bench::with(|t| t.c_lflag |= ECHOPRT);
    bench.type_in(b"abc\x7f\x7fx\n");
    assert_eq!(bench.echoed(), "abc\\cb/x\r\n");
    assert_eq!(bench.line().unwrap(), "ax\n");
    bench.type_in(b"a\x7f");
    assert_eq!(bench.echoed(), "a\\a/");
    bench.change(|t| t.c_lflag &= !(ECHOPRT | ECHOE));
    bench.type_in(b"a\x7f");
    assert_eq!(bench.echoed(), "a^?");
}

#[test]
fn literal_next() {
    let mut bench = Bench::new();
    bench.type_in(b"\x16\x03\x16\x16\x16\n\x16\x7f\n");
    assert_eq!(bench.read(10).unwrap(), b"\x03\x16\n\x7f\n");
    assert_eq!(bench.screen.signals, []);
    assert_eq!(bench.echoed(), "^\x08^C^\x08^V^\x08\r\n^\x08^?\r\n");
}

#[test]
fn reprint() {
    let mut bench = Bench::new();
    bench.type_in(b"ab\x01");
    bench.echoed();
    bench.type_in(b"\x12");
    assert_eq!(bench.echoed(), "^R\r\nab^A");
    bench.type_in(b"\n");
    assert_eq!(bench.line().unwrap(), "ab\x01\n");
}

#[test]
fn signals_flush_and_echo() {
    let mut bench = Bench::new();
    bench.type_in(b"done\nlost\x03");
    assert_eq!(bench.screen.signals, [TerminalSignal::Interrupt]);
    assert_eq!((bench.screen.flushes, bench.line()), (1, None));
    assert!(bench.echoed().ends_with("^C"));
    bench.type_in(b"\x1c\x1a");
    assert_eq!(bench.screen.signals[1..], [TerminalSignal::Quit, TerminalSignal::Suspend]);
    bench.change(|t| t.c_lflag |= NOFLSH);
    bench.type_in(b"kept\x03\n");
    assert_eq!(bench.line().unwrap(), "kept\n");
    assert_eq!(bench.screen.flushes, 3);
    bench.change(|t| t.c_lflag &= !ISIG);
    bench.type_in(b"\x03\n");
    assert_eq!(bench.line().unwrap(), "\x03\n");
    assert_eq!(bench.screen.signals.len(), 4);
}

#[test]
fn a_disabled_character_is_ordinary() {
    let mut bench = Bench::with(|t| t.c_cc[VINTR as usize] = DISABLED);
    bench.type_in(b"\0\x03\n");
    assert_eq!(bench.read(9).unwrap(), b"\0\x03\n");
    assert_eq!(bench.screen.signals, []);
}

#[test]
fn carriage_return_and_newline_mapping() {
    let mut bench = Bench::with(|t| t.c_iflag = IGNCR);
    bench.type_in(b"a\r\n");
    assert_eq!(bench.line().unwrap(), "a\n");
    bench.change(|t| t.c_iflag = INLCR);
    bench.type_in(b"a\n");
    assert_eq!(bench.line(), None);
    bench.change(|t| t.c_iflag = INLCR | ICRNL);
    bench.type_in(b"\r");
    assert_eq!(bench.line().unwrap(), "a\r\n");
    bench.change(|t| t.c_iflag = ISTRIP);
    bench.type_in(b"\xe1\n");
    assert_eq!(bench.line().unwrap(), "a\n");
    bench.change(|t| t.c_iflag = IUCLC);
    bench.type_in(b"ABC\n");
    assert_eq!(bench.line().unwrap(), "abc\n");
}

#[test]
fn echo_of_newline_alone() {
    let mut bench = Bench::with(|t| t.c_lflag = (t.c_lflag & !ECHO) | ECHONL);
    bench.type_in(b"secret\n");
    assert_eq!(bench.echoed(), "\r\n");
    bench.change(|t| t.c_lflag &= !ICANON);
    bench.type_in(b"x\n");
    assert_eq!(bench.echoed(), "");
}

#[test]
fn flow_control_of_output() {
    let mut bench = Bench::new();
    bench.type_in(b"\x13");
    assert_eq!(bench.ldisc.flow(), Flow::Stopped);
    bench.type_in(b"x\x11\n");
    assert_eq!(bench.screen.flows, [Flow::Stopped, Flow::Running]);
    assert_eq!(bench.line().unwrap(), "x\n");
    bench.change(|t| t.c_iflag |= IXANY);
    bench.type_in(b"\x13y");
    assert_eq!(bench.ldisc.flow(), Flow::Running);
    bench.type_in(b"\x13\x03");
    assert_eq!(bench.ldisc.flow(), Flow::Running);
    bench.type_in(b"\x13");
    bench.change(|t| t.c_iflag &= !IXON);
    assert_eq!(bench.ldisc.flow(), Flow::Running);
    bench.type_in(b"\x13\n");
    assert_eq!(bench.line().unwrap(), "\x13\n");
}

#[test]
fn flow_control_of_input() {
    let mut bench = Bench::raw();
    bench.change(|t| t.c_iflag |= IXOFF);
    assert_eq!(bench.type_in(&[b'x'; 5000]), INPUT_CAPACITY - 1);
    assert_eq!(bench.screen.urgent, [19]);
    assert_eq!(bench.read(3000).unwrap().len(), 3000);
    assert_eq!(bench.screen.urgent, [19]);
    assert_eq!(bench.read(1000).unwrap().len(), 1000);
    assert_eq!(bench.screen.urgent, [19, 17]);
}

#[test]
fn an_overlong_line_is_cut_and_still_ends() {
    let mut bench = Bench::new();
    assert_eq!(bench.type_in(&[b'x'; 6000]), 6000);
    assert_eq!(bench.line(), None);
    assert_eq!(bench.type_in(b"\nafter"), 1);
    let line = bench.read(5000).unwrap();
    assert_eq!((line.len(), line[4094], line[4095]), (4096, b'x', b'\n'));
    assert_eq!(bench.type_in(b"after\n"), 6);
    assert_eq!(bench.line().unwrap(), "after\n");
}

#[test]
fn a_full_queue_takes_no_more_until_it_is_read() {
    let mut bench = Bench::raw();
    assert_eq!(bench.type_in(&[b'x'; 4090]), 4090);
    assert_eq!(bench.type_in(b"123456789"), 5);
    assert!(!bench.ldisc.can_receive());
    assert_eq!(bench.read(1).unwrap(), b"x");
    assert!(bench.ldisc.can_receive());
    assert_eq!(bench.type_in(b"67"), 1);
}

#[test]
fn reading_bytes() {
    let mut bench = Bench::raw();
    assert_eq!(bench.ldisc.read_policy(), ReadPolicy::Bytes { minimum: 1, time_ds: 0 });
    bench.type_in(b"a\n\x03\x04\x7f");
    assert_eq!(bench.ldisc.readable_bytes(), 5);
    assert_eq!(bench.read(2).unwrap(), b"a\n");
    assert_eq!(bench.read(9).unwrap(), b"\x03\x04\x7f");
    assert_eq!(bench.read(9), None);
    bench.change(|t| t.c_cc[VMIN as usize] = 3);
    bench.type_in(b"ab");
    assert!(bench.ldisc.has_readable() && !bench.ldisc.is_poll_readable());
    bench.type_in(b"c");
    assert!(bench.ldisc.is_poll_readable());
    bench.change(|t| t.c_cc[VTIME as usize] = 5);
    assert_eq!(bench.read(2).unwrap(), b"ab");
    assert!(bench.ldisc.is_poll_readable());
    assert_eq!(bench.echoed(), "");
}

#[test]
fn switching_modes_keeps_the_input() {
    let mut bench = Bench::new();
    bench.type_in(b"half");
    bench.change(|t| t.c_lflag &= !ICANON);
    assert_eq!(bench.read(2).unwrap(), b"ha");
    bench.change(|t| t.c_lflag |= ICANON);
    assert_eq!(bench.line().unwrap(), "lf");
    bench.change(|t| t.c_lflag &= !ICANON);
    bench.change(|t| t.c_lflag |= ICANON);
    assert_eq!(bench.line(), None);
    bench.type_in(b"x\ny");
    bench.ldisc.flush_input(&mut bench.screen);
    bench.type_in(b"z\n");
    assert_eq!(bench.line().unwrap(), "z\n");
}

#[test]
fn breaks_and_parity_errors() {
    let mut bench = Bench::raw();
    bench.ldisc.receive_break(&mut bench.screen);
    bench.change(|t| t.c_iflag = PARMRK | INPCK);
    bench.ldisc.receive_break(&mut bench.screen);
    bench.ldisc.receive_error(b'e', &mut bench.screen);
    bench.type_in(b"\xff");
    assert_eq!(bench.read(99).unwrap(), b"\0\xff\0\0\xff\0e\xff\xff");
    bench.change(|t| t.c_iflag = IGNBRK | INPCK | IGNPAR);
    bench.ldisc.receive_break(&mut bench.screen);
    bench.ldisc.receive_error(b'e', &mut bench.screen);
    bench.change(|t| t.c_iflag = INPCK | BRKINT);
    bench.ldisc.receive_error(b'e', &mut bench.screen);
    assert_eq!(bench.read(99).unwrap(), b"\0");
    bench.ldisc.receive_break(&mut bench.screen);
    assert_eq!(bench.screen.signals, [TerminalSignal::Interrupt]);
}

#[test]
fn output_modes() {
    let mut bench = Bench::new();
    assert_eq!(bench.print("a\nb\r\tc"), "a\r\nb\r\tc");
    bench.change(|t| t.c_oflag |= XTABS);
    assert_eq!(bench.print("\rab\tc"), "\rab      c");
    bench.change(|t| t.c_oflag = OPOST | OCRNL);
    assert_eq!(bench.print("a\r"), "a\n");
    bench.change(|t| t.c_oflag = OPOST | ONOCR);
    bench.print("\n\r");
    assert_eq!(bench.print("\ra\r\r"), "a\r");
    bench.change(|t| t.c_oflag = OPOST | OLCUC);
    assert_eq!(bench.print("abC1"), "ABC1");
    bench.change(|t| t.c_oflag = OPOST | ONLRET | XTABS);
    assert_eq!(bench.print("abc\n\t"), "abc\n        ");
    bench.change(|t| t.c_oflag = 0);
    assert_eq!(bench.print("a\n\t\r"), "a\n\t\r");
}

#[test]
fn output_columns_know_utf8_and_backspace() {
    let mut bench = Bench::with(|t| {
        t.c_oflag |= XTABS;
        t.c_iflag |= IUTF8;
    });
    assert_eq!(bench.print("é\t|"), "é       |");
    assert_eq!(bench.print("\rab\x08\t|"), "\rab\x08       |");
    assert_eq!(bench.print("\r\x1b\x07\t|"), "\r\x1b\x07        |");
}

#[test]
fn output_stops_where_the_room_ends() {
    let mut bench = Bench::with(|t| t.c_oflag |= XTABS);
    assert_eq!(bench.ldisc.write(b"ab\ncd", 3, &mut bench.screen), 2);
    assert_eq!(bench.echoed(), "ab");
    assert_eq!(bench.ldisc.write(b"\tx", 5, &mut bench.screen), 0);
    assert_eq!(bench.ldisc.write(b"\tx", 6, &mut bench.screen), 1);
    assert_eq!(bench.ldisc.write(b"xyz", 0, &mut bench.screen), 0);
}

#[test]
fn tab_echoes_as_itself_and_bell_for_overlong_lines() {
    let mut bench = Bench::with(|t| t.c_iflag |= IMAXBEL);
    bench.type_in(b"\t");
    assert_eq!(bench.echoed(), "\t");
    bench.type_in(&[b'x'; 4095]);
    bench.echoed();
    bench.type_in(b"y");
    assert_eq!(bench.echoed(), "\x07y");
}

#[derive(Clone, Debug)]
enum Action {
    Type(Vec<u8>),
    Read(usize),
    Modes(u32, u32, u32),
    Flush,
    Print(Vec<u8>),
    Break,
}

fn action() -> impl Strategy<Value = Action> {
    let keys = prop_oneof![
        4 => any::<u8>(),
        3 => prop::sample::select(b"\x03\x04\x08\x11\x12\x13\x15\x16\x17\x1a\x1c\x7f\n\r\t \0a\xc3\xa9\xff".to_vec()),
    ];
    let text = prop::collection::vec(keys, 0..60);
    prop_oneof![
        6 => text.clone().prop_map(Action::Type),
        1 => (1000usize..5000).prop_map(|n| Action::Type(vec![b'x'; n])),
        4 => (0usize..5000).prop_map(Action::Read),
        2 => (0u32..0x8000, 0u32..0x2000, 0u32..0x10000).prop_map(|(i, o, l)| Action::Modes(i, o, l)),
        1 => Just(Action::Flush),
        2 => text.prop_map(Action::Print),
        1 => Just(Action::Break),
    ]
}

proptest! {
    /// Whatever is done, counts fit, reads agree with what was announced, and the column never panics.
    #[test]
    fn holds_together(actions in prop::collection::vec(action(), 1..60)) {
        let mut bench = Bench::new();
        for action in actions {
            match action {
                Action::Type(bytes) => {
                    let taken = bench.type_in(&bytes);
                    prop_assert!(taken == bytes.len() || !bench.ldisc.can_receive());
                }
                Action::Read(size) => {
                    let (readable, bytes) = (bench.ldisc.has_readable(), bench.ldisc.readable_bytes());
                    let result = bench.read(size);
                    prop_assert_eq!(result.is_some(), readable);
                    prop_assert!(result.map_or(0, |r| r.len()) <= bytes.min(size));
                }
                Action::Modes(i, o, l) => bench.change(|t| { t.c_iflag = i; t.c_oflag = o; t.c_lflag = l; }),
                Action::Flush => {
                    bench.ldisc.flush_input(&mut bench.screen);
                    prop_assert_eq!(bench.ldisc.readable_bytes(), 0);
                }
                Action::Print(bytes) => { bench.ldisc.write(&bytes, 50, &mut bench.screen); }
                Action::Break => bench.ldisc.receive_break(&mut bench.screen),
            }
            prop_assert!(bench.ldisc.readable_bytes() <= INPUT_CAPACITY);
        }
    }

    /// What is typed without special characters comes out as it went in, however it is cut up.
    #[test]
    fn raw_bytes_are_kept(bytes in prop::collection::vec(any::<u8>(), 0..4000), cut in 1usize..700) {
        let mut bench = Bench::raw();
        let mut out = Vec::new();
        for piece in bytes.chunks(cut) {
            prop_assert_eq!(bench.type_in(piece), piece.len());
            while let Some(part) = bench.read(cut / 2 + 1) {
                out.extend(part);
            }
        }
        prop_assert_eq!(out, bytes);
    }

    /// The room given for output is never exceeded.
    #[test]
    fn output_fits(bytes in prop::collection::vec(any::<u8>(), 0..100), room in 0usize..200, modes in 0u32..0x2000) {
        let mut bench = Bench::with(|t| t.c_oflag = modes);
        bench.ldisc.write(&bytes, room, &mut bench.screen);
        prop_assert!(bench.screen.out.len() <= room);
    }
}
