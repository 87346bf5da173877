//! System V message queues.

use super::{Section, Transcript};
use crate::case::Outcome;
use crate::sys::{call, errno, fork, in_child, sleep_ms, wait};

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("msg_get", get),
    ("msg_choices", choices),
    ("msg_wrong_arguments", wrong),
    ("msg_full_and_limits", full),
    ("msg_state", state),
    ("msg_permissions", permissions),
    ("msg_removed_while_waiting", removed),
    ("msg_namespaces", namespaces),
];

const CREATE: i32 = libc::IPC_CREAT | 0o600;
const NOW: i32 = libc::IPC_NOWAIT;
const INFO: i32 = 3;

fn new_queue() -> i32 {
    msgget(libc::IPC_PRIVATE, 0o600)
}

fn msgget(key: i32, flags: i32) -> i32 {
    // SAFETY: numbers only.
    unsafe { libc::msgget(key, flags) }
}

fn remove(queue: i32) -> i32 {
    // SAFETY: no pointer is followed.
    unsafe { libc::msgctl(queue, libc::IPC_RMID, std::ptr::null_mut()) }
}

fn send(queue: i32, kind: i64, text: &[u8], flags: i32) -> i32 {
    let mut message = kind.to_ne_bytes().to_vec();
    message.extend_from_slice(text);
    // SAFETY: the type and the bytes of the text.
    unsafe { libc::msgsnd(queue, message.as_ptr().cast(), text.len(), flags) }
}

fn receive(t: &mut Transcript, what: &str, queue: i32, size: usize, kind: i64, flags: i32) {
    let mut message = [0u8; 108];
    // SAFETY: `size` is 100 at most.
    let length = unsafe { libc::msgrcv(queue, message.as_mut_ptr().cast(), size, kind, flags) };
    t.call(what, length as i64);
    if let Ok(length) = usize::try_from(length) {
        let kind = i64::from_ne_bytes(message[..8].try_into().unwrap_or_default());
        t.note("  message", (kind, String::from_utf8_lossy(&message[8..8 + length])));
    }
}

fn stat(queue: i32, command: i32) -> (i32, libc::msqid_ds) {
    // SAFETY: one structure of that kind.
    unsafe {
        let mut state: libc::msqid_ds = std::mem::zeroed();
        let result = libc::msgctl(queue, command, &raw mut state);
        (result, state)
    }
}

fn get(t: &mut Transcript) -> Outcome {
    let key = 0x1234_0001;
    t.call("none", msgget(key, 0));
    let first = t.works("create", msgget(key, CREATE)) as i32;
    t.note("again is the same", msgget(key, CREATE) == first);
    t.note("without flags too", msgget(key, 0) == first);
    t.call("exclusively", msgget(key, CREATE | libc::IPC_EXCL));
    t.note("exclusively alone is nothing", msgget(key, libc::IPC_EXCL) == first);
    let (a, b) = (new_queue(), new_queue());
    t.note("private ones differ", a != b && a != first);
    t.call("remove", remove(first));
    t.call("remove again", remove(first));
    t.call("none again", msgget(key, 0));
    t.note("a new one has a new id", msgget(key, CREATE) != first);
    t.call("remove", remove(msgget(key, 0)));
    t.call("remove", remove(a));
    t.call("remove", remove(b));
    Ok(())
}

fn choices(t: &mut Transcript) -> Outcome {
    let queue = new_queue();
    for (kind, text) in [(3, "a"), (1, "b"), (3, "c"), (2, "d"), (5, "e"), (1, "f"), (4, "long message")] {
        t.call("send", send(queue, kind, text.as_bytes(), 0));
    }
    receive(t, "type 3", queue, 100, 3, NOW);
    receive(t, "type 9", queue, 100, 9, NOW);
    receive(t, "up to 2", queue, 100, -2, NOW);
    receive(t, "up to 2", queue, 100, -2, NOW);
    receive(t, "up to 1", queue, 100, -1, NOW);
    receive(t, "not 3", queue, 100, 3, NOW | 0o20000);
    receive(t, "any", queue, 100, 0, NOW);
    receive(t, "up to anything, of the lowest", queue, 3, i64::MIN, NOW);
    receive(t, "cut", queue, 4, 4, NOW | libc::MSG_NOERROR);
    receive(t, "nothing of it is left", queue, 100, 4, NOW);
    receive(t, "except with type 0", queue, 100, 0, NOW | 0o20000);
    receive(t, "empty", queue, 100, 0, NOW);
    t.call("an empty message", send(queue, 7, b"", 0));
    receive(t, "into nothing", queue, 0, 0, NOW);
    t.call("remove", remove(queue));
    Ok(())
}

