//! Who is whose child, and who is in which process group and session: the rules of setsid(2), setpgid(2),
//! reparenting and orphaned groups, as one pure structure.
//!
//! [`Tree`] holds one node for each process (also zombies), one record for each process group and session, all
//! keyed by the process id in the root namespace. Links are numbers, so that every change is O(1) but for those
//! that Linux also walks (all children, all members of a group). The one instance is [`crate::process::TREE`], behind one
//! spinlock, the outermost lock of this crate.

use crate::pid::map::{IdMap, NoMemory};
use abi::errno::{Errno, Result};
use arrayvec::ArrayVec;

/// A process id in the root namespace.
pub type Number = u32;
/// Largest number of processes, groups or sessions: Linux's `PID_MAX_LIMIT` on 64-bit machines.
pub const NUMBER_LIMIT: u32 = 1 << 22;
/// "No process": process ids start at 1.
const NONE: Number = 0;

impl From<NoMemory> for Errno {
    fn from(_: NoMemory) -> Errno {
        Errno::ENOMEM
    }
}

/// Numbers that nothing uses any more after a change; their owner may hand them out again.
pub type Freed = ArrayVec<Number, 3>;

#[derive(Debug)]
struct Node<P> {
    payload: P,
    parent: Number,
    children: List,
    siblings: Link,
    group: Number,
    members: Link,
    /// Orphaned descendants come here (PR_SET_CHILD_SUBREAPER).
    subreaper: bool,
    /// It has called exec since its parent made it: the parent may no longer move it (setpgid(2), EACCES).
    executed: bool,
    /// All its threads are gone.
    ended: bool,
}

#[derive(Copy, Clone, Default, Debug)]
struct Link {
    previous: Number,
    next: Number,
}

#[derive(Copy, Clone, Default, Debug)]
struct List {
    first: Number,
    last: Number,
}

#[derive(Debug)]
struct Group {
    session: Number,
    members: List,
}

#[derive(Debug)]
struct Session<T> {
    groups: u32,
    terminal: Option<T>,
}

/// All processes with their relations. `P` is what a node stands for, `T` a controlling terminal.
#[derive(Debug)]
pub struct Tree<P, T> {
    nodes: IdMap<Node<P>>,
    groups: IdMap<Group>,
    sessions: IdMap<Session<T>>,
}

impl<P, T> Default for Tree<P, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P, T> Tree<P, T> {
    /// No process.
    pub const fn new() -> Tree<P, T> {
        Tree {
            nodes: IdMap::new(NUMBER_LIMIT),
            groups: IdMap::new(NUMBER_LIMIT),
            sessions: IdMap::new(NUMBER_LIMIT),
        }
    }

    /// Adds the first process, in group 0 of session 0 as Linux starts init.
    ///
    /// # Errors
    /// ENOMEM. EINVAL: `number` is taken.
    pub fn insert_first(&mut self, number: Number, payload: P) -> Result<()> {
        if self.groups.get(0).is_none() {
            self.sessions.insert(0, Session { groups: 1, terminal: None })?;
            self.groups.insert(0, Group { session: 0, members: List::default() })?;
        }
        self.insert_node(number, NONE, 0, payload)
    }

    /// Adds a child of `parent`, in the group of `relative` (usually the parent).
    ///
    /// # Errors
    /// ENOMEM. ESRCH: no such parent. EINVAL: `number` is taken.
    pub fn insert_child(
        &mut self,
        number: Number,
        parent: Number,
        relative: Number,
        payload: P,
    ) -> Result<()> {
        let group = self.nodes.get(relative).ok_or(Errno::ESRCH)?.group;
        if self.nodes.get(parent).is_none() {
            return Err(Errno::ESRCH);
        }
        self.insert_node(number, parent, group, payload)
    }

