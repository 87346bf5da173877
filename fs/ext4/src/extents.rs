//! Extent trees: finding, adding and cutting runs of blocks.
//!
//! Key functions: [`find`], [`insert`], [`cut`], [`convert_last`], [`shift`]. A hole is punched by cutting and freeing. Where nodes may have to be
//! split, room for all new ones is claimed first: `ENOSPC` has changed nothing. Only where many extents move together ([`shift`]) they are changed in
//! their places, leaf by leaf: that needs no room.
//!
//! The root is in the inode, nodes are blocks. A node's key in its parent is always the first block below it, as fsck wants it. Depth and
//! counts are bounded by the format and checked before they are believed.
//!
//! Locks: the body's map, held by the caller: to read for [`find`], to write for the others.

use crate::body::{Body, Map, Mapping, State};
use crate::buffer::Buffer;
use crate::format::extent::{Extent, Header, Index, MAX_DEPTH, NodeMut, NodeRef};
use crate::format::{CORRUPTED, inode::MAP_SIZE};
use crate::groups::{Claim, Contents};
use crate::journal::Handle;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The most blocks that one [`insert`] changes: a node and a bitmap with its descriptor on each level, the inode, and the new node's.
pub const INSERT_CREDITS: u32 = 4 * (MAX_DEPTH as u32 + 1) + 2;

/// A node of the tree: the root, or a block.
enum Node {
    Root,
    Block(Arc<Buffer>),
}

/// An empty root.
pub fn empty_root() -> [u8; MAP_SIZE] {
    let mut root = [0; MAP_SIZE];
    // 60 bytes are enough for a header.
    let _ = NodeMut(&mut root).format(0);
    root
}

/// Reads and checks a node that is a block.
fn read_node(body: &Body, block: u64, depth: u16) -> Result<Arc<Buffer>> {
    let fs = &body.fs;
    let buffer = fs.read_block(block)?;
    if buffer.is_verified() {
        return Ok(buffer);
    }
    let checked = {
        let bytes = buffer.read();
        let node = NodeRef(&bytes);
        let check = || {
            let header = node.header(Some(depth))?;
            if fs.geometry.has_checksums() {
                node.check_checksum(body.checksum_seed)?;
            }
            node.check(header, |start, count| fs.geometry.contains(start, count))
        };
        check()
    };
    checked.map_err(|error| {
        fs.complain(error, format_args!("inode {}: bad extent node in block {block}", body.number))
    })?;
    buffer.set_verified();
    Ok(buffer)
}