fn wrong(t: &mut Transcript) -> Outcome {
    let queue = new_queue();
    t.call("type 0", send(queue, 0, b"a", 0));
    t.call("type -1", send(queue, -1, b"a", 0));
    t.call("no queue", send(-1, 1, b"a", 0));
    t.call("another id of the same place", send(queue.wrapping_add(1 << 15) & i32::MAX, 1, b"a", 0));
    t.call("too long", send(queue, 1, &[0; 8193], NOW));
    t.call("longest", send(queue, 1, &[0; 8192], NOW));
    receive(t, "does not fit", queue, 100, 0, NOW);
    receive(t, "no queue", -1, 100, 0, NOW);
    let id = queue as usize;
    t.call("negative size", call(libc::SYS_msgrcv, [id, 0, usize::MAX, 0, NOW as usize, 0]));
    t.call("negative size", call(libc::SYS_msgsnd, [id, &raw const id as usize, usize::MAX, 0, 0, 0]));
    t.call("copy without IPC_NOWAIT", call(libc::SYS_msgrcv, [id, 0, 0, 0, 0o40000, 0]));
    t.call("unknown command", stat(queue, 99).0);
    t.call("negative command", stat(queue, -1).0);
    t.call("command with IPC_64", stat(queue, 0x102).0);
    t.call("state of nothing", stat(-1, libc::IPC_STAT).0);
    t.call("remove", remove(queue));
    t.call("state of what is removed", stat(queue, libc::IPC_STAT).0);
    t.call("send to what is removed", send(queue, 1, b"a", 0));
    Ok(())
}

fn full(t: &mut Transcript) -> Outcome {
    let queue = new_queue();
    t.call("half", send(queue, 1, &[1; 8192], NOW));
    t.call("all", send(queue, 1, &[1; 8192], NOW));
    t.call("an empty one still", send(queue, 1, b"", NOW));
    t.call("one byte more", send(queue, 1, b"x", NOW));
    let child = fork(|| i32::from(send(queue, 2, b"later", 0) != 0))?;
    sleep_ms(100);
    receive(t, "make room", queue, 100, 1, NOW | libc::MSG_NOERROR);
    t.call("who waited has sent", wait(child)?);
    receive(t, "what it sent", queue, 100, 2, NOW);
    let (_, mut status) = stat(queue, libc::IPC_STAT);
    status.msg_qbytes = 10;
    // SAFETY: one structure.
    t.call("a smaller limit", unsafe { libc::msgctl(queue, libc::IPC_SET, &raw mut status) });
    t.call("send", send(queue, 1, b"", NOW));
    status.msg_qbytes = 1_000_000;
    // SAFETY: as above.
    t.call("root's larger limit", unsafe { libc::msgctl(queue, libc::IPC_SET, &raw mut status) });
    t.call("send", send(queue, 1, b"x", NOW));
    t.call("remove", remove(queue));
    Ok(())
}

fn state(t: &mut Transcript) -> Outcome {
    let queue = msgget(0x1234_0002, CREATE);
    let show = |t: &mut Transcript, what: &str| {
        let (result, s) = stat(queue, libc::IPC_STAT);
        let own = std::process::id() as i32;
        t.call(what, result);
        t.note("  key, mode", (s.msg_perm.__key, s.msg_perm.mode));
        t.note("  uid, gid, cuid, cgid", (s.msg_perm.uid, s.msg_perm.gid, s.msg_perm.cuid, s.msg_perm.cgid));
        t.note("  bytes, messages, limit", (s.__msg_cbytes, s.msg_qnum, s.msg_qbytes));
        t.note("  sent, received, changed", (s.msg_stime != 0, s.msg_rtime != 0, s.msg_ctime != 0));
        let who = |pid: i32| (pid == own, pid == 0);
        t.note("  by whom", (who(s.msg_lspid), who(s.msg_lrpid)));
        t.note("  sequence", i32::from(s.msg_perm.__seq) == queue >> 15);
        s
    };
    let mut s = show(t, "new");
    send(queue, 1, b"hello", 0);
    show(t, "after sending");
    receive(t, "receive", queue, 100, 0, 0);
    show(t, "after receiving");
    (s.msg_perm.uid, s.msg_perm.gid, s.msg_perm.mode) = (7, 8, 0o70444);
    // SAFETY: one structure.
    t.call("set", unsafe { libc::msgctl(queue, libc::IPC_SET, &raw mut s) });
    show(t, "after setting");
    s.msg_perm.uid = u32::MAX;
    // SAFETY: one structure.
    t.call("set to no user", unsafe { libc::msgctl(queue, libc::IPC_SET, &raw mut s) });
    t.note("by place", stat(queue & 0x7fff, 11).0 == queue);
    t.note("by place, without rights", stat(queue & 0x7fff, 13).0 == queue);
    t.call("by a place without a queue", stat(0x7ffe, 11).0);
    let mut info = [0i32; 8];
    let answer = call(libc::SYS_msgctl, [0, INFO as usize, info.as_mut_ptr() as usize, 0, 0, 0]);
    t.note("limits", (answer >= 0, info));
    t.call("remove", remove(queue));
    Ok(())
}