    fn insert_node(&mut self, number: Number, parent: Number, group: Number, payload: P) -> Result<()> {
        let node = Node {
            payload,
            parent,
            children: List::default(),
            siblings: Link::default(),
            group,
            members: Link::default(),
            subreaper: false,
            executed: false,
            ended: false,
        };
        if self.nodes.insert(number, node)?.is_some() {
            return Err(Errno::EINVAL);
        }
        self.link_child(parent, number);
        self.link_member(group, number);
        Ok(())
    }

    /// Takes a process without children out; says which numbers are free now.
    pub fn remove(&mut self, number: Number) -> (Option<P>, Freed) {
        let mut freed = Freed::new();
        let Some(node) = self.nodes.get(number) else { return (None, freed) };
        let (group, session) = (node.group, self.session_of(number).unwrap_or(0));
        self.unlink_child(number);
        self.unlink_member(number);
        let payload = self.nodes.remove(number).map(|node| node.payload);
        for candidate in [number, group, session] {
            self.note_if_free(candidate, &mut freed);
        }
        (payload, freed)
    }

    fn note_if_free(&self, number: Number, freed: &mut Freed) {
        let used = self.nodes.get(number).is_some()
            || self.groups.get(number).is_some()
            || self.sessions.get(number).is_some();
        if !used && number != 0 && !freed.contains(&number) {
            let _ = freed.try_push(number);
        }
    }

    /// What `number` stands for.
    pub fn get(&self, number: Number) -> Option<&P> {
        self.nodes.get(number).map(|node| &node.payload)
    }

    /// The parent's number; 0 for the first process.
    pub fn parent_number(&self, number: Number) -> Number {
        self.nodes.get(number).map_or(NONE, |node| node.parent)
    }

    /// The parent.
    pub fn parent(&self, number: Number) -> Option<&P> {
        self.get(self.parent_number(number))
    }

    /// The process group of `number`.
    pub fn group_of(&self, number: Number) -> Option<Number> {
        self.nodes.get(number).map(|node| node.group)
    }

    /// The session of `number`.
    pub fn session_of(&self, number: Number) -> Option<Number> {
        self.session_of_group(self.group_of(number)?)
    }

    /// The session of a group.
    pub fn session_of_group(&self, group: Number) -> Option<Number> {
        self.groups.get(group).map(|group| group.session)
    }

    /// The children in the order they came.
    pub fn children(&self, number: Number) -> impl Iterator<Item = (Number, &P)> {
        let mut next = self.nodes.get(number).map_or(NONE, |node| node.children.first);
        core::iter::from_fn(move || {
            let current = next;
            let node = self.nodes.get(current)?;
            next = node.siblings.next;
            Some((current, &node.payload))
        })
    }

    /// The members of a group.
    pub fn members(&self, group: Number) -> impl Iterator<Item = (Number, &P)> {
        let mut next = self.groups.get(group).map_or(NONE, |group| group.members.first);
        core::iter::from_fn(move || {
            let current = next;
            let node = self.nodes.get(current)?;
            next = node.members.next;
            Some((current, &node.payload))
        })
    }

    /// Every process by number.
    pub fn iter(&self) -> impl Iterator<Item = (Number, &P)> {
        self.nodes.iter().map(|(number, node)| (number, &node.payload))
    }

    /// The next process at or after `from`.
    pub fn next(&self, from: Number) -> Option<(Number, &P)> {
        self.nodes.next_used(from).map(|(number, node)| (number, &node.payload))
    }

    /// How many processes there are, with zombies.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Marks `number` as one that has called exec.
    pub fn set_executed(&mut self, number: Number) {
        if let Some(node) = self.nodes.get_mut(number) {
            node.executed = true;
        }
    }

    /// Marks `number` as a zombie: it no longer keeps its group from being orphaned.
    pub fn set_ended(&mut self, number: Number) {
        if let Some(node) = self.nodes.get_mut(number) {
            node.ended = true;
        }
    }

