//! File systems made of code: what `/proc`, `/sys` and their like are built from.
//!
//! Key types: [`Node`] (what a name stands for: a directory, a text computed when it is read, a link, a device), [`Directory`] (a
//! directory that finds and lists its nodes when asked), [`StaticDirectory`] (one with fixed names), [`TextFile`] (an open text),
//! [`PseudoFs`] (the type).
//!
//! A text is computed at the first read of an open file and again at each read from offset 0, and kept in between, so that
//! a reader in parts sees one consistent text. Locks: one sleeping mutex around an open file's text.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use abi::errno::{Errno, Result};
use machine::sync::atomic::{AtomicU64, Ordering};
use machine::sync::{Mutex, Once};
use mm::io::{IoReader, IoWriter};
use security::{Credentials, Kgid, Kuid, UserNamespace};

use crate::file::{File, FileOperations};
use crate::inode::{
    AttributeChange, Inode, InodeAttributes, InodeOperations, LinkTarget, NameCaching, NewContent, NewInode,
    state,
};
use crate::path::Path;
use crate::readdir::{DirectoryEntry, DirectorySink, SinkState, emit_dots};
use crate::superblock::{
    FileSystemType, MountRequest, SuperBlock, SuperBlockAttributes, SuperBlockOperations,
};
use crate::types::{AccessMask, DeviceId, FileKind, TimeLimits};

/// The text of a file while it is computed. It may become as large as a program makes what it describes, so that writing fails
/// when there is no memory, instead of the thread.
#[derive(Default)]
pub struct Text(Vec<u8>);

impl fmt::Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0.try_reserve(part.len()).map_err(|_| fmt::Error)?;
        self.0.extend_from_slice(part.as_bytes());
        Ok(())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// Computes a text.
type WriteText = Arc<dyn Fn(&mut Text) -> Result<()> + Send + Sync>;
/// Takes what was written to a file.
type TakeInput = Arc<dyn Fn(&[u8]) -> Result<()> + Send + Sync>;
/// Computes bytes.
type MakeBytes = Arc<dyn Fn() -> Result<Vec<u8>> + Send + Sync>;
/// Opens a file that has state of its own for each who opens it.
type OpenFile = Arc<dyn Fn() -> Result<Arc<dyn FileOperations>> + Send + Sync>;
/// Finds a place.
type FindPlace = Arc<dyn Fn() -> Result<Path> + Send + Sync>;
/// Says who may do what with a node.
type Allow = Arc<dyn Fn(&Credentials, AccessMask) -> Result<()> + Send + Sync>;
/// Tells whether a node still stands for what it did.
type StillValid = Arc<dyn Fn() -> bool + Send + Sync>;

/// What [`Directory::list`] hands entries to: name, kind, inode number, and the cursor after it. `false`: no more.
pub type Lister<'a> = &'a mut dyn FnMut(&[u8], FileKind, u64, u64) -> bool;

/// A directory that is computed.
pub trait Directory: Send + Sync {
    /// What has this name. Errors: `ENOENT`, and what computing gives.
    fn lookup(&self, name: &[u8]) -> Result<Node>;
    /// Hands over entries from `cursor` on (0 is the start).
    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()>;
    /// Whether there will never be an entry in it.
    fn is_always_empty(&self) -> bool {
        false
    }
    /// How long names may be cached: [`NameCaching::Checked`] where entries come and go by themselves.
    fn caching(&self) -> NameCaching {
        NameCaching::Always
    }
}

#[derive(Clone)]
enum Content {
    Directory(Arc<dyn Directory>),
    Text(WriteText, Option<TakeInput>),
    Bytes(MakeBytes),
    File(Arc<dyn FileOperations>),
    Opening(OpenFile),
    Symlink(Arc<[u8]>),
    TextLink(MakeBytes),
    MagicLink(FindPlace),
    Device(FileKind, DeviceId),
}

/// What a name stands for.
#[derive(Clone)]
pub struct Node {
    content: Content,
    mode: u32,
    uid: Kuid,
    gid: Kgid,
    number: u64,
    valid: Option<StillValid>,
    allow: Option<Allow>,
}

/// Numbers of nodes that are given none.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(2);

impl Node {
    fn new(content: Content, mode: u32) -> Node {
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        Node { content, mode, uid: Kuid::ROOT, gid: Kgid::ROOT, number, valid: None, allow: None }
    }

    /// A directory.
    pub fn directory(directory: Arc<dyn Directory>) -> Node {
        Node::new(Content::Directory(directory), 0o555)
    }

