//! The client against servers in software: one that keeps the rules, and ones that say anything.
//!
//! Key type: [`Server`], a channel whose other end is a function. No locks.

use crate::call::{After, Call, Parts, Shared};
use crate::client::{Client, DEFAULT_SIZE, Fid};
use crate::protocol::{ERROR, Kind, Message, VERSION};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use channel::{Channel, Exchange, Piece, Refusal};
use machine::PAGE_SIZE;
use machine::memory::{AllocFlags, Frame};
use machine::sync::WaitQueue;
use proptest::prelude::*;
use std::sync::Mutex;
use vfs::{AttributeChange, XattrMode};

/// What a server does with a message: kind and what follows the tag. Gives the kind and the rest of its answer.
type Serve = dyn FnMut(u8, &[u8]) -> (u8, Vec<u8>) + Send;

struct Server {
    serve: Mutex<Box<Serve>>,
    /// What it says it has written, if not the truth.
    written: Option<u32>,
    room: WaitQueue,
}

/// All bytes of pieces.
fn gather(pieces: &[Piece]) -> Vec<u8> {
    let mut all = Vec::new();
    for piece in pieces {
        let mut bytes = vec![0; piece.length as usize];
        piece.frame.read(piece.offset as usize, &mut bytes);
        all.extend(bytes);
    }
    all
}

/// Fills pieces; gives how many bytes found room.
fn scatter(mut bytes: &[u8], pieces: &[Piece]) -> u32 {
    let mut done = 0;
    for piece in pieces {
        let (now, later) = bytes.split_at(bytes.len().min(piece.length as usize));
        piece.frame.write(piece.offset as usize, now);
        done += now.len() as u32;
        bytes = later;
    }
    done
}

impl Channel for Server {
    fn max_pieces(&self) -> usize {
        48
    }

    fn submit(&self, exchange: Arc<dyn Exchange>) -> core::result::Result<(), Refusal> {
        let message = gather(exchange.message());
        assert_eq!(u32::from_le_bytes(message[..4].try_into().unwrap()) as usize, message.len());
        let (kind, body) = (self.serve.lock().unwrap())(message[4], &message[7..]);
        let mut answer = ((body.len() + 7) as u32).to_le_bytes().to_vec();
        answer.push(kind);
        answer.extend_from_slice(&message[5..7]);
        answer.extend(body);
        let truth = scatter(&answer, exchange.answer());
        let room: u32 = exchange.answer().iter().map(|piece| piece.length).sum();
        exchange.complete(Ok(self.written.map_or(truth, |said| said.min(room))));
        Ok(())
    }

    fn room(&self) -> &WaitQueue {
        &self.room
    }
}

/// A server under a name of its own.
fn with_server<R>(
    written: Option<u32>,
    serve: impl FnMut(u8, &[u8]) -> (u8, Vec<u8>) + Send + 'static,
    test: impl FnOnce(Result<Arc<Client>>) -> R,
) -> R {
    static NEXT: Mutex<u32> = Mutex::new(0);
    let name = {
        let mut next = NEXT.lock().unwrap();
        *next += 1;
        next.to_le_bytes()
    };
    let serve = Mutex::new(Box::new(serve) as Box<Serve>);
    let server = Arc::new(Server { serve, written, room: WaitQueue::new() });
    let registration = channel::register(&name, server).unwrap();
    let result = test(Client::new(channel::claim(&name).unwrap(), DEFAULT_SIZE));
    drop(registration);
    result
}

fn word(body: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(body[at..at + 4].try_into().unwrap())
}

/// The answer to the first message.
fn version() -> (u8, Vec<u8>) {
    let mut body = 65536u32.to_le_bytes().to_vec();
    body.extend_from_slice(&(VERSION.len() as u16).to_le_bytes());
    body.extend_from_slice(VERSION);
    (101, body)
}

/// A server of one file, which remembers which numbers are in use.
fn honest(known: Arc<Mutex<Vec<u32>>>) -> impl FnMut(u8, &[u8]) -> (u8, Vec<u8>) + Send {
    let mut contents = Vec::new();
    move |kind, body| {
        let error = |code: u32| (ERROR, code.to_le_bytes().to_vec());
        let mut known = known.lock().unwrap();
        match kind {
            100 => version(),
            104 => {
                known.push(word(body, 0));
                (105, vec![0; 13])
            }
            110 if body[8] == 1 && body[12..] != *b"file" => error(2),
            110 => {
                known.push(word(body, 4));
                let names = body[8];
                let mut answer = vec![names, 0];
                answer.resize(2 + 13 * usize::from(names), 0);
                (111, answer)
            }
            12 => (13, vec![0; 17]),
            116 => {
                let (offset, count) = (word(body, 4) as usize, word(body, 12) as usize);
                let rest: &[u8] = contents.get(offset..).unwrap_or_default();
                let part = &rest[..rest.len().min(count)];
                let mut answer = (part.len() as u32).to_le_bytes().to_vec();
                answer.extend_from_slice(part);
                (117, answer)
            }
            118 => {
                let (offset, count) = (word(body, 4) as usize, word(body, 12) as usize);
                if contents.len() < offset + count {
                    contents.resize(offset + count, 0);
                }
                contents[offset..offset + count].copy_from_slice(&body[16..]);
                (119, (count as u32).to_le_bytes().to_vec())
            }
            120 => {
                let number = word(body, 0);
                let at = known.iter().position(|one| *one == number).expect("an unknown number");
                known.remove(at);
                (121, Vec::new())
            }
            _ => error(95),
        }
    }
}