    /// PR_SET_CHILD_SUBREAPER.
    pub fn set_subreaper(&mut self, number: Number, subreaper: bool) {
        if let Some(node) = self.nodes.get_mut(number) {
            node.subreaper = subreaper;
        }
    }

    /// PR_GET_CHILD_SUBREAPER.
    pub fn is_subreaper(&self, number: Number) -> bool {
        self.nodes.get(number).is_some_and(|node| node.subreaper)
    }

    /// Who gets the children of `number`: the nearest living subreaper above it that has an `equal` namespace, else `init`.
    pub fn reaper_for(&self, number: Number, init: Number, equal: impl Fn(&P) -> bool) -> Number {
        let mut ancestor = self.parent_number(number);
        while let Some(node) = self.nodes.get(ancestor).filter(|node| equal(&node.payload)) {
            if ancestor == init || (node.subreaper && !node.ended) {
                return ancestor;
            }
            ancestor = node.parent;
        }
        init
    }

    /// Gives one child to a new parent.
    pub fn reparent(&mut self, child: Number, parent: Number) {
        self.unlink_child(child);
        if let Some(node) = self.nodes.get_mut(child) {
            node.parent = parent;
        }
        self.link_child(parent, child);
    }

    /// setsid(2): a new session and group, both with the caller's number.
    ///
    /// # Errors
    /// EPERM: a group with this number exists already. ENOMEM.
    pub fn new_session(&mut self, number: Number) -> Result<Freed> {
        if self.groups.get(number).is_some() || self.sessions.get(number).is_some() {
            return Err(Errno::EPERM);
        }
        self.sessions.insert(number, Session { groups: 0, terminal: None })?;
        if let Err(error) = self.new_group(number, number) {
            self.sessions.remove(number);
            return Err(error);
        }
        Ok(self.move_to_group(number, number))
    }

    /// setpgid(2) on `target` by `caller`; `group` 0 means `target` itself.
    ///
    /// # Errors
    /// ESRCH: no such process, or not the caller or its child. EACCES: the child has called exec.
    /// EPERM: other session, session leader, or no such group in the session. ENOMEM.
    pub fn set_group(&mut self, caller: Number, target: Number, group: Number) -> Result<Freed> {
        let group = if group == 0 { target } else { group };
        let node = self.nodes.get(target).ok_or(Errno::ESRCH)?;
        let session = self.session_of(caller).ok_or(Errno::ESRCH)?;
        if target != caller {
            if node.parent != caller {
                return Err(Errno::ESRCH);
            }
            if self.session_of(target) != Some(session) {
                return Err(Errno::EPERM);
            }
            if node.executed {
                return Err(Errno::EACCES);
            }
        }
        if self.sessions.get(target).is_some() {
            return Err(Errno::EPERM);
        }
        if group != target && self.session_of_group(group) != Some(session) {
            return Err(Errno::EPERM);
        }
        if self.groups.get(group).is_none() {
            self.new_group(group, session)?;
        }
        Ok(self.move_to_group(target, group))
    }

    fn new_group(&mut self, group: Number, session: Number) -> Result<()> {
        self.groups.insert(group, Group { session, members: List::default() })?;
        if let Some(session) = self.sessions.get_mut(session) {
            session.groups += 1;
        }
        Ok(())
    }

    fn move_to_group(&mut self, number: Number, group: Number) -> Freed {
        let mut freed = Freed::new();
        let old_group = self.group_of(number).unwrap_or(group);
        let old_session = self.session_of(number).unwrap_or(group);
        if old_group == group {
            return freed;
        }
        self.unlink_member(number);
        if let Some(node) = self.nodes.get_mut(number) {
            node.group = group;
        }
        self.link_member(group, number);
        self.note_if_free(old_group, &mut freed);
        self.note_if_free(old_session, &mut freed);
        freed
    }

    /// Whether `number` leads a session.
    pub fn leads_session(&self, number: Number) -> bool {
        self.session_of(number) == Some(number)
    }