/// Looks at a node's bytes.
fn with_node<R>(map: &Map, node: &Node, look: impl FnOnce(NodeRef<'_>) -> Result<R>) -> Result<R> {
    match node {
        Node::Root => look(NodeRef(&map.root)),
        Node::Block(buffer) => look(NodeRef(&buffer.read())),
    }
}

/// The header of the root, checked once more: it comes from an inode whose checksum proves nothing of what a program wrote there.
fn root_header(body: &Body, map: &Map) -> Result<Header> {
    let node = NodeRef(&map.root);
    let header = node.header(None).and_then(|header| {
        node.check(header, |start, count| body.fs.geometry.contains(start, count))?;
        Ok(header)
    });
    header.map_err(|error| body.fs.complain(error, format_args!("inode {}: bad extent root", body.number)))
}

/// Where `block` is, and how far that goes on.
pub fn find(body: &Body, map: &Map, block: u32) -> Result<Mapping> {
    let mut header = root_header(body, map)?;
    let mut node = Node::Root;
    // The first block behind what the node covers.
    let mut end = 1_u64 << 32;
    while header.depth > 0 {
        let (child, next) = with_node(map, &node, |bytes| {
            let at = bytes.find(header.entries, block)?;
            let following = at.map_or(0, |at| at + 1);
            let next = if following < header.entries { Some(bytes.key(following)?) } else { None };
            Ok((at.map(|at| bytes.index(at)).transpose()?, next))
        })?;
        end = next.map_or(end, |next| end.min(u64::from(next)));
        let Some(child) = child else { return Ok(hole(block, end)) };
        let buffer = read_node(body, child.child, header.depth - 1)?;
        header = NodeRef(&buffer.read()).header(Some(header.depth - 1))?;
        node = Node::Block(buffer);
    }
    let (extent, next) = with_node(map, &node, |bytes| {
        let at = bytes.find(header.entries, block)?;
        let following = at.map_or(0, |at| at + 1);
        let next = if following < header.entries { Some(bytes.key(following)?) } else { None };
        Ok((at.map(|at| bytes.extent(at)).transpose()?, next))
    })?;
    end = next.map_or(end, |next| end.min(u64::from(next)));
    match extent.filter(|extent| extent.end() > u64::from(block)) {
        Some(extent) => {
            let skip = block - extent.block;
            let start = extent.start + u64::from(skip);
            let state = if extent.unwritten { State::Unwritten(start) } else { State::Written(start) };
            Ok(Mapping { block, length: extent.length - skip, state })
        }
        None => Ok(hole(block, end)),
    }
}

fn hole(block: u32, end: u64) -> Mapping {
    let length = end.saturating_sub(u64::from(block)).clamp(1, u64::from(u32::MAX));
    Mapping { block, length: length as u32, state: State::Hole }
}

/// What became of a child that something was put into.
#[derive(Default)]
struct Grown {
    /// The child's first block now.
    first: u32,
    /// A new node beside it.
    sibling: Option<Index>,
}

/// An entry of a leaf.
struct Found {
    leaf: Node,
    at: usize,
    extent: Extent,
    before: Option<Extent>,
    after: Option<Extent>,
}

/// A change of one tree.
struct Tree<'a> {
    body: &'a Body,
    map: &'a mut Map,
    handle: &'a mut Handle,
    /// Whether what is put in becomes one with what is next to it.
    joins: bool,
    /// Room for nodes, claimed before anything is changed: what there is no room for has changed nothing.
    nodes: Vec<Claim>,
}

/// Which extents are still to be moved, and where to; see [`shift`].
pub struct Shift {
    /// No extent before this block.
    from: u64,
    /// None at or behind this one.
    to: u64,
    by: u32,
    up: bool,
}

impl Shift {
    /// All from `from` on go down by `by` blocks; there is nothing in their way.
    pub fn down(from: u32, by: u32) -> Shift {
        Shift { from: u64::from(from), to: 1 << 32, by, up: false }
    }

    /// All from `from` on go up by `by` blocks.
    pub fn up(from: u32, by: u32) -> Shift {
        Shift { from: u64::from(from), to: 1 << 32, by, up: true }
    }

    /// An extent in its new place. Errors: `EUCLEAN`: there is none.
    fn moved(&self, extent: Extent) -> Result<Extent> {
        let block =
            if self.up { extent.block.checked_add(self.by) } else { extent.block.checked_sub(self.by) };
        Ok(Extent { block: block.ok_or(CORRUPTED)?, ..extent })
    }
}

