//! Classic BPF: the little machine that decides about packets (bpf(4) of BSD; Linux's `Documentation/networking/filter.rst`).
//!
//! Key types: [`Program`] (instructions that were checked), [`Packet`] (what it reads). A checked program jumps forward only and
//! ends in a return, so that it runs at most once through its instructions; a load outside of the packet or a
//! division by zero ends it with 0. Used for socket filters and for seccomp. Pure; no locks.

use abi::errno::{Errno, Result};
use alloc::boxed::Box;

/// The most instructions (`BPF_MAXINSNS`).
pub const INSTRUCTIONS_MAX: usize = 4096;
/// Words of scratch memory (`BPF_MEMWORDS`).
pub const MEMORY_WORDS: usize = 16;
/// Where ancillary data begins as an offset (`SKF_AD_OFF`).
pub const ANCILLARY_OFFSET: i32 = -0x1000;
/// Where the network header begins as an offset (`SKF_NET_OFF`).
pub const NETWORK_OFFSET: i32 = -0x100000;
/// Where the link header begins as an offset (`SKF_LL_OFF`).
pub const LINK_OFFSET: i32 = -0x200000;
/// One more than the highest ancillary number (`SKF_AD_MAX`).
pub const ANCILLARY_MAX: u32 = 64;

/// The ancillary number whose load is an exclusive or of both registers (`SKF_AD_ALU_XOR_X`).
const ANCILLARY_XOR: u32 = 40;

/// One instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How far to jump if a comparison holds.
    pub jump_true: u8,
    /// How far if not.
    pub jump_false: u8,
    /// The constant.
    pub operand: u32,
}

/// What a load's offset counts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// The packet's first byte as the socket sees it.
    Start,
    /// The network header.
    Network,
    /// The link header.
    Link,
}

/// What a program looks at.
pub trait Packet {
    /// Bytes in it.
    fn length(&self) -> u32;
    /// Copies bytes out of it; `false`: they are not all there.
    fn load(&self, region: Region, offset: u32, into: &mut [u8]) -> bool;
    /// An ancillary value (`SKF_AD_*`) with both registers at hand; `None`: there is no such here.
    fn ancillary(&self, number: u32, accumulator: u32, index: u32) -> Option<u32> {
        let _ = (number, accumulator, index);
        None
    }
}

impl Packet for [u8] {
    fn length(&self) -> u32 {
        self.len() as u32
    }

    fn load(&self, region: Region, offset: u32, into: &mut [u8]) -> bool {
        let start = offset as usize;
        let found = self.get(start..).and_then(|rest| rest.get(..into.len()));
        match found {
            Some(bytes) if region == Region::Start => {
                into.copy_from_slice(bytes);
                true
            }
            _ => false,
        }
    }
}

/// How wide a load is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Byte,
    Half,
    Word,
}

/// Where an operand comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Constant,
    Index,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    Lsh,
    Rsh,
    Neg,
    Mod,
    Xor,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

/// An instruction's code, understood.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    LoadConstant,
    LoadAbsolute(Width),
    LoadIndirect(Width),
    LoadLength,
    LoadMemory,
    IndexConstant,
    IndexLength,
    IndexMemory,
    /// Four times the low half of a byte: the length of an IP header.
    IndexHeader,
    Store,
    StoreIndex,
    Calculate(Arithmetic, Source),
    Jump,
    JumpIf(Comparison, Source),
    ReturnConstant,
    ReturnAccumulator,
    IndexFromAccumulator,
    AccumulatorFromIndex,
}

impl Operation {
    /// What a code means; `None`: nothing.
    fn decode(code: u16) -> Option<Operation> {
        const ABSOLUTE: u16 = 0x20;
        const INDIRECT: u16 = 0x40;
        let source = if code & 0x08 != 0 { Source::Index } else { Source::Constant };
        Some(match code {
            0x00 => Operation::LoadConstant,
            _ if code & !0x18 == ABSOLUTE => Operation::LoadAbsolute(Width::decode(code)?),
            _ if code & !0x18 == INDIRECT => Operation::LoadIndirect(Width::decode(code)?),
            0x80 => Operation::LoadLength,
            0x60 => Operation::LoadMemory,
            0x01 => Operation::IndexConstant,
            0x81 => Operation::IndexLength,
            0x61 => Operation::IndexMemory,
            0xb1 => Operation::IndexHeader,
            0x02 => Operation::Store,
            0x03 => Operation::StoreIndex,
            0x84 => Operation::Calculate(Arithmetic::Neg, Source::Constant),
            _ if code & !0xf8 == 0x04 => Operation::Calculate(Arithmetic::decode(code)?, source),
            0x05 => Operation::Jump,
            _ if code & !0xf8 == 0x05 => Operation::JumpIf(Comparison::decode(code)?, source),
            0x06 => Operation::ReturnConstant,
            0x16 => Operation::ReturnAccumulator,
            0x07 => Operation::IndexFromAccumulator,
            0x87 => Operation::AccumulatorFromIndex,
            _ => return None,
        })
    }
}