fn permissions(t: &mut Transcript) -> Outcome {
    for mode in [0o600, 0o604, 0o602, 0o606] {
        let queue = msgget(libc::IPC_PRIVATE, mode);
        send(queue, 1, b"a", 0);
        let as_other = |what: &dyn Fn() -> i32| {
            in_child(|| {
                // SAFETY: numbers only.
                unsafe { (libc::setresgid(99, 99, 99), libc::setresuid(99, 99, 99)) };
                if what() == -1 { errno() } else { 0 }
            })
        };
        t.note("mode", mode);
        t.call("  send", as_other(&|| send(queue, 1, b"b", NOW))?);
        t.call(
            "  receive",
            as_other(&|| {
                let mut message = [0u8; 108];
                // SAFETY: 100 bytes behind the type.
                unsafe { libc::msgrcv(queue, message.as_mut_ptr().cast(), 100, 0, NOW) as i32 }
            })?,
        );
        t.call("  state", as_other(&|| stat(queue, libc::IPC_STAT).0)?);
        t.call("  remove", as_other(&|| remove(queue))?);
        t.call("  remove as root", remove(queue));
    }
    let queue = msgget(0x1234_0003, CREATE);
    let opened = |flags| {
        in_child(|| {
            // SAFETY: numbers only.
            unsafe { libc::setresuid(99, 99, 99) };
            if msgget(0x1234_0003, flags) == -1 { errno() } else { 0 }
        })
    };
    t.call("open with no rights wanted", opened(0)?);
    t.call("open with rights wanted", opened(0o400)?);
    t.call("create exclusively", opened(CREATE | libc::IPC_EXCL)?);
    t.call("remove", remove(queue));
    Ok(())
}

fn removed(t: &mut Transcript) -> Outcome {
    let queue = new_queue();
    let receiver = fork(|| {
        let mut message = [0u8; 108];
        // SAFETY: 100 bytes behind the type.
        let result = unsafe { libc::msgrcv(queue, message.as_mut_ptr().cast(), 100, 0, 0) };
        if result == -1 { errno() } else { 0 }
    })?;
    sleep_ms(100);
    t.call("remove", remove(queue));
    t.call("who waited for a message", libc::WEXITSTATUS(wait(receiver)?));
    let queue = new_queue();
    send(queue, 1, &[0; 8192], 0);
    send(queue, 1, &[0; 8192], 0);
    let sender = fork(|| if send(queue, 1, b"x", 0) == -1 { errno() } else { 0 })?;
    sleep_ms(100);
    t.call("remove", remove(queue));
    t.call("who waited for room", libc::WEXITSTATUS(wait(sender)?));
    Ok(())
}

fn namespaces(t: &mut Transcript) -> Outcome {
    let key = 0x1234_0004;
    let outside = msgget(key, CREATE);
    t.call(
        "a new namespace",
        in_child(|| {
            // SAFETY: numbers only.
            let moved = unsafe { libc::unshare(libc::CLONE_NEWIPC) };
            let none = msgget(key, 0) == -1 && errno() == libc::ENOENT;
            let first = msgget(key, CREATE) == 0;
            i32::from(moved != 0) | i32::from(!none) << 1 | i32::from(!first) << 2
        })?,
    );
    t.note("the old one is still there", msgget(key, 0) == outside);
    t.call("remove", remove(outside));
    Ok(())
}