impl<'a> Tree<'a> {
    fn new(body: &'a Body, map: &'a mut Map, handle: &'a mut Handle) -> Tree<'a> {
        Tree { body, map, handle, joins: true, nodes: Vec::new() }
    }
}

impl Tree<'_> {
    fn change<R>(&mut self, node: &Node, change: impl FnOnce(&mut NodeMut<'_>) -> Result<R>) -> Result<R> {
        match node {
            Node::Root => change(&mut NodeMut(&mut self.map.root)),
            Node::Block(buffer) => {
                let seed = self.body.fs.geometry.has_checksums().then_some(self.body.checksum_seed);
                self.handle.modify(buffer, |bytes| {
                    let mut node = NodeMut(bytes);
                    let result = change(&mut node)?;
                    if let Some(seed) = seed {
                        node.seal(seed)?;
                    }
                    Ok(result)
                })?
            }
        }
    }

    fn header(&self, node: &Node) -> Result<Header> {
        with_node(self.map, node, |bytes| bytes.header(None))
    }

    /// A new, empty node near the file's others.
    fn new_node(&mut self, depth: u16) -> Result<(u64, Node)> {
        let Some(mut claim) = self.nodes.pop() else { return Err(Errno::ENOSPC) };
        let rest = claim.split_off(1);
        if rest.length() > 0 {
            self.nodes.push(rest);
        }
        let block = claim.start();
        claim.take(self.handle)?;
        let buffer = self.handle.create(block)?;
        buffer.set_verified();
        self.map.sectors += self.body.sectors_of(1);
        let node = Node::Block(buffer);
        self.change(&node, |bytes| bytes.format(depth))?;
        Ok((block, node))
    }

    /// Claims room for all nodes that may be made when `added` extents are put in around `block`. Errors: `ENOSPC`: nothing has changed.
    fn claim_nodes(&mut self, block: u32, added: usize) -> Result<()> {
        // How many nodes, from the leaf up, may have to be split, and how many levels there are.
        let (mut full, mut levels) = (0, 0);
        self.descend(block, |header| {
            levels += 1;
            full = if header.entries + added > header.max { full + 1 } else { 0 };
        })?;
        // If the root is split, its two halves are nodes.
        let needed = if full == levels { full + 1 } else { full };
        let mut needed = needed * added as u32;
        let goal = self.body.goal_for(self.map, 0);
        while needed > 0 {
            self.nodes.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            let claim = self.body.fs.claim(goal, needed)?;
            needed -= claim.length();
            self.nodes.push(claim);
        }
        Ok(())
    }

    /// The leaf that has `block`, or would have it; `seen` is told of each node on the way, the leaf last. Errors: `EUCLEAN`, `EIO`.
    fn descend(&self, block: u32, mut seen: impl FnMut(&Header)) -> Result<(Node, Header)> {
        let mut header = self.header(&Node::Root)?;
        let mut node = Node::Root;
        seen(&header);
        while header.depth > 0 {
            let at = with_node(self.map, &node, |bytes| bytes.find(header.entries, block))?.unwrap_or(0);
            if at >= header.entries {
                return Err(CORRUPTED);
            }
            let entry = with_node(self.map, &node, |bytes| bytes.index(at))?;
            let child = read_node(self.body, entry.child, header.depth - 1)?;
            header = NodeRef(&child.read()).header(Some(header.depth - 1))?;
            node = Node::Block(child);
            seen(&header);
        }
        Ok((node, header))
    }

    /// The last extent that begins at `block` or before it in the leaf that would have that, with its neighbours there.
    fn entry_at(&self, block: u32) -> Result<Option<Found>> {
        let (leaf, header) = self.descend(block, |_| ())?;
        let found = with_node(self.map, &leaf, |bytes| {
            let Some(at) = bytes.find(header.entries, block)? else { return Ok(None) };
            let before = at.checked_sub(1).map(|before| bytes.extent(before)).transpose()?;
            let after = if at + 1 < header.entries { Some(bytes.extent(at + 1)?) } else { None };
            Ok(Some((at, bytes.extent(at)?, before, after)))
        })?;
        Ok(found.map(|(at, extent, before, after)| Found { leaf, at, extent, before, after }))
    }

    /// Puts an extent in the place of one that has the same blocks, joined with its neighbours in the leaf.
    fn replace(&mut self, found: &Found, extent: Extent) -> Result<()> {
        let (mut at, mut joined) = (found.at, extent);
        let before = found.before.filter(|before| before.joins(&joined));
        joined = before.map_or(joined, |before| Extent { length: before.length + joined.length, ..before });
        let after = found.after.filter(|after| joined.joins(after));
        joined.length += after.map_or(0, |after| after.length);
        self.change(&found.leaf, |bytes| {
            if after.is_some() {
                bytes.remove(at + 1)?;
            }
            if before.is_some() {
                bytes.remove(at)?;
                at -= 1;
            }
            bytes.set_extent(at, joined)
        })
    }

    /// Whether an extent becomes one with what is next to it in its leaf, so that no entry is added.
    fn joins_there(&self, extent: &Extent) -> Result<bool> {
        if !self.joins {
            return Ok(false);
        }
        let (leaf, header) = self.descend(extent.block, |_| ())?;
        with_node(self.map, &leaf, |bytes| {
            let found = bytes.find(header.entries, extent.block)?;
            let after = found.map_or(0, |found| found + 1);
            let before = found.map(|found| bytes.extent(found)).transpose()?;
            let after = if after < header.entries { Some(bytes.extent(after)?) } else { None };
            Ok(before.is_some_and(|before| before.joins(extent))
                || after.is_some_and(|after| extent.joins(&after)))
        })
    }

    /// Puts an extent in where there is a hole, joined with its neighbours where that can be.
    fn insert(&mut self, extent: Extent) -> Result<()> {
        if self.nodes.is_empty() && !self.joins_there(&extent)? {
            self.claim_nodes(extent.block, 1)?;
        }
        let grown = self.insert_below(&Node::Root, extent)?;
        let Some(sibling) = grown.sibling else { return Ok(()) };
        // The root was split: its first half moves into a node of its own.
        let depth = self.header(&Node::Root)?.depth;
        if depth >= MAX_DEPTH {
            return Err(CORRUPTED);
        }
        let (block, node) = self.new_node(depth)?;
        let entries = self.change(&Node::Root, |root| root.split_off(0))?;
        self.change(&node, |bytes| bytes.fill(&entries))?;
        self.change(&Node::Root, |root| {
            root.set_depth(depth + 1)?;
            root.insert_index(0, Index { block: grown.first, child: block })?;
            root.insert_index(1, sibling)
        })
    }

    fn insert_below(&mut self, node: &Node, extent: Extent) -> Result<Grown> {
        let header = self.header(node)?;
        if header.depth == 0 {
            return self.insert_leaf(node, header, extent);
        }
        let at = with_node(self.map, node, |bytes| bytes.find(header.entries, extent.block))?.unwrap_or(0);
        if at >= header.entries {
            return Err(CORRUPTED);
        }
        let entry = with_node(self.map, node, |bytes| bytes.index(at))?;
        let child = Node::Block(read_node(self.body, entry.child, header.depth - 1)?);
        let grown = self.insert_below(&child, extent)?;
        if grown.first != entry.block {
            self.change(node, |bytes| bytes.set_index(at, Index { block: grown.first, child: entry.child }))?;
        }
        match grown.sibling {
            Some(sibling) => self.add(node, header, at + 1, |bytes, at| bytes.insert_index(at, sibling)),
            None => self.unchanged(node),
        }
    }

    fn unchanged(&mut self, node: &Node) -> Result<Grown> {
        let first = with_node(self.map, node, |bytes| bytes.key(0))?;
        Ok(Grown { first, sibling: None })
    }

    fn insert_leaf(&mut self, leaf: &Node, header: Header, extent: Extent) -> Result<Grown> {
        let (before, after, at) = with_node(self.map, leaf, |bytes| {
            let found = bytes.find(header.entries, extent.block)?;
            let at = found.map_or(0, |found| found + 1);
            let before = found.map(|found| bytes.extent(found)).transpose()?;
            let after = if at < header.entries { Some(bytes.extent(at)?) } else { None };
            Ok((before, after, at))
        })?;
        let overlaps = before.is_some_and(|before| before.end() > u64::from(extent.block))
            || after.is_some_and(|after| extent.end() > u64::from(after.block));
        if overlaps {
            let number = self.body.number;
            return Err(self.body.fs.complain(
                CORRUPTED,
                format_args!("inode {number}: block {} is there already", extent.block),
            ));
        }
        if let Some(before) = before.filter(|before| self.joins && before.joins(&extent)) {
            let mut joined = Extent { length: before.length + extent.length, ..before };
            let gap_closed = after.filter(|after| joined.joins(after));
            joined.length += gap_closed.map_or(0, |after| after.length);
            self.change(leaf, |bytes| {
                bytes.set_extent(at - 1, joined)?;
                if gap_closed.is_some() { bytes.remove(at) } else { Ok(()) }
            })?;
            return self.unchanged(leaf);
        }
        if let Some(after) = after.filter(|after| self.joins && extent.joins(after)) {
            let joined = Extent { length: extent.length + after.length, ..extent };
            self.change(leaf, |bytes| bytes.set_extent(at, joined))?;
            return self.unchanged(leaf);
        }
        self.add(leaf, header, at, |bytes, at| bytes.insert_extent(at, extent))
    }

    /// Adds an entry as number `at`, splitting the node if it is full: in the middle, or where it grows at its end.
    fn add(
        &mut self,
        node: &Node,
        header: Header,
        at: usize,
        put: impl FnOnce(&mut NodeMut<'_>, usize) -> Result<()>,
    ) -> Result<Grown> {
        if header.entries < header.max {
            self.change(node, |bytes| put(bytes, at))?;
            return self.unchanged(node);
        }
        let kept = if at == header.entries { header.entries } else { header.entries / 2 };
        let (block, sibling) = self.new_node(header.depth)?;
        let moved = self.change(node, |bytes| bytes.split_off(kept))?;
        self.change(&sibling, |bytes| bytes.fill(&moved))?;
        let (target, place) =
            if at > kept || kept == header.entries { (&sibling, at - kept) } else { (node, at) };
        self.change(target, |bytes| put(bytes, place))?;
        let first = with_node(self.map, node, |bytes| bytes.key(0))?;
        let second = with_node(self.map, &sibling, |bytes| bytes.key(0))?;
        Ok(Grown { first, sibling: Some(Index { block: second, child: block }) })
    }

    /// Cuts `from..to` out of the last leaf that has some of it; gives what was cut, and what must be put in again (the end of an extent that
    /// was cut in its middle).
    fn cut_below(
        &mut self,
        node: &Node,
        from: u32,
        to: u64,
        limit: usize,
        out: &mut Cut,
    ) -> Result<Option<u32>> {
        let header = self.header(node)?;
        if header.depth == 0 {
            self.cut_leaf(node, header, from, to, limit, out)?;
        } else {
            let last = to.saturating_sub(1).min(u64::from(u32::MAX)) as u32;
            let mut at = with_node(self.map, node, |bytes| bytes.find(header.entries, last))?;
            while let Some(place) = at {
                let entry = with_node(self.map, node, |bytes| bytes.index(place))?;
                let child = Node::Block(read_node(self.body, entry.child, header.depth - 1)?);
                let first = self.cut_below(&child, from, to, limit, out)?;
                match first {
                    None => {
                        self.change(node, |bytes| bytes.remove(place))?;
                        self.drop_node(entry.child)?;
                    }
                    Some(first) if first != entry.block => {
                        self.change(node, |bytes| {
                            bytes.set_index(place, Index { block: first, child: entry.child })
                        })?;
                    }
                    Some(_) => {}
                }
                if !out.extents.is_empty() || entry.block <= from {
                    break;
                }
                at = place.checked_sub(1);
            }
        }
        let entries = self.header(node)?.entries;
        if entries == 0 { Ok(None) } else { with_node(self.map, node, |bytes| bytes.key(0)).map(Some) }
    }

    fn drop_node(&mut self, block: u64) -> Result<()> {
        self.body.fs.free_run(self.handle, block, 1, Contents::Metadata)?;
        self.map.sectors = self.map.sectors.saturating_sub(self.body.sectors_of(1));
        Ok(())
    }

    fn cut_leaf(
        &mut self,
        leaf: &Node,
        header: Header,
        from: u32,
        to: u64,
        limit: usize,
        out: &mut Cut,
    ) -> Result<()> {
        let mut entries = header.entries;
        while entries > 0 && out.extents.len() < limit {
            let last = to.saturating_sub(1).min(u64::from(u32::MAX)) as u32;
            let Some(at) = with_node(self.map, leaf, |bytes| bytes.find(entries, last))? else {
                return Ok(());
            };
            let extent = with_node(self.map, leaf, |bytes| bytes.extent(at))?;
            let end = extent.end().min(to);
            let longest = end.saturating_sub(u64::from(out.longest)).min(u64::from(u32::MAX)) as u32;
            let start = extent.block.max(from).max(longest);
            if u64::from(start) >= end {
                return Ok(());
            }
            let cut = extent.part(start, (end - u64::from(start)) as u32);
            if extent.end() > end {
                let rest = extent.part(end as u32, (extent.end() - end) as u32);
                if start > extent.block {
                    out.rest = Some(rest);
                } else {
                    self.change(leaf, |bytes| bytes.set_extent(at, rest))?;
                    out.extents.push(cut);
                    // Nothing before it is in the way of the next look: its key has moved on.
                    continue;
                }
            }
            if start > extent.block {
                self.change(leaf, |bytes| {
                    bytes.set_extent(at, extent.part(extent.block, start - extent.block))
                })?;
            } else {
                self.change(leaf, |bytes| bytes.remove(at))?;
                entries -= 1;
            }
            out.extents.push(cut);
        }
        Ok(())
    }
}

impl Tree<'_> {
    /// Moves the extents of the first leaf that has some to be moved (of the last, if they go up): the order of entries stays right so.
    fn shift_below(&mut self, node: &Node, shift: &mut Shift) -> Result<bool> {
        let header = self.header(node)?;
        if header.depth == 0 {
            return self.shift_leaf(node, header, shift);
        }
        let nearest = if shift.up { shift.to.saturating_sub(1) } else { shift.from };
        let nearest = nearest.min(u64::from(u32::MAX)) as u32;
        let found = with_node(self.map, node, |bytes| bytes.find(header.entries, nearest))?;
        let mut at = if shift.up { found } else { Some(found.unwrap_or(0)) };
        while let Some(place) = at.filter(|place| *place < header.entries) {
            let entry = with_node(self.map, node, |bytes| bytes.index(place))?;
            let child = Node::Block(read_node(self.body, entry.child, header.depth - 1)?);
            if self.shift_below(&child, shift)? {
                let first = with_node(self.map, &child, |bytes| bytes.key(0))?;
                if first != entry.block {
                    let index = Index { block: first, child: entry.child };
                    self.change(node, |bytes| bytes.set_index(place, index))?;
                }
                return Ok(true);
            }
            at = match shift.up {
                false => Some(place + 1),
                true if u64::from(entry.block) <= shift.from => None,
                true => place.checked_sub(1),
            };
        }
        Ok(false)
    }

    fn shift_leaf(&mut self, leaf: &Node, header: Header, shift: &mut Shift) -> Result<bool> {
        let before = |bytes: &NodeRef<'_>, block: u64| -> Result<usize> {
            let Some(last) = block.checked_sub(1) else { return Ok(0) };
            let found = bytes.find(header.entries, last.min(u64::from(u32::MAX)) as u32)?;
            Ok(found.map_or(0, |found| found + 1))
        };
        let (places, last) = with_node(self.map, leaf, |bytes| {
            let places = before(&bytes, shift.from)?..before(&bytes, shift.to)?;
            let last = places.clone().last().map(|last| bytes.extent(last)).transpose()?;
            Ok((places, last))
        })?;
        let Some(last) = last else { return Ok(false) };
        let first = with_node(self.map, leaf, |bytes| bytes.extent(places.start))?;
        self.change(leaf, |bytes| {
            for place in places.clone() {
                let moved = shift.moved(bytes.as_ref().extent(place)?)?;
                bytes.set_extent(place, moved)?;
            }
            // What was apart may have come together.
            let Some(place) = places.start.checked_sub(1).filter(|_| !shift.up) else { return Ok(()) };
            let (left, right) = (bytes.as_ref().extent(place)?, bytes.as_ref().extent(places.start)?);
            if !left.joins(&right) {
                return if left.end() <= u64::from(right.block) { Ok(()) } else { Err(CORRUPTED) };
            }
            bytes.set_extent(place, Extent { length: left.length + right.length, ..left })?;
            bytes.remove(places.start)
        })?;
        if shift.up {
            shift.to = u64::from(first.block);
        } else {
            shift.from = last.end();
        }
        Ok(true)
    }
}