    /// A file whose text `write` computes.
    pub fn text(mode: u32, write: impl Fn(&mut Text) -> fmt::Result + Send + Sync + 'static) -> Node {
        Node::text_with(mode, move |out| write(out).map_err(|_| Errno::ENOMEM))
    }

    /// The same where computing may fail.
    pub fn text_with(mode: u32, write: impl Fn(&mut Text) -> Result<()> + Send + Sync + 'static) -> Node {
        Node::new(Content::Text(Arc::new(write), None), mode)
    }

    /// The same that can be written: `take` gets each write whole (a page at most).
    pub fn writable_text(
        mode: u32,
        write: impl Fn(&mut Text) -> Result<()> + Send + Sync + 'static,
        take: impl Fn(&[u8]) -> Result<()> + Send + Sync + 'static,
    ) -> Node {
        Node::new(Content::Text(Arc::new(write), Some(Arc::new(take))), mode)
    }

    /// A file of computed bytes.
    pub fn bytes(mode: u32, make: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static) -> Node {
        Node::new(Content::Bytes(Arc::new(make)), mode)
    }

    /// A file with operations of its own.
    pub fn file(mode: u32, operations: Arc<dyn FileOperations>) -> Node {
        Node::new(Content::File(operations), mode)
    }

    /// A file whose operations are made anew for each who opens it; `open` may refuse.
    pub fn opening(
        mode: u32,
        open: impl Fn() -> Result<Arc<dyn FileOperations>> + Send + Sync + 'static,
    ) -> Node {
        Node::new(Content::Opening(Arc::new(open)), mode)
    }

    /// A symbolic link to a fixed text.
    pub fn symlink(text: &str) -> Node {
        Node::new(Content::Symlink(Arc::from(text.as_bytes())), 0o777)
    }

    /// A symbolic link to a computed text.
    pub fn text_link(make: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static) -> Node {
        Node::new(Content::TextLink(Arc::new(make)), 0o777)
    }

    /// A link straight to a place; its text is the place's path as the reader's root shows it.
    pub fn magic_link(find: impl Fn() -> Result<Path> + Send + Sync + 'static) -> Node {
        Node::new(Content::MagicLink(Arc::new(find)), 0o777)
    }

    /// A device node.
    pub fn device(kind: FileKind, id: DeviceId, mode: u32) -> Node {
        Node::new(Content::Device(kind, id), mode)
    }

    /// With these permission bits.
    pub fn mode(mut self, mode: u32) -> Node {
        self.mode = mode;
        self
    }

    /// With this owner.
    pub fn owner(mut self, uid: Kuid, gid: Kgid) -> Node {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// With this inode number.
    pub fn inode_number(mut self, number: u64) -> Node {
        self.number = number;
        self
    }

    /// Standing for the same only while this says so. Called with preemption off.
    pub fn valid_while(mut self, valid: impl Fn() -> bool + Send + Sync + 'static) -> Node {
        self.valid = Some(Arc::new(valid));
        self
    }

    /// With its own rule for who may do what, instead of owner and permission bits.
    pub fn allow(
        mut self,
        rule: impl Fn(&Credentials, AccessMask) -> Result<()> + Send + Sync + 'static,
    ) -> Node {
        self.allow = Some(Arc::new(rule));
        self
    }

    /// Its inode number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The kind of file it is.
    pub fn kind(&self) -> FileKind {
        match &self.content {
            Content::Directory(_) => FileKind::Directory,
            Content::Text(..) | Content::Bytes(_) | Content::File(_) | Content::Opening(_) => {
                FileKind::Regular
            }
            Content::Symlink(_) | Content::TextLink(_) | Content::MagicLink(_) => FileKind::Symlink,
            Content::Device(kind, _) => *kind,
        }
    }

    fn into_inode(self, superblock: &Arc<SuperBlock>) -> Arc<Inode> {
        let mut attributes = InodeAttributes::new(self.number, self.kind(), self.mode);
        (attributes.uid, attributes.gid) = (self.uid, self.gid);
        attributes.state = state::NO_ACCESS_TIME;
        if self.allow.is_some() {
            attributes.state |= state::OWN_PERMISSIONS;
        }
        if let Content::Device(_, id) = self.content {
            attributes.special_device = id;
        }
        Arc::new(Inode::new(superblock, attributes, Box::new(NodeOperations(self))))
    }
}

/// A directory with fixed names.
#[derive(Default)]
pub struct StaticDirectory {
    entries: Vec<(Box<str>, Node)>,
}

impl StaticDirectory {
    /// An empty one.
    pub fn new() -> StaticDirectory {
        StaticDirectory::default()
    }