impl Width {
    fn decode(code: u16) -> Option<Width> {
        match code & 0x18 {
            0x00 => Some(Width::Word),
            0x08 => Some(Width::Half),
            0x10 => Some(Width::Byte),
            _ => None,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Width::Byte => 1,
            Width::Half => 2,
            Width::Word => 4,
        }
    }
}

impl Arithmetic {
    fn decode(code: u16) -> Option<Arithmetic> {
        Some(match code & 0xf0 {
            0x00 => Arithmetic::Add,
            0x10 => Arithmetic::Sub,
            0x20 => Arithmetic::Mul,
            0x30 => Arithmetic::Div,
            0x40 => Arithmetic::Or,
            0x50 => Arithmetic::And,
            0x60 => Arithmetic::Lsh,
            0x70 => Arithmetic::Rsh,
            0x90 => Arithmetic::Mod,
            0xa0 => Arithmetic::Xor,
            _ => return None,
        })
    }

    /// `None`: a division by zero.
    fn apply(self, left: u32, right: u32) -> Option<u32> {
        Some(match self {
            Arithmetic::Add => left.wrapping_add(right),
            Arithmetic::Sub => left.wrapping_sub(right),
            Arithmetic::Mul => left.wrapping_mul(right),
            Arithmetic::Div => left.checked_div(right)?,
            Arithmetic::Mod => left.checked_rem(right)?,
            Arithmetic::Or => left | right,
            Arithmetic::And => left & right,
            Arithmetic::Lsh => left.wrapping_shl(right),
            Arithmetic::Rsh => left.wrapping_shr(right),
            Arithmetic::Neg => left.wrapping_neg(),
            Arithmetic::Xor => left ^ right,
        })
    }
}

impl Comparison {
    fn decode(code: u16) -> Option<Comparison> {
        Some(match code & 0xf0 {
            0x10 => Comparison::Equal,
            0x20 => Comparison::Greater,
            0x30 => Comparison::GreaterOrEqual,
            0x40 => Comparison::AnyBit,
            _ => return None,
        })
    }

    fn holds(self, left: u32, right: u32) -> bool {
        match self {
            Comparison::Equal => left == right,
            Comparison::Greater => left > right,
            Comparison::GreaterOrEqual => left >= right,
            Comparison::AnyBit => left & right != 0,
        }
    }
}

/// A program that was checked.
#[derive(Debug)]
pub struct Program {
    instructions: Box<[Instruction]>,
}

impl Program {
    /// Checks the instructions. `EINVAL`: none or too many; an unknown code; a constant that makes no sense; a jump out of
    /// the program; memory that is read before it is written on some way; no return at the end. `ENOMEM`.
    pub fn new(instructions: &[Instruction]) -> Result<Program> {
        if instructions.is_empty() || instructions.len() > INSTRUCTIONS_MAX {
            return Err(Errno::EINVAL);
        }
        for (place, one) in instructions.iter().enumerate() {
            check(one, instructions.len() - place - 1)?;
        }
        let last = instructions.last().and_then(|last| Operation::decode(last.code));
        if !matches!(last, Some(Operation::ReturnConstant | Operation::ReturnAccumulator)) {
            return Err(Errno::EINVAL);
        }
        check_memory(instructions)?;
        let mut kept = alloc::vec::Vec::new();
        kept.try_reserve_exact(instructions.len()).map_err(|_| Errno::ENOMEM)?;
        kept.extend_from_slice(instructions);
        Ok(Program { instructions: kept.into_boxed_slice() })
    }

    /// Its instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// What it returns for this packet.
    pub fn run(&self, packet: &(impl Packet + ?Sized)) -> u32 {
        let mut state = State { accumulator: 0, index: 0, memory: [0; MEMORY_WORDS] };
        let mut place = 0;
        while let Some(one) = self.instructions.get(place) {
            match state.step(one, packet) {
                Step::Next(skipped) => place += 1 + skipped as usize,
                Step::Return(value) => return value,
            }
        }
        0
    }
}