/// What [`cut`] cut out.
pub struct Cut {
    /// The extents, from the last to the first.
    pub extents: Vec<Extent>,
    longest: u32,
    rest: Option<Extent>,
}

/// Puts an extent into a hole of the file. The caller writes the map afterwards ([`Body::write_map`]). Changes at most [`INSERT_CREDITS`]
/// blocks.
///
/// Errors: `ENOSPC`: there is no room for a node; `EUCLEAN`, `EIO`.
pub fn insert(body: &Body, map: &mut Map, handle: &mut Handle, extent: Extent) -> Result<()> {
    Tree::new(body, map, handle).insert(extent)
}

/// Takes up to `limit` extents out of the blocks `from..to`, from the end on, within one leaf; their blocks are the caller's. Nothing is
/// left there if it gives none. Changes at most [`INSERT_CREDITS`] blocks. The caller writes the map afterwards.
///
/// Errors: as [`insert`].
pub fn cut(body: &Body, map: &mut Map, handle: &mut Handle, from: u32, to: u64, limit: usize) -> Result<Cut> {
    cut_some(body, map, handle, from, to, limit, u32::MAX)
}

/// The same with no more than `longest` blocks of an extent.
pub fn cut_some(
    body: &Body,
    map: &mut Map,
    handle: &mut Handle,
    from: u32,
    to: u64,
    limit: usize,
    longest: u32,
) -> Result<Cut> {
    let mut out = Cut { extents: Vec::new(), longest, rest: None };
    out.extents.try_reserve(limit.min(64)).map_err(|_| Errno::ENOMEM)?;
    if root_header(body, map)?.entries == 0 || u64::from(from) >= to {
        return Ok(out);
    }
    let longest_from = to.saturating_sub(u64::from(longest)).min(u64::from(u32::MAX)) as u32;
    let cuts_middle = goes_on(body, map, from.max(longest_from), to)?;
    let mut tree = Tree::new(body, map, handle);
    if cuts_middle {
        tree.claim_nodes(to as u32, 1)?;
    }
    if tree.cut_below(&Node::Root, from, to, limit.max(1), &mut out)?.is_none() {
        tree.change(&Node::Root, |root| root.set_depth(0))?;
    }
    if let Some(rest) = out.rest.take() {
        tree.insert(rest)?;
    }
    Ok(out)
}