fn filled(bytes: &[u8]) -> Vec<Piece> {
    let piece = |part: &[u8]| {
        let frame = Frame::alloc(AllocFlags::ZEROED).unwrap();
        frame.write(0, part);
        Piece { frame, offset: 0, length: part.len() as u32 }
    };
    bytes.chunks(PAGE_SIZE).map(piece).collect()
}

#[test]
fn bytes_come_back_and_numbers_are_given_back() {
    let known = Arc::new(Mutex::new(Vec::new()));
    with_server(None, honest(known.clone()), |client| {
        let client = client.unwrap();
        // 65536 without the header, in whole pages.
        assert_eq!(client.most_data(), 65536 - PAGE_SIZE);
        let root = client.attach(b"nobody", 0, b"").unwrap();
        assert_eq!(root.walk(Some(b"other")).err(), Some(Errno::ENOENT));
        let file = root.walk(Some(b"file")).unwrap();
        file.open(2).unwrap();
        let bytes: Vec<u8> = (0..10000u32).map(|number| number as u8).collect();
        assert_eq!(file.write(5, &filled(&bytes)), Ok(10000));
        let room = filled(&[0; 12000]);
        assert_eq!(file.read(0, &room), Ok(10005));
        let read = gather(&room);
        assert_eq!((&read[..5], &read[5..10005]), (&[0; 5][..], &bytes[..]));
        assert_eq!(file.read(10005, &room), Ok(0));
        assert_eq!(file.sync(false), Err(Errno::EOPNOTSUPP));
        assert_eq!(known.lock().unwrap().len(), 2);
        drop((file, root));
        assert!(known.lock().unwrap().is_empty());
        // The lowest are used again.
        let again = client.attach(b"nobody", 0, b"").unwrap();
        assert!(known.lock().unwrap().iter().all(|number| *number < 3));
        drop(again);
        client.end();
    });
}

#[test]
fn a_server_of_another_dialect_is_refused() {
    for (size, text) in [(65536u32, &b"9P2000.u"[..]), (4095, VERSION), (u32::MAX, VERSION)] {
        let serve = move |_: u8, _: &[u8]| {
            let mut body = size.to_le_bytes().to_vec();
            body.extend_from_slice(&(text.len() as u16).to_le_bytes());
            body.extend_from_slice(text);
            (101, body)
        };
        let error = with_server(None, serve, |client| client.err());
        assert_eq!(error, Some(Errno::EREMOTEIO));
    }
}

#[test]
fn a_tag_is_free_when_both_the_call_and_its_flush_are_answered() {
    let shared = Shared::new().unwrap();
    let call = |kind| {
        let message = Message::new(kind, 0).unwrap();
        let parts = Parts { data: &[], head: 64, into: &[] };
        Call::new(&shared, message, &parts, After::Nothing).unwrap()
    };
    let first = call(Kind::Read);
    let flush = Call::flush_of(&first).unwrap();
    let tag = first.tag();
    assert_ne!(flush.tag(), tag);
    // The one that waited gives up; the channel has answered the call.
    first.complete(Ok(0));
    drop(first);
    assert_ne!(call(Kind::Read).tag(), tag);
    flush.complete(Ok(7));
    drop(flush);
    assert_eq!(call(Kind::Read).tag(), tag);
    assert!(shared.wait_for_all(0));
}

/// Everything a client can ask of a file.
fn ask_everything(file: &Fid) {
    let room = filled(&[0; 5000]);
    let _ = file.attributes();
    let _ = file.set_attributes(&AttributeChange { size: Some(1), ..AttributeChange::default() });
    let _ = file.open(0);
    let _ = file.create(b"name", 0, 0, 0);
    let _ = file.walk(Some(b"name"));
    let _ = file.walk(None);
    if let Ok(count) = file.read(0, &room) {
        assert!(count <= 5000);
    }
    if let Ok(count) = file.write(0, &room) {
        assert!(count <= 5000);
    }
    let _ = file.list(0);
    let _ = file.read_link();
    let _ = file.space();
    let _ = file.sync(true);
    let _ = file.xattr(b"user.a");
    let _ = file.set_xattr(b"user.a", b"value", XattrMode::Any);
    let _ = file.link(file, b"name");
    let _ = file.rename(b"name", file, b"other");
    let _ = file.unlink(b"name", 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever a server says, each call ends, and no more is believed to have been moved than there was room.
    #[test]
    fn a_server_that_says_anything_is_survived(
        answers in prop::collection::vec((prop::option::of(any::<u8>()), prop::collection::vec(any::<u8>(), 0..200)), 1..40),
        written in prop::option::of(any::<u32>()),
    ) {
        let mut turn = 0usize;
        let serve = move |kind: u8, _body: &[u8]| {
            if kind == 100 {
                return version();
            }
            turn += 1;
            let (said, body) = &answers[turn % answers.len()];
            (said.unwrap_or(kind + 1), body.clone())
        };
        with_server(None, serve, |client| {
            let client = client.unwrap();
            let _ = client.attach(b"nobody", 0, b"").map(|root| ask_everything(&root));
        });
        let serve = |kind: u8, _: &[u8]| if kind == 100 { version() } else { (kind + 1, vec![0; 100]) };
        with_server(written, serve, |client| {
            if let Ok(client) = client {
                let _ = client.attach(b"nobody", 0, b"").map(|root| ask_everything(&root));
            }
        });
    }
}