    /// The controlling terminal of a session.
    pub fn terminal(&self, session: Number) -> Option<&T> {
        self.sessions.get(session)?.terminal.as_ref()
    }

    /// Sets or takes away the controlling terminal of a session; gives the old one.
    pub fn set_terminal(&mut self, session: Number, terminal: Option<T>) -> Option<T> {
        let session = self.sessions.get_mut(session)?;
        core::mem::replace(&mut session.terminal, terminal)
    }

    /// Whether no living member of `group`, leaving out `ignored`, has a parent in another group of the same session:
    /// nobody could continue the group if it stopped. `init` does not count as such a parent.
    pub fn is_orphaned(&self, group: Number, ignored: Option<Number>, init: Number) -> bool {
        let session = self.session_of_group(group);
        let mut next = self.groups.get(group).map_or(NONE, |group| group.members.first);
        while let Some(node) = self.nodes.get(next) {
            let counts = Some(next) != ignored && !node.ended && node.parent != init && node.parent != NONE;
            if counts && self.group_of(node.parent) != Some(group) && self.session_of(node.parent) == session
            {
                return false;
            }
            next = node.members.next;
        }
        true
    }

    fn link_child(&mut self, parent: Number, child: Number) {
        let Some(node) = self.nodes.get_mut(parent) else { return };
        let last = core::mem::replace(&mut node.children.last, child);
        if last == NONE {
            node.children.first = child;
        } else if let Some(previous) = self.nodes.get_mut(last) {
            previous.siblings.next = child;
        }
        if let Some(node) = self.nodes.get_mut(child) {
            node.siblings = Link { previous: last, next: NONE };
        }
    }

    fn unlink_child(&mut self, child: Number) {
        let Some(node) = self.nodes.get_mut(child) else { return };
        let link = core::mem::take(&mut node.siblings);
        let parent = core::mem::replace(&mut node.parent, NONE);
        if let Some(previous) = self.nodes.get_mut(link.previous) {
            previous.siblings.next = link.next;
        } else if let Some(parent) = self.nodes.get_mut(parent) {
            parent.children.first = link.next;
        }
        if let Some(next) = self.nodes.get_mut(link.next) {
            next.siblings.previous = link.previous;
        } else if let Some(parent) = self.nodes.get_mut(parent) {
            parent.children.last = link.previous;
        }
    }

    fn link_member(&mut self, group: Number, number: Number) {
        let Some(record) = self.groups.get_mut(group) else { return };
        let last = core::mem::replace(&mut record.members.last, number);
        if last == NONE {
            record.members.first = number;
        } else if let Some(previous) = self.nodes.get_mut(last) {
            previous.members.next = number;
        }
        if let Some(node) = self.nodes.get_mut(number) {
            node.members = Link { previous: last, next: NONE };
        }
    }

