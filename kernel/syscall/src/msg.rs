//! System V message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2).
//!
//! Decoding and encoding; the queues are in `ipc::sysv`, in the caller's IPC namespace. Locks: none.

use crate::decode::Context;
use abi::errno::{Errno, Result};
use abi::ipc::{
    IPC_INFO, IPC_NOWAIT, IPC_RMID, IPC_SET, IPC_STAT, MSG_COPY, MSG_EXCEPT, MSG_INFO, MSG_NOERROR, MSG_STAT,
    MSG_STAT_ANY, MsgInfo, Msqid64Ds,
};
use alloc::sync::Arc;
use alloc::vec::Vec;
use ipc::sysv::msg::{Choice, MessageQueue, Waiting};
use ipc::sysv::{Caller, Object, Objects, ProcessNumbers};
use mm::user::{UserPtr, UserSlice};
use security::{Capability, Credentials};
use task::namespaces::IpcNamespace;
use zerocopy::FromZeros;

/// The bytes of a message begin after its type.
const TYPE_BYTES: usize = 8;
/// Linux's `MSGMNI`, `MSGMNB`, `MSGSSZ`: what `IPC_INFO` calculates with.
const DEFAULT_QUEUES: i32 = 32000;
const DEFAULT_BYTES: i32 = 16384;
const SEGMENT_BYTES: i32 = 16;

/// Whose call it is and where.
pub(crate) struct Place {
    namespace: Arc<IpcNamespace>,
    credentials: Arc<Credentials>,
}

impl Place {
    /// The caller's. Errors: as `live_namespaces`, of a task that ends.
    pub(crate) fn of(context: &Context<'_>) -> Result<Place> {
        let namespace = context.task.live_namespaces()?.ipc.clone();
        Ok(Place { namespace, credentials: context.credentials() })
    }

    /// What the namespace holds.
    pub(crate) fn objects(&self) -> &Objects {
        self.namespace.content()
    }

    /// The caller's rights.
    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Who calls.
    pub(crate) fn caller(&self) -> Caller<'_> {
        Caller { credentials: &self.credentials, owner: self.namespace.head().owner() }
    }
}

/// The caller's process as all that may see it know it. Errors: `ENOMEM`.
pub(crate) fn numbers(context: &Context<'_>) -> Result<ProcessNumbers> {
    let process = context.task.process();
    let mut numbers = Vec::new();
    let mut at = Some(process.namespace());
    while let Some(namespace) = at {
        numbers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        numbers.push((namespace.head().number(), process.number_in(namespace)));
        at = namespace.parent();
    }
    Ok(numbers)
}

/// The number that the caller knows a process by, or 0.
pub(crate) fn number_seen(context: &Context<'_>, numbers: &ProcessNumbers) -> i32 {
    let own = context.task.process().namespace().head().number();
    numbers.iter().find(|(namespace, _)| *namespace == own).map_or(0, |(_, number)| *number)
}

fn waiting(flags: u32) -> Waiting {
    if flags & IPC_NOWAIT != 0 { Waiting::No } else { Waiting::Allowed }
}

/// msgget(2). Errors: `EACCES`, `EEXIST`, `ENOENT`, `ENOSPC`.
pub fn msgget(context: &mut Context<'_>, key: i32, flags: u32) -> Result<usize> {
    let place = Place::of(context)?;
    let objects = place.objects();
    let make = |id, access| Ok(MessageQueue::new(id, access, objects.queue_bytes.get()));
    let queue = objects.messages.get(key, flags, objects.queues.get(), &place.caller(), make)?;
    Ok(queue.id() as usize)
}

/// msgsnd(2). Errors: `EACCES`, `EAGAIN`, `EFAULT`, `EIDRM`, `EINTR`, `EINVAL`, `ENOMEM`.
pub fn msgsnd(
    context: &mut Context<'_>,
    id: i32,
    message: UserPtr<i64>,
    size: usize,
    flags: u32,
) -> Result<usize> {
    let kind = message.read()?;
    let place = Place::of(context)?;
    if size > place.objects().message_size.get() as usize || id < 0 || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let text = UserSlice::new(message.offset_bytes::<u8>(TYPE_BYTES), size).read_to_vec()?;
    let queue = place.objects().messages.find(id)?;
    queue.send(&place.caller(), numbers(context)?, (kind, text), waiting(flags))?;
    Ok(0)
}

