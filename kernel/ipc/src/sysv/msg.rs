//! Message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2).
//!
//! Key type: [`MessageQueue`]. Messages are kept by type, and the first of each type by age, so that every way to choose one is a
//! look at the front. Locks: one leaf spinlock; the wait queues are woken after it is released.

use super::{Access, Caller, Object, ProcessNumbers, now_s};
use abi::errno::{Errno, Result};
use abi::ipc::{Ipc64Perm, MSG_EXCEPT};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::{SpinLock, WaitKind, WaitQueue};

/// Whether to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// Until it can be done.
    Allowed,
    /// Not at all (`IPC_NOWAIT`).
    No,
}

/// Which message msgrcv(2) takes: the oldest of those that fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// Any.
    Any,
    /// Of this type.
    Type(i64),
    /// Of another type.
    Except(i64),
    /// Of the lowest type there is, if it is not above this.
    UpTo(i64),
}

impl Choice {
    /// What the arguments of msgrcv(2) say.
    pub fn new(kind: i64, flags: u32) -> Choice {
        match kind {
            0 => Choice::Any,
            ..0 => Choice::UpTo(kind.checked_neg().unwrap_or(i64::MAX)),
            _ if flags & MSG_EXCEPT != 0 => Choice::Except(kind),
            _ => Choice::Type(kind),
        }
    }
}

/// A message.
#[derive(Debug)]
pub struct Message {
    /// Above 0.
    pub kind: i64,
    /// What it says.
    pub text: Vec<u8>,
    age: u64,
}

/// The waiting messages.
#[derive(Default)]
struct Messages {
    by_kind: BTreeMap<i64, VecDeque<Message>>,
    /// The oldest of each kind.
    oldest: BTreeSet<(u64, i64)>,
    bytes: u64,
    count: u64,
    next_age: u64,
}

impl Messages {
    fn push(&mut self, kind: i64, text: Vec<u8>) -> Result<()> {
        let of_kind = self.by_kind.entry(kind).or_default();
        let room = of_kind.try_reserve(1);
        if room.is_ok() {
            let age = self.next_age;
            if of_kind.is_empty() {
                self.oldest.insert((age, kind));
            }
            self.bytes += text.len() as u64;
            (self.count, self.next_age) = (self.count + 1, age + 1);
            of_kind.push_back(Message { kind, text, age });
        } else if of_kind.is_empty() {
            self.by_kind.remove(&kind);
        }
        room.map_err(|_| Errno::ENOMEM)
    }

    /// The kind of the message that is chosen.
    fn choose(&self, choice: Choice) -> Option<i64> {
        match choice {
            Choice::Any => self.oldest.first().map(|(_, kind)| *kind),
            Choice::Type(kind) => self.by_kind.contains_key(&kind).then_some(kind),
            Choice::Except(not) => self.oldest.iter().map(|(_, kind)| *kind).find(|kind| *kind != not),
            Choice::UpTo(most) => self.by_kind.keys().next().copied().filter(|kind| *kind <= most),
        }
    }

    fn front_length(&self, kind: i64) -> usize {
        self.by_kind.get(&kind).and_then(|of_kind| of_kind.front()).map_or(0, |message| message.text.len())
    }

    fn pop(&mut self, kind: i64) -> Option<Message> {
        let of_kind = self.by_kind.get_mut(&kind)?;
        let message = of_kind.pop_front()?;
        self.oldest.remove(&(message.age, kind));
        match of_kind.front() {
            Some(next) => drop(self.oldest.insert((next.age, kind))),
            None => drop(self.by_kind.remove(&kind)),
        }
        self.bytes -= message.text.len() as u64;
        self.count -= 1;
        Some(message)
    }
}

/// What msgctl(2) shows besides the permissions.
#[derive(Clone, Default)]
pub struct Status {
    /// When it was last sent to, received from, changed: seconds of the epoch, 0 for never.
    pub sent_s: i64,
    /// See above.
    pub received_s: i64,
    /// See above.
    pub changed_s: i64,
    /// Bytes that wait.
    pub bytes: u64,
    /// Messages that wait.
    pub count: u64,
    /// Most bytes, and most messages.
    pub limit: u64,
    /// Who sent last.
    pub sender: ProcessNumbers,
    /// Who received last.
    pub receiver: ProcessNumbers,
}

struct State {
    access: Access,
    messages: Messages,
    status: Status,
    ended: bool,
}

/// A message queue.
pub struct MessageQueue {
    id: u32,
    state: SpinLock<State>,
    receivers: WaitQueue,
    senders: WaitQueue,
}

impl Object for MessageQueue {
    fn id(&self) -> u32 {
        self.id
    }

    fn access(&self) -> Access {
        self.state.lock().access.clone()
    }

    fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        let messages = core::mem::take(&mut state.messages);
        drop(state);
        drop(messages);
        self.receivers.wake_all();
        self.senders.wake_all();
    }
}

impl MessageQueue {
    /// An empty queue for so many bytes.
    pub fn new(id: u32, access: Access, limit: u32) -> Arc<MessageQueue> {
        let status = Status { changed_s: now_s(), limit: u64::from(limit), ..Status::default() };
        let state = State { access, messages: Messages::default(), status, ended: false };
        let (receivers, senders) = (WaitQueue::new(), WaitQueue::new());
        Arc::new(MessageQueue { id, state: SpinLock::new(state), receivers, senders })
    }