/// Whether one extent has blocks before `from` and at `to`: cutting out what is between makes two of it.
fn goes_on(body: &Body, map: &Map, from: u32, to: u64) -> Result<bool> {
    let Some(before) = from.checked_sub(1).filter(|_| to <= u64::from(u32::MAX)) else { return Ok(false) };
    let mapping = find(body, map, before)?;
    Ok(mapping.state != State::Hole && u64::from(before) + u64::from(mapping.length) > to)
}

/// Lets the last extent that has some of the blocks `from..to` be written as far as it lies there; gives that part, `None`: there is none. Changes at most
/// twice [`INSERT_CREDITS`] blocks. The caller writes the map afterwards.
///
/// Errors: as [`insert`]; nothing has changed then.
pub fn convert_last(
    body: &Body,
    map: &mut Map,
    handle: &mut Handle,
    from: u32,
    to: u64,
) -> Result<Option<Extent>> {
    if root_header(body, map)?.entries == 0 || u64::from(from) >= to {
        return Ok(None);
    }
    let last = (to - 1).min(u64::from(u32::MAX)) as u32;
    let mut tree = Tree::new(body, map, handle);
    let Some(found) = tree.entry_at(last)? else { return Ok(None) };
    let extent = found.extent;
    let (start, end) = (extent.block.max(from), extent.end().min(to));
    if u64::from(start) >= end {
        return Ok(None);
    }
    let part = Extent { unwritten: false, ..extent.part(start, (end - u64::from(start)) as u32) };
    let front = (extent.block < start).then(|| extent.part(extent.block, start - extent.block));
    let rest = (extent.end() > end).then(|| extent.part(end as u32, (extent.end() - end) as u32));
    match (front, rest, found.before, found.after) {
        // What is written one after the other takes no more entries.
        (None, Some(rest), Some(before), _) if before.joins(&part) => {
            let joined = Extent { length: before.length + part.length, ..before };
            tree.change(&found.leaf, |bytes| {
                bytes.set_extent(found.at - 1, joined)?;
                bytes.set_extent(found.at, rest)
            })?;
            return Ok(Some(part));
        }
        (Some(_), None, _, Some(after)) if part.joins(&after) => {}
        _ => tree.claim_nodes(start, usize::from(front.is_some()) + usize::from(rest.is_some()))?,
    }
    // The first block of the leaf stays the same, so that everything goes into this one or what comes of it.
    if let Some(rest) = rest {
        let kept = Extent { length: extent.length - rest.length, ..extent };
        tree.change(&found.leaf, |bytes| bytes.set_extent(found.at, kept))?;
        tree.joins = false;
        tree.insert(rest)?;
        tree.joins = true;
    }
    let Some(found) = tree.entry_at(start)? else { return Err(CORRUPTED) };
    match front {
        Some(front) => {
            tree.change(&found.leaf, |bytes| bytes.set_extent(found.at, front))?;
            tree.insert(part)?;
        }
        None => tree.replace(&found, part)?,
    }
    Ok(Some(part))
}