/// msgrcv(2). Errors: `E2BIG`, `EACCES`, `EFAULT`, `EIDRM`, `EINTR`, `EINVAL`, `ENOMSG`, `ENOSYS` for `MSG_COPY`, as Linux without
/// `CONFIG_CHECKPOINT_RESTORE`.
pub fn msgrcv(
    context: &mut Context<'_>,
    id: i32,
    message: UserPtr<i64>,
    size: usize,
    kind: i64,
    flags: u32,
) -> Result<usize> {
    if id < 0 || (size as isize) < 0 {
        return Err(Errno::EINVAL);
    }
    if flags & MSG_COPY != 0 {
        let allowed = flags & MSG_EXCEPT == 0 && flags & IPC_NOWAIT != 0;
        return Err(if allowed { Errno::ENOSYS } else { Errno::EINVAL });
    }
    let place = Place::of(context)?;
    let queue = place.objects().messages.find(id)?;
    let longest = (flags & MSG_NOERROR == 0).then_some(size);
    let (receiver, choice) = (numbers(context)?, Choice::new(kind, flags));
    let received = queue.receive(&place.caller(), &receiver, choice, longest, waiting(flags))?;
    message.write(&received.kind)?;
    UserSlice::new(message.offset_bytes::<u8>(TYPE_BYTES), size).write_from(&received.text)
}

/// msgctl(2). Errors: `EACCES`, `EFAULT`, `EIDRM`, `EINVAL`, `EPERM`.
pub fn msgctl(context: &mut Context<'_>, id: i32, command: u32, buffer: UserPtr<Msqid64Ds>) -> Result<usize> {
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let place = Place::of(context)?;
    let messages = &place.objects().messages;
    match command {
        IPC_INFO | MSG_INFO => info(&place, command, buffer.offset_bytes(0)),
        IPC_STAT => status(context, &place, &*messages.find(id)?, Check::Read, buffer).map(|_| 0),
        MSG_STAT | MSG_STAT_ANY => {
            let check = if command == MSG_STAT { Check::Read } else { Check::Nothing };
            status(context, &place, &*messages.at(id).ok_or(Errno::EINVAL)?, check, buffer)
        }
        IPC_SET => {
            let from = buffer.read()?;
            let queue = messages.find(id)?;
            queue.access().check_owner(&place.caller())?;
            if from.qbytes > u64::from(place.objects().queue_bytes.get()) {
                context.require_global(Capability::SysResource)?;
            }
            queue.set(&place.caller(), &from.perm, from.qbytes).map(|()| 0)
        }
        IPC_RMID => ipc::sysv::remove(messages, id, &place.caller()).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

/// What must be allowed to see a queue's state.
#[derive(PartialEq, Eq)]
enum Check {
    Read,
    Nothing,
}

/// Writes a queue's state; its id.
fn status(
    context: &Context<'_>,
    place: &Place,
    queue: &MessageQueue,
    check: Check,
    to: UserPtr<Msqid64Ds>,
) -> Result<usize> {
    let (access, status) = queue.status();
    if check == Check::Read {
        access.check(&place.caller(), 0o444)?;
    }
    to.write(&Msqid64Ds {
        perm: access.show(&place.credentials, queue.id()),
        stime: status.sent_s,
        rtime: status.received_s,
        ctime: status.changed_s,
        cbytes: status.bytes,
        qnum: status.count,
        qbytes: status.limit,
        lspid: number_seen(context, &status.sender),
        lrpid: number_seen(context, &status.receiver),
        unused: [0; 2],
    })?;
    Ok(queue.id() as usize)
}

/// The limits, or what is used; the highest place in the table.
fn info(place: &Place, command: u32, to: UserPtr<MsgInfo>) -> Result<usize> {
    let objects = place.objects();
    let mut info = MsgInfo::new_zeroed();
    info.max = objects.message_size.get() as i32;
    info.mnb = objects.queue_bytes.get() as i32;
    info.mni = objects.queues.get() as i32;
    info.ssz = SEGMENT_BYTES;
    info.seg = u16::MAX;
    if command == MSG_INFO {
        for queue in objects.messages.all()? {
            let (_, status) = queue.status();
            info.pool += 1;
            info.map = info.map.saturating_add(i32::try_from(status.count).unwrap_or(i32::MAX));
            info.tql = info.tql.saturating_add(i32::try_from(status.bytes).unwrap_or(i32::MAX));
        }
    } else {
        info.pool = DEFAULT_QUEUES / 1024 * DEFAULT_BYTES + DEFAULT_QUEUES % 1024 * DEFAULT_BYTES / 1024;
        (info.map, info.tql) = (DEFAULT_BYTES, DEFAULT_BYTES);
    }
    to.write(&info)?;
    Ok(objects.messages.highest_place() as usize)
}
