//! What is fuzzed: functions that take any bytes and must neither panic, nor hang, nor read past what they were given.
//!
//! | target | what |
//! |---|---|
//! | [`netlink`] | messages and attributes, under every strictness, and back through the builder |
//! | [`filter`] | classic BPF programs, checked and run over a packet |
//! | [`frame`] | an Ethernet frame and all headers in it, written again as far as they are read |
//! | [`discovery`] | neighbour discovery's messages |
//! | [`fragments`] | parts of one packet, put together against a model |
//!
//! `cargo fuzz run --features libfuzzer NAME` goes on from `corpus/NAME` (on a nightly toolchain); `cargo test` here runs what is
//! in the corpus, and changes of it, on any.

#![forbid(unsafe_code)]

mod wire;

use linnet_lib::bpf::{INSTRUCTIONS_MAX, Instruction, Program};
use linnet_lib::netlink::{
    AttributeIter, Attributes, Builder, HEADER, Messages, Policies, Policy, Strictness, align,
};

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by the name of their corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("netlink", netlink),
    ("filter", filter),
    ("frame", frame),
    ("discovery", discovery),
    ("fragments", fragments),
];

pub use wire::{discovery, fragments, frame};

static INNER: Policies = Policies {
    max: 8,
    rules: &[
        (1, Policy::NulString(15)),
        (2, Policy::Nest),
        (3, Policy::Exact(6)),
        (4, Policy::Flag),
        (5, Policy::Reject("no")),
    ],
};

/// One of each kind of rule.
static OUTER: Policies = Policies {
    max: 40,
    rules: &[
        (1, Policy::S32),
        (2, Policy::U32),
        (3, Policy::String(15)),
        (4, Policy::U16),
        (5, Policy::U64),
        (6, Policy::U8Range(1, 3)),
        (7, Policy::U32Range(1, 4096)),
        (8, Policy::S32Range(-1, 9)),
        (9, Policy::Binary(32)),
        (10, Policy::Unspecified(4)),
        (18, Policy::Nested(&INNER)),
        (20, Policy::U8),
    ],
};

/// Everything in a datagram of netlink messages.
pub fn netlink(bytes: &[u8]) {
    for message in Messages(bytes) {
        assert!(message.bytes.len() == HEADER + message.payload.len());
        for strictness in [Strictness::Liberal, Strictness::Old, Strictness::Strict] {
            for header in [1, 16] {
                let Ok(found) = Attributes::<41>::parse_message(&message, header, &OUTER, strictness) else {
                    continue;
                };
                for attribute in found.iter() {
                    // It lies where it says.
                    let start = attribute.offset + 4;
                    assert_eq!(&message.bytes[start..start + attribute.value.len()], attribute.value);
                    let _ =
                        (attribute.u8(), attribute.u16(), attribute.u32(), attribute.i32(), attribute.text());
                    let _ = Attributes::<9>::parse(attribute.nested(), &INNER, strictness);
                }
            }
        }
        copy(message.payload);
    }
}

/// What is read is written again, and reads as the same.
fn copy(payload: &[u8]) {
    let mut out = Builder::new(1 << 16);
    let Ok(mark) = out.begin(1, 0, 0, 0) else { return };
    let read: Vec<_> = AttributeIter::new(payload, HEADER).take(512).collect();
    for attribute in &read {
        if out.attribute(attribute.kind, attribute.value).is_err() {
            return;
        }
    }
    out.end(mark);
    let bytes = out.finish();
    assert_eq!(bytes.len(), align(bytes.len()));
    let again = AttributeIter::new(&bytes[HEADER..], HEADER);
    assert!(again.map(|one| (one.kind, one.value)).eq(read.iter().map(|one| (one.kind, one.value))));
}

/// A program of eight bytes for each instruction, and a packet behind it; the first byte says how many instructions.
pub fn filter(bytes: &[u8]) {
    let Some((count, rest)) = bytes.split_first() else { return };
    let (program, packet) = rest.split_at((usize::from(*count) * 8).min(rest.len()));
    let instructions: Vec<Instruction> = program
        .chunks_exact(8)
        .take(INSTRUCTIONS_MAX)
        .map(|bytes| Instruction {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jump_true: bytes[2],
            jump_false: bytes[3],
            operand: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    if let Ok(program) = Program::new(&instructions) {
        assert_eq!(program.instructions(), instructions);
        program.run(packet);
    }
}