    /// Takes `number` out of its group; an empty group goes, and with its last group the session.
    fn unlink_member(&mut self, number: Number) {
        let Some(node) = self.nodes.get_mut(number) else { return };
        let (link, group) = (core::mem::take(&mut node.members), node.group);
        if let Some(previous) = self.nodes.get_mut(link.previous) {
            previous.members.next = link.next;
        } else if let Some(record) = self.groups.get_mut(group) {
            record.members.first = link.next;
        }
        if let Some(next) = self.nodes.get_mut(link.next) {
            next.members.previous = link.previous;
        } else if let Some(record) = self.groups.get_mut(group) {
            record.members.last = link.previous;
        }
        let Some(record) = self.groups.get(group) else { return };
        if record.members.first != NONE || group == 0 {
            return;
        }
        let session = record.session;
        self.groups.remove(group);
        if let Some(record) = self.sessions.get_mut(session) {
            record.groups -= 1;
            if record.groups == 0 {
                self.sessions.remove(session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    type TestTree = Tree<&'static str, u8>;

    fn shell_with_job() -> TestTree {
        let mut tree = TestTree::new();
        tree.insert_first(1, "init").unwrap();
        tree.insert_child(2, 1, 1, "shell").unwrap();
        tree.new_session(2).unwrap();
        tree.insert_child(3, 2, 2, "job").unwrap();
        tree.insert_child(4, 2, 2, "pipe").unwrap();
        tree
    }

    #[test]
    fn a_new_session_has_one_group() {
        let mut tree = shell_with_job();
        assert_eq!(tree.session_of(3), Some(2));
        assert_eq!(tree.group_of(3), Some(2));
        assert_eq!(tree.new_session(2), Err(Errno::EPERM));
        assert!(tree.leads_session(2));
        assert_eq!(tree.set_group(2, 2, 2), Err(Errno::EPERM));
    }

    #[test]
    fn setpgid_follows_the_manual() {
        let mut tree = shell_with_job();
        assert_eq!(tree.set_group(2, 3, 0).map(|f| f.len()), Ok(0));
        assert_eq!(tree.group_of(3), Some(3));
        tree.set_group(2, 4, 3).unwrap();
        assert_eq!(tree.members(3).map(|(n, _)| n).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(tree.set_group(3, 4, 0), Err(Errno::ESRCH));
        assert_eq!(tree.set_group(2, 4, 77), Err(Errno::EPERM));
        tree.set_executed(4);
        assert_eq!(tree.set_group(2, 4, 4), Err(Errno::EACCES));
        assert!(tree.set_group(4, 4, 4).is_ok());
    }

    #[test]
    fn numbers_are_free_when_nobody_uses_them() {
        let mut tree = shell_with_job();
        tree.set_group(2, 3, 3).unwrap();
        tree.set_group(2, 4, 3).unwrap();
        let (_, freed) = tree.remove(3);
        assert!(freed.is_empty(), "the group still uses 3");
        let (_, mut freed) = tree.remove(4);
        freed.sort();
        assert_eq!(freed.as_slice(), [3, 4]);
        let (_, freed) = tree.remove(2);
        assert_eq!(freed.as_slice(), [2]);
        assert_eq!(tree.len(), 1);
    }

    #[test]
    fn orphaned_groups() {
        let mut tree = shell_with_job();
        tree.set_group(2, 3, 3).unwrap();
        assert!(!tree.is_orphaned(3, None, 1));
        assert!(tree.is_orphaned(2, None, 1), "the shell's parent is in another session");
        tree.reparent(3, 1);
        assert!(tree.is_orphaned(3, None, 1));
    }

    #[test]
    fn orphans_go_to_the_nearest_subreaper() {
        let mut tree = shell_with_job();
        tree.insert_child(5, 3, 3, "grandchild").unwrap();
        assert_eq!(tree.reaper_for(5, 1, |_| true), 1);
        tree.set_subreaper(2, true);
        assert_eq!(tree.reaper_for(5, 1, |_| true), 2);
        assert_eq!(tree.reaper_for(3, 1, |_| true), 2);
        tree.set_ended(2);
        assert_eq!(tree.reaper_for(3, 1, |_| true), 1);
        tree.reparent(5, 2);
        assert_eq!(tree.children(2).map(|(n, _)| n).collect::<Vec<_>>(), [3, 4, 5]);
        tree.remove(4);
        assert_eq!(tree.children(2).map(|(n, _)| n).collect::<Vec<_>>(), [3, 5]);
        tree.remove(5);
        tree.remove(3);
        assert_eq!(tree.children(2).count(), 0);
    }

    #[test]
    fn the_terminal_belongs_to_the_session() {
        let mut tree = shell_with_job();
        assert_eq!(tree.set_terminal(2, Some(9)), None);
        assert_eq!(tree.terminal(2), Some(&9));
        assert_eq!(tree.set_terminal(77, Some(9)), None);
    }
}