    /// With one name more.
    #[allow(clippy::should_implement_trait)]
    pub fn add(mut self, name: &str, node: Node) -> StaticDirectory {
        self.entries.push((Box::from(name), node));
        self
    }
}

impl Directory for StaticDirectory {
    fn is_always_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let found = self.entries.iter().find(|(known, _)| known.as_bytes() == name);
        found.map(|(_, node)| node.clone()).ok_or(Errno::ENOENT)
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        let start = usize::try_from(cursor).unwrap_or(usize::MAX);
        for (index, (name, node)) in self.entries.iter().enumerate().skip(start) {
            if !take(name.as_bytes(), node.kind(), node.number, index as u64 + 1) {
                break;
            }
        }
        Ok(())
    }
}

struct NodeOperations(Node);

impl InodeOperations for NodeOperations {
    fn lookup(&self, directory: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        match &self.0.content {
            Content::Directory(contents) => Ok(contents.lookup(name)?.into_inode(directory.superblock())),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn create(&self, directory: &Arc<Inode>, _name: &[u8], new: &NewInode<'_>) -> Result<Arc<Inode>> {
        let own = directory.superblock().private::<Instance>().and_then(|instance| instance.creation_error);
        let usual = if matches!(new.content, NewContent::Regular) { Errno::EACCES } else { Errno::EPERM };
        Err(own.unwrap_or(usual))
    }

    /// A length means nothing to a text that is computed: `O_TRUNC` is what a shell opens such a file with, and is fine.
    fn set_attributes(&self, inode: &Arc<Inode>, change: &AttributeChange) -> Result<()> {
        AttributeChange { size: None, ..*change }.apply(inode);
        Ok(())
    }

    fn name_caching(&self) -> NameCaching {
        match &self.0.content {
            Content::Directory(contents) => contents.caching(),
            _ => NameCaching::Always,
        }
    }

    fn permission(&self, _inode: &Inode, credentials: &Credentials, mask: AccessMask) -> Option<Result<()>> {
        self.0.allow.as_ref().map(|allow| allow(credentials, mask))
    }

    fn is_always_empty(&self) -> bool {
        matches!(&self.0.content, Content::Directory(contents) if contents.is_always_empty())
    }

    fn still_valid(&self) -> bool {
        self.0.valid.as_ref().is_none_or(|valid| valid())
    }

    fn link_text(&self) -> Option<&[u8]> {
        match &self.0.content {
            Content::Symlink(text) => Some(text),
            _ => None,
        }
    }

    fn follow_link(&self, inode: &Arc<Inode>) -> Result<LinkTarget> {
        match &self.0.content {
            Content::MagicLink(find) => find().map(LinkTarget::Place),
            _ => self.read_link(inode).map(LinkTarget::Text),
        }
    }

    fn read_link(&self, _inode: &Arc<Inode>) -> Result<Vec<u8>> {
        match &self.0.content {
            Content::Symlink(text) => Ok(text.to_vec()),
            Content::TextLink(make) => make(),
            Content::MagicLink(find) => Ok(find()?.text_from_top()?.bytes),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(&self, _inode: &Arc<Inode>, _file: &File) -> Result<Option<Arc<dyn FileOperations>>> {
        Ok(match &self.0.content {
            Content::Text(write, take) => {
                let make = bytes_of(write.clone());
                Some(Arc::new(TextFile { make, take: take.clone(), text: Mutex::new(None) }))
            }
            Content::Bytes(make) => {
                Some(Arc::new(TextFile { make: make.clone(), take: None, text: Mutex::new(None) }))
            }
            Content::File(operations) => Some(operations.clone()),
            Content::Opening(open) => Some(open()?),
            _ => None,
        })
    }

    fn file_operations(&self) -> &dyn FileOperations {
        match &self.0.content {
            Content::Directory(_) => &DirectoryFile,
            _ => &crate::file::NoOperations,
        }
    }
}

/// An open computed directory.
struct DirectoryFile;

impl FileOperations for DirectoryFile {
    fn read(&self, _file: &File, _to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn can_poll(&self) -> bool {
        false
    }

    fn read_directory(&self, file: &File, sink: &mut dyn DirectorySink, position: u64) -> Result<u64> {
        const DOTS: u64 = 2;
        let (mut position, room) = emit_dots(file, sink, position)?;
        if room == SinkState::Full {
            return Ok(position);
        }
        let node = file.inode()?.private::<NodeOperations>().ok_or(Errno::ENOTDIR)?;
        let Content::Directory(contents) = &node.0.content else { return Err(Errno::ENOTDIR) };
        let mut failure = None;
        contents.list(position - DOTS, &mut |name, kind, inode_number, next| {
            let next = next + DOTS;
            let entry = DirectoryEntry { name, inode_number, kind: Some(kind), next };
            match sink.add(&entry) {
                Ok(SinkState::Taken) => {
                    position = next;
                    true
                }
                Ok(SinkState::Full) => false,
                Err(error) => {
                    failure = Some(error);
                    false
                }
            }
        })?;
        failure.map_or(Ok(position), Err)
    }
}

/// An open computed text; by itself, or as a part of a file that can do more ([`Node::opening`]).
pub struct TextFile {
    make: MakeBytes,
    take: Option<TakeInput>,
    text: Mutex<Option<Vec<u8>>>,
}

impl TextFile {
    /// One that nobody writes to, whose text `write` computes.
    pub fn new(write: impl Fn(&mut Text) -> Result<()> + Send + Sync + 'static) -> TextFile {
        TextFile { make: bytes_of(Arc::new(write)), take: None, text: Mutex::new(None) }
    }
}

/// The bytes of a text.
fn bytes_of(write: WriteText) -> MakeBytes {
    Arc::new(move || {
        let mut text = Text::default();
        write(&mut text)?;
        Ok(text.0)
    })
}

impl FileOperations for TextFile {
    fn read(&self, _file: &File, to: &mut dyn IoWriter, offset: u64) -> Result<usize> {
        let mut text = self.text.lock();
        if offset == 0 || text.is_none() {
            *text = Some((self.make)()?);
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = text.as_ref().and_then(|text| text.get(start..)).unwrap_or_default();
        if rest.is_empty() { Ok(0) } else { to.write_bytes(rest) }
    }

    fn write(&self, _file: &File, from: &mut dyn IoReader, _offset: u64) -> Result<usize> {
        let take = self.take.as_ref().ok_or(Errno::EIO)?;
        let count = from.remaining().min(machine::PAGE_SIZE);
        let mut input = Vec::new();
        input.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        input.resize(count, 0);
        from.read_exact(&mut input).map_err(|_| Errno::EFAULT)?;
        take(&input)?;
        Ok(count)
    }
}

/// An instance of a computed file system of type `name` whose root is `node`, owned by `namespace`: its root.
/// Making something in it fails with `creation_error`, if that is given.
pub fn instance(
    name: &'static str,
    magic: u32,
    node: Node,
    namespace: Arc<UserNamespace>,
    creation_error: Option<Errno>,
) -> Arc<Inode> {
    let attributes = SuperBlockAttributes {
        type_name: name,
        magic,
        block_size: machine::PAGE_SIZE as u32,
        max_file_size: i64::MAX as u64,
        time_limits: TimeLimits::NONE,
        flags: abi::mount::MountFlags::empty(),
        device: None,
    };
    node.inode_number(1).into_inode(&SuperBlock::new(
        attributes,
        Box::new(Instance { creation_error }),
        namespace,
    ))
}

/// A type of computed file system: one instance, wherever it is mounted.
pub struct PseudoFs {
    name: &'static str,
    magic: u32,
    node: Node,
    creation_error: Option<Errno>,
    root: Once<Arc<Inode>>,
}

struct Instance {
    creation_error: Option<Errno>,
}
impl SuperBlockOperations for Instance {}

impl PseudoFs {
    /// The type of this name whose root is `node`.
    pub fn new(name: &'static str, magic: u32, node: Node) -> Arc<PseudoFs> {
        Arc::new(PseudoFs::unshared(name, magic, node, None))
    }

    /// The same where making something in any directory fails with this error instead of `EACCES` (a file) and `EPERM`.
    pub fn with_creation_error(name: &'static str, magic: u32, node: Node, error: Errno) -> Arc<PseudoFs> {
        Arc::new(PseudoFs::unshared(name, magic, node, Some(error)))
    }

    fn unshared(name: &'static str, magic: u32, node: Node, creation_error: Option<Errno>) -> PseudoFs {
        PseudoFs { name, magic, node: node.inode_number(1), creation_error, root: Once::new() }
    }
}

impl FileSystemType for PseudoFs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn mount(&self, _request: &MountRequest<'_>) -> Result<Arc<Inode>> {
        let make = || {
            let users = security::initial_namespace().clone();
            instance(self.name, self.magic, self.node.clone(), users, self.creation_error)
        };
        Ok(self.root.get_or_init(make).clone())
    }
}