/// Takes one step of moving extents; false: all have been. The map is right after each. Changes as many blocks as the tree has levels. The caller
/// writes the map afterwards, and knows that they have somewhere to go: [`end`] tells.
///
/// Errors: `EUCLEAN`, `EIO`; those of the handle.
pub fn shift(body: &Body, map: &mut Map, handle: &mut Handle, shift: &mut Shift) -> Result<bool> {
    root_header(body, map)?;
    Tree::new(body, map, handle).shift_below(&Node::Root, shift)
}

/// Divides the extent that goes on over `block`, so that one begins there. Changes at most twice [`INSERT_CREDITS`] blocks. The caller writes the map
/// afterwards.
///
/// Errors: as [`insert`]; nothing has changed then.
pub fn split(body: &Body, map: &mut Map, handle: &mut Handle, block: u32) -> Result<()> {
    let Some(before) = block.checked_sub(1) else { return Ok(()) };
    let mapping = find(body, map, before)?;
    if mapping.state == State::Hole || mapping.length < 2 {
        return Ok(());
    }
    let end = u64::from(before) + u64::from(mapping.length);
    for extent in cut(body, map, handle, block, end, 1)?.extents {
        let mut tree = Tree { joins: false, ..Tree::new(body, map, handle) };
        if let Err(error) = tree.insert(extent) {
            // Joined again it needs no room.
            insert(body, map, handle, extent)?;
            return Err(error);
        }
    }
    Ok(())
}

/// The block behind the last that has a place. Errors: `EUCLEAN`, `EIO`.
pub fn end(body: &Body, map: &Map) -> Result<u64> {
    let mut header = root_header(body, map)?;
    let mut node = Node::Root;
    while header.depth > 0 {
        let last = header.entries.checked_sub(1).ok_or(CORRUPTED)?;
        let child = with_node(map, &node, |bytes| bytes.index(last))?.child;
        let buffer = read_node(body, child, header.depth - 1)?;
        header = NodeRef(&buffer.read()).header(Some(header.depth - 1))?;
        node = Node::Block(buffer);
    }
    let Some(last) = header.entries.checked_sub(1) else { return Ok(0) };
    with_node(map, &node, |bytes| bytes.extent(last)).map(|extent| extent.end())
}