/// Checks one instruction behind which `after` others follow.
fn check(one: &Instruction, after: usize) -> Result<()> {
    let operation = Operation::decode(one.code).ok_or(Errno::EINVAL)?;
    let operand = one.operand;
    let fine = match operation {
        Operation::Calculate(Arithmetic::Div | Arithmetic::Mod, Source::Constant) => operand != 0,
        Operation::Calculate(Arithmetic::Lsh | Arithmetic::Rsh, Source::Constant) => operand < 32,
        Operation::LoadMemory | Operation::IndexMemory | Operation::Store | Operation::StoreIndex => {
            (operand as usize) < MEMORY_WORDS
        }
        Operation::Jump => (operand as usize) < after,
        Operation::JumpIf(..) => usize::from(one.jump_true.max(one.jump_false)) < after,
        // From the ancillary offset on, only what there is.
        Operation::LoadAbsolute(_) if operand >= ANCILLARY_OFFSET as u32 => {
            let number = operand.wrapping_sub(ANCILLARY_OFFSET as u32);
            number < ANCILLARY_MAX && number.is_multiple_of(4)
        }
        _ => true,
    };
    if fine { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Every word of memory is written on each way to where it is read. Jumps go forward, so one pass is enough: for each place, the
/// words that were written on all ways to it.
fn check_memory(instructions: &[Instruction]) -> Result<()> {
    let mut known = alloc::vec::Vec::new();
    known.try_reserve_exact(instructions.len()).map_err(|_| Errno::ENOMEM)?;
    known.resize(instructions.len(), u16::MAX);
    let mut written: u16 = 0;
    for (place, one) in instructions.iter().enumerate() {
        written &= known.get(place).copied().unwrap_or_default();
        let bit = 1_u16.wrapping_shl(one.operand);
        let mut meet = |distance: usize, written: u16| {
            if let Some(there) = known.get_mut(place + 1 + distance) {
                *there &= written;
            }
        };
        match Operation::decode(one.code) {
            Some(Operation::Store | Operation::StoreIndex) => written |= bit,
            Some(Operation::LoadMemory | Operation::IndexMemory) if written & bit == 0 => {
                return Err(Errno::EINVAL);
            }
            Some(Operation::Jump) => {
                meet(one.operand as usize, written);
                written = u16::MAX;
            }
            Some(Operation::JumpIf(..)) => {
                meet(usize::from(one.jump_true), written);
                meet(usize::from(one.jump_false), written);
                written = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The registers while a program runs.
struct State {
    accumulator: u32,
    index: u32,
    memory: [u32; MEMORY_WORDS],
}

enum Step {
    /// Goes on, leaving out so many instructions.
    Next(u32),
    Return(u32),
}

impl State {
    fn step(&mut self, one: &Instruction, packet: &(impl Packet + ?Sized)) -> Step {
        let operand = one.operand;
        let word = operand as usize % MEMORY_WORDS;
        match Operation::decode(one.code) {
            Some(Operation::LoadConstant) => self.accumulator = operand,
            Some(Operation::LoadAbsolute(width)) => match self.load(packet, operand as i32, width) {
                Some(value) => self.accumulator = value,
                None => return Step::Return(0),
            },
            Some(Operation::LoadIndirect(width)) => {
                match self.load(packet, self.index.wrapping_add(operand) as i32, width) {
                    Some(value) => self.accumulator = value,
                    None => return Step::Return(0),
                }
            }
            Some(Operation::LoadLength) => self.accumulator = packet.length(),
            Some(Operation::LoadMemory) => self.accumulator = self.memory[word],
            Some(Operation::IndexConstant) => self.index = operand,
            Some(Operation::IndexLength) => self.index = packet.length(),
            Some(Operation::IndexMemory) => self.index = self.memory[word],
            Some(Operation::IndexHeader) => match self.load(packet, operand as i32, Width::Byte) {
                Some(value) => self.index = (value & 0xf) * 4,
                None => return Step::Return(0),
            },
            Some(Operation::Store) => self.memory[word] = self.accumulator,
            Some(Operation::StoreIndex) => self.memory[word] = self.index,
            Some(Operation::Calculate(what, source)) => {
                match what.apply(self.accumulator, self.operand(source, operand)) {
                    Some(value) => self.accumulator = value,
                    None => return Step::Return(0),
                }
            }
            Some(Operation::Jump) => return Step::Next(operand),
            Some(Operation::JumpIf(what, source)) => {
                let holds = what.holds(self.accumulator, self.operand(source, operand));
                return Step::Next(u32::from(if holds { one.jump_true } else { one.jump_false }));
            }
            Some(Operation::ReturnConstant) => return Step::Return(operand),
            Some(Operation::ReturnAccumulator) => return Step::Return(self.accumulator),
            Some(Operation::IndexFromAccumulator) => self.index = self.accumulator,
            Some(Operation::AccumulatorFromIndex) => self.accumulator = self.index,
            None => return Step::Return(0),
        }
        Step::Next(0)
    }

    fn operand(&self, source: Source, constant: u32) -> u32 {
        if source == Source::Index { self.index } else { constant }
    }

    /// A load; offsets below zero have meanings of their own.
    fn load(&self, packet: &(impl Packet + ?Sized), offset: i32, width: Width) -> Option<u32> {
        if (ANCILLARY_OFFSET..0).contains(&offset) {
            let number = offset.wrapping_sub(ANCILLARY_OFFSET) as u32;
            return match number {
                ANCILLARY_XOR => Some(self.accumulator ^ self.index),
                _ => packet.ancillary(number, self.accumulator, self.index),
            };
        }
        let (region, start) = match offset {
            0.. => (Region::Start, offset),
            NETWORK_OFFSET..0 => (Region::Network, offset.wrapping_sub(NETWORK_OFFSET)),
            LINK_OFFSET..NETWORK_OFFSET => (Region::Link, offset.wrapping_sub(LINK_OFFSET)),
            _ => return None,
        };
        let mut bytes = [0_u8; 4];
        // Network order, the value in the last bytes.
        let place = bytes.get_mut(4 - width.bytes()..)?;
        packet.load(region, start as u32, place).then(|| u32::from_be_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn one(code: u16, jump_true: u8, jump_false: u8, operand: u32) -> Instruction {
        Instruction { code, jump_true, jump_false, operand }
    }

    fn run(instructions: &[Instruction], packet: &[u8]) -> u32 {
        Program::new(instructions).unwrap().run(packet)
    }

    #[test]
    fn a_program_by_hand() {
        // Keep 42 bytes of packets whose half-word at 2 is 0x0800, else nothing.
        let program = [one(0x28, 0, 0, 2), one(0x15, 0, 1, 0x800), one(0x06, 0, 0, 42), one(0x06, 0, 0, 0)];
        assert_eq!(run(&program, &[0, 0, 8, 0]), 42);
        assert_eq!(run(&program, &[0, 0, 8, 1]), 0);
        assert_eq!(run(&program, &[0, 0, 8]), 0);
    }

    #[test]
    fn what_linux_refuses() {
        let end = one(0x06, 0, 0, 0);
        let refused: [&[Instruction]; 10] = [
            &[],
            &[one(0x00, 0, 0, 0)],
            &[one(0xffff, 0, 0, 0), end],
            &[one(0x34, 0, 0, 0), end],
            &[one(0x64, 0, 0, 32), end],
            &[one(0x02, 0, 0, 16), end],
            &[one(0x05, 0, 0, 1), end],
            &[one(0x15, 1, 0, 0), end],
            &[one(0x60, 0, 0, 0), end],
            &[one(0x20, 0, 0, ANCILLARY_OFFSET as u32 + 64), end],
        ];
        for program in refused {
            assert_eq!(Program::new(program).err(), Some(Errno::EINVAL), "{program:?}");
        }
        // Memory that only one of two ways writes.
        let half = [one(0x15, 1, 0, 0), one(0x02, 0, 0, 3), one(0x60, 0, 0, 3), end];
        assert_eq!(Program::new(&half).err(), Some(Errno::EINVAL));
    }

    #[test]
    fn division_by_zero_ends_it() {
        let program = [one(0x00, 0, 0, 7), one(0x3c, 0, 0, 0), one(0x06, 0, 0, 1)];
        assert_eq!(run(&program, &[]), 0);
    }

    fn codes() -> impl Strategy<Value = u16> {
        prop_oneof![8 => 0..=0xff_u16, 1 => any::<u16>()]
    }

    fn operands() -> impl Strategy<Value = u32> {
        prop_oneof![(0..20_u32), any::<u32>(), (0..80_u32).prop_map(|at| at.wrapping_sub(0x1000))]
    }

    proptest! {
        /// Whatever passes the check runs to an end, and touches each instruction once at most.
        #[test]
        fn checked_programs_end(
            text in proptest::collection::vec((codes(), 0..4_u8, 0..4_u8, operands()), 1..40),
            packet in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut text: Vec<_> = text.into_iter().map(|(c, t, f, k)| one(c, t, f, k)).collect();
            text.push(one(0x16, 0, 0, 0));
            // Keep what is valid by itself, so that long programs pass.
            text.retain(|one| check(one, 5).is_ok() || one.code == 0x16);
            if let Ok(program) = Program::new(&text) {
                let _ = program.run(packet.as_slice());
            }
        }

        /// Arithmetic is that of 32-bit words.
        #[test]
        fn arithmetic(left: u32, right in 1..u32::MAX) {
            let calculate = |code: u16| run(
                &[one(0x01, 0, 0, right), one(0x00, 0, 0, left), one(code | 0x0c, 0, 0, 0), one(0x16, 0, 0, 0)],
                &[],
            );
            assert_eq!(calculate(0x00), left.wrapping_add(right));
            assert_eq!(calculate(0x10), left.wrapping_sub(right));
            assert_eq!(calculate(0x20), left.wrapping_mul(right));
            assert_eq!(calculate(0x30), left / right);
            assert_eq!(calculate(0x90), left % right);
            assert_eq!(calculate(0xa0), left ^ right);
            assert_eq!(calculate(0x60), left.wrapping_shl(right));
        }
    }
}