    /// Sends.
    ///
    /// # Errors
    /// `EACCES`; `EIDRM`: it was removed meanwhile; `EAGAIN`: it is full; `ERESTARTNOHAND`: a signal; `ENOMEM`.
    pub fn send(
        &self,
        caller: &Caller<'_>,
        sender: ProcessNumbers,
        message: (i64, Vec<u8>),
        waiting: Waiting,
    ) -> Result<()> {
        let mut content = Some((message, sender));
        let attempt = || self.try_send(caller, &mut content).transpose();
        wait(&self.senders, waiting, Errno::EAGAIN, attempt)?;
        self.receivers.wake_all();
        Ok(())
    }

    fn try_send(
        &self,
        caller: &Caller<'_>,
        content: &mut Option<((i64, Vec<u8>), ProcessNumbers)>,
    ) -> Result<Option<()>> {
        let mut state = self.state.lock();
        state.check(caller, 0o222)?;
        let Some(((kind, text), sender)) = content.take() else { return Ok(None) };
        let (limit, messages) = (state.status.limit, &mut state.messages);
        if messages.bytes + text.len() as u64 > limit || messages.count + 1 > limit {
            *content = Some(((kind, text), sender));
            return Ok(None);
        }
        messages.push(kind, text)?;
        state.status.sender = sender;
        state.status.sent_s = now_s();
        Ok(Some(()))
    }

    /// Receives the chosen message. One longer than `size` is left where it is unless `cut`.
    ///
    /// # Errors
    /// `E2BIG`; `EACCES`; `EIDRM`: it was removed meanwhile; `ENOMSG`; `ERESTARTNOHAND`: a signal.
    pub fn receive(
        &self,
        caller: &Caller<'_>,
        receiver: &ProcessNumbers,
        choice: Choice,
        longest: Option<usize>,
        waiting: Waiting,
    ) -> Result<Message> {
        let attempt = || {
            let mut state = self.state.lock();
            if let Err(error) = state.check(caller, 0o444) {
                return Some(Err(error));
            }
            let kind = state.messages.choose(choice)?;
            if longest.is_some_and(|longest| state.messages.front_length(kind) > longest) {
                return Some(Err(Errno::E2BIG));
            }
            let message = state.messages.pop(kind)?;
            state.status.receiver.clone_from(receiver);
            state.status.received_s = now_s();
            Some(Ok(message))
        };
        let message = wait(&self.receivers, waiting, Errno::ENOMSG, attempt)?;
        self.senders.wake_all();
        Ok(message)
    }

    /// `IPC_SET`: owner, mode, and most bytes. Errors: `EPERM`, `EINVAL`, `EIDRM`.
    pub fn set(&self, caller: &Caller<'_>, access: &Ipc64Perm, limit: u64) -> Result<()> {
        let mut state = self.state.lock();
        if state.ended {
            return Err(Errno::EIDRM);
        }
        state.access.set(caller, access)?;
        state.status.limit = limit;
        state.status.changed_s = now_s();
        drop(state);
        self.receivers.wake_all();
        self.senders.wake_all();
        Ok(())
    }

    /// What it is like.
    pub fn status(&self) -> (Access, Status) {
        let state = self.state.lock();
        let messages = &state.messages;
        let status = Status { bytes: messages.bytes, count: messages.count, ..state.status.clone() };
        (state.access.clone(), status)
    }
}

impl State {
    fn check(&self, caller: &Caller<'_>, wanted: u32) -> Result<()> {
        self.access.check(caller, wanted)?;
        if self.ended { Err(Errno::EIDRM) } else { Ok(()) }
    }
}

/// Tries until it is done or fails; `refusal` if it would have to wait and must not.
fn wait<R>(
    queue: &WaitQueue,
    waiting: Waiting,
    refusal: Errno,
    mut attempt: impl FnMut() -> Option<Result<R>>,
) -> Result<R> {
    match waiting {
        Waiting::No => attempt().unwrap_or(Err(refusal)),
        Waiting::Allowed => {
            let done = queue.wait_until(WaitKind::Interruptible, None, attempt);
            done.unwrap_or(Err(Errno::ERESTARTNOHAND))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_takes_the_oldest_that_fits() {
        let mut messages = Messages::default();
        for (kind, text) in [(3, b"a"), (1, b"b"), (3, b"c"), (2, b"d")] {
            messages.push(kind, text.to_vec()).unwrap();
        }
        let mut take = |choice| {
            let kind = messages.choose(choice)?;
            messages.pop(kind).map(|message| message.text[0])
        };
        assert_eq!(take(Choice::Type(9)), None);
        assert_eq!(take(Choice::UpTo(2)), Some(b'b'));
        assert_eq!(take(Choice::Except(3)), Some(b'd'));
        assert_eq!(take(Choice::UpTo(2)), None);
        assert_eq!(take(Choice::Any), Some(b'a'));
        assert_eq!(take(Choice::Type(3)), Some(b'c'));
        assert_eq!(take(Choice::Any), None);
        assert_eq!((messages.bytes, messages.count), (0, 0));
        assert!(messages.oldest.is_empty() && messages.by_kind.is_empty());
    }
}
