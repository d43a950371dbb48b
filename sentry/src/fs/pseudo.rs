//! File systems whose files are made of text when they are read: proc, sysfs, cgroup.
//!
//! Key types: [`Text`] (a file), [`Link`], [`Directory`] (what a directory holds just now), [`Tree`] (builds a directory
//! that never changes). Text is made at the first read of an open file and again when it is read from its start.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Errno;
use crate::io::{Sink, Source};
use crate::task::{Credentials, Task};
use crate::vfs::permission::{self, Want};
use crate::vfs::{Access, DirEntry, FileOps, Inode, LinkTarget, Location, Op, SetAttr, Stat, mode, now};

/// Most bytes of one write to such a file. LINUX: a page for sysctls.
const WRITE_MAX: usize = 4096;

/// `DT_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Directory.
    Directory = 4,
    /// Regular file.
    File = 8,
    /// Symbolic link.
    Link = 10,
}

/// Makes a file's text; who reads is the task.
pub type Reader = dyn Fn(&Arc<Task>) -> Result<Vec<u8>, Errno> + Send + Sync;
/// Takes what is written in one call.
pub type Writer = dyn Fn(&Arc<Task>, &[u8]) -> Result<(), Errno> + Send + Sync;

/// What `stat(2)` tells of a pseudo node.
#[derive(Debug, Clone, Copy)]
pub struct Attributes {
    /// Device number of the file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Permission bits.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    time_ns: i64,
}

impl Attributes {
    /// Of root, with an inode number of its own.
    #[must_use]
    pub fn new(dev: u64, permissions: u32) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0x1000_0000);
        let ino = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { dev, ino, permissions, uid: 0, gid: 0, time_ns: now() }
    }

    /// With this inode number, so that a node that is made anew each time stays the same to those who look.
    #[must_use]
    pub fn with_ino(dev: u64, permissions: u32, ino: u64) -> Self {
        Self { dev, ino, permissions, uid: 0, gid: 0, time_ns: now() }
    }

    /// Of somebody.
    #[must_use]
    pub fn owned_by(self, uid: u32, gid: u32) -> Self {
        Self { uid, gid, ..self }
    }

    pub(super) fn stat(&self, kind: u32, nlink: u32) -> Stat {
        Stat {
            dev: self.dev,
            ino: self.ino,
            mode: kind | self.permissions,
            nlink,
            uid: self.uid,
            gid: self.gid,
            blksize: 1024,
            atime_ns: self.time_ns,
            mtime_ns: self.time_ns,
            ctime_ns: self.time_ns,
            ..Stat::default()
        }
    }
}

/// A file of text.
pub struct Text {
    attributes: Attributes,
    reader: Arc<Reader>,
    writer: Option<Arc<Writer>>,
}

impl Text {
    /// A file that can only be read.
    #[must_use]
    pub fn new(
        attributes: Attributes,
        reader: impl Fn(&Arc<Task>) -> Result<Vec<u8>, Errno> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { attributes, reader: Arc::new(reader), writer: None })
    }

    /// A file that can be written, too.
    #[must_use]
    pub fn writable(
        attributes: Attributes,
        reader: impl Fn(&Arc<Task>) -> Result<Vec<u8>, Errno> + Send + Sync + 'static,
        writer: impl Fn(&Arc<Task>, &[u8]) -> Result<(), Errno> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { attributes, reader: Arc::new(reader), writer: Some(Arc::new(writer)) })
    }
}

impl Inode for Text {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.attributes.stat(mode::S_IFREG, 1))
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        set_text_attr(change)
    }

    fn open(&self, _: &Arc<Task>, _: &Location, _: u32) -> Result<Arc<dyn FileOps>, Errno> {
        Ok(open_text(Arc::clone(&self.reader), self.writer.clone()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What may be changed of a file of text: `open(O_TRUNC)` by a shell's redirection is fine, anything else is not.
pub(super) fn set_text_attr(change: &SetAttr) -> Result<(), Errno> {
    let only_size = change.mode.is_none() && change.uid.is_none() && change.gid.is_none();
    if change.size.is_some() && only_size { Ok(()) } else { Err(Errno::EPERM) }
}

/// An open file of text, for nodes of other types.
pub(super) fn open_text(reader: Arc<Reader>, writer: Option<Arc<Writer>>) -> Arc<dyn FileOps> {
    Arc::new(OpenText { reader, writer, text: Mutex::new(None) })
}

struct OpenText {
    reader: Arc<Reader>,
    writer: Option<Arc<Writer>>,
    /// LOCK: leaf; the text is made without it.
    text: Mutex<Option<Arc<Vec<u8>>>>,
}

impl OpenText {
    fn text(&self, task: &Arc<Task>, anew: bool) -> Result<Arc<Vec<u8>>, Errno> {
        let lock = || self.text.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = lock().clone().filter(|_| !anew) {
            return Ok(text);
        }
        let text = Arc::new((self.reader)(task)?);
        *lock() = Some(Arc::clone(&text));
        Ok(text)
    }
}

impl FileOps for OpenText {
    fn read(&self, op: &Op<'_>, sink: &mut dyn Sink, offset: u64) -> Result<usize, Errno> {
        let text = self.text(op.task, offset == 0)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
        let end = text.len().min(start.saturating_add(sink.remaining()));
        if start == end { Ok(0) } else { sink.write(&text[start..end]) }
    }

    fn write(&self, op: &Op<'_>, source: &mut dyn Source, _: u64) -> Result<usize, Errno> {
        let writer = self.writer.as_ref().ok_or(Errno::EIO)?;
        if source.remaining() > WRITE_MAX {
            return Err(Errno::EINVAL);
        }
        let bytes = source.read_to_vec(WRITE_MAX)?;
        writer(op.task, &bytes)?;
        Ok(bytes.len())
    }

    /// LINUX: `proc_setattr`: like `open(O_TRUNC)`, without effect.
    fn truncate(&self, _: u64) -> Result<(), Errno> {
        Ok(())
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Where a link leads, for one who follows it.
pub type Target = dyn Fn(&Arc<Task>) -> Result<LinkTarget, Errno> + Send + Sync;

/// A symbolic link.
pub struct Link {
    attributes: Attributes,
    target: Box<Target>,
}

impl Link {
    /// A link that leads somewhere else for each.
    #[must_use]
    pub fn new(
        attributes: Attributes,
        target: impl Fn(&Arc<Task>) -> Result<LinkTarget, Errno> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { attributes, target: Box::new(target) })
    }
}

impl Inode for Link {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.attributes.stat(mode::S_IFLNK, 1))
    }

    fn read_link(&self, task: &Arc<Task>) -> Result<LinkTarget, Errno> {
        (self.target)(task)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A name in a directory.
#[derive(Debug, Clone)]
pub struct Name {
    /// The name.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Where it comes among its siblings; grows, never 0.
    pub position: u64,
}

/// What a directory that changes by itself holds.
pub trait Directory: Send + Sync {
    /// A child.
    ///
    /// # Errors
    /// ENOENT.
    fn child(&self, task: &Arc<Task>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno>;

    /// How many of its names are directories: its link count tells it, and two more.
    fn subdirectories(&self) -> u32 {
        0
    }

    /// What `st_size` says.
    fn size(&self) -> u64 {
        0
    }

    /// All names, by position.
    ///
    /// # Errors
    /// ENOENT if what it is about is gone; EACCES.
    fn names(&self, task: &Arc<Task>) -> Result<Vec<Name>, Errno>;

    /// As [`Inode::permission`].
    ///
    /// # Errors
    /// EACCES.
    fn permission(
        &self,
        _task: &Arc<Task>,
        credentials: &Credentials,
        access: &Access,
        want: Want,
    ) -> Result<(), Errno> {
        permission::check(credentials, access, want)
    }
}

/// A directory node around a [`Directory`].
pub struct DirectoryNode<D> {
    attributes: Attributes,
    directory: D,
}

impl<D: Directory + 'static> DirectoryNode<D> {
    /// A node.
    #[must_use]
    pub fn new(attributes: Attributes, directory: D) -> Arc<Self> {
        Arc::new(Self { attributes, directory })
    }

    /// What it holds.
    pub fn directory(&self) -> &D {
        &self.directory
    }
}

impl<D: Directory + 'static> Inode for DirectoryNode<D> {
    fn stat(&self) -> Result<Stat, Errno> {
        let links = self.directory.subdirectories().saturating_add(2);
        Ok(Stat { size: self.directory.size(), ..self.attributes.stat(mode::S_IFDIR, links) })
    }

    fn permission(
        &self,
        task: &Arc<Task>,
        credentials: &Credentials,
        access: &Access,
        want: Want,
    ) -> Result<(), Errno> {
        self.directory.permission(task, credentials, access, want)
    }

    fn lookup(&self, task: &Arc<Task>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        self.directory.child(task, name)
    }

    fn read_dir(
        &self,
        task: &Arc<Task>,
        cookie: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        for Name { name, kind, position } in self.directory.names(task)? {
            let ino = self.attributes.ino.wrapping_add(position);
            if position > cookie && !emit(DirEntry { name: &name, ino, kind: kind as u8, next: position }) {
                break;
            }
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// How many there are, as a link count has it.
pub fn count<T>(of: impl Iterator<Item = T>) -> u32 {
    u32::try_from(of.count()).unwrap_or(u32::MAX)
}

/// Numbers names by their order.
#[must_use]
pub fn number(names: impl IntoIterator<Item = (Vec<u8>, Kind)>) -> Vec<Name> {
    let numbered = names.into_iter().zip(1..);
    numbered.map(|((name, kind), position)| Name { name, kind, position }).collect()
}

/// Builds directories that never change.
pub struct Tree {
    dev: u64,
    entries: BTreeMap<Vec<u8>, Entry>,
}

enum Entry {
    Tree(Tree),
    Node(Kind, Arc<dyn Inode>),
}

/// A directory that never changes.
pub struct Fixed {
    entries: BTreeMap<Vec<u8>, (Kind, Arc<dyn Inode>)>,
}

impl Tree {
    /// An empty directory.
    #[must_use]
    pub fn new(dev: u64) -> Self {
        Self { dev, entries: BTreeMap::new() }
    }

    fn directory(&mut self, path: &str) -> &mut Tree {
        let mut at = self;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let dev = at.dev;
            let entry =
                at.entries.entry(name.as_bytes().to_vec()).or_insert_with(|| Entry::Tree(Tree::new(dev)));
            if matches!(entry, Entry::Node(..)) {
                *entry = Entry::Tree(Tree::new(dev));
            }
            let Entry::Tree(tree) = entry else { unreachable!("just made a tree") };
            at = tree;
        }
        at
    }

    /// Puts a node at a path.
    pub fn put(&mut self, path: &str, kind: Kind, node: Arc<dyn Inode>) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.directory(dir).entries.insert(name.as_bytes().to_vec(), Entry::Node(kind, node));
    }

    /// An empty directory.
    pub fn dir(&mut self, path: &str) {
        self.directory(path);
    }

    /// A file whose text is made by a function.
    pub fn file(
        &mut self,
        path: &str,
        reader: impl Fn(&Arc<Task>) -> Result<Vec<u8>, Errno> + Send + Sync + 'static,
    ) {
        self.put(path, Kind::File, Text::new(Attributes::new(self.dev, 0o444), reader));
    }

    /// A file whose text never changes.
    pub fn text(&mut self, path: &str, text: impl Into<Vec<u8>>) {
        let text = text.into();
        self.file(path, move |_| Ok(text.clone()));
    }

    /// A link to a path.
    pub fn link(&mut self, path: &str, target: impl Into<Vec<u8>>) {
        let target = target.into();
        let node = Link::new(Attributes::new(self.dev, 0o777), move |_| Ok(LinkTarget::Path(target.clone())));
        self.put(path, Kind::Link, node);
    }

    /// The finished content.
    #[must_use]
    pub fn finish(self) -> Fixed {
        let dev = self.dev;
        let finish = |entry| match entry {
            Entry::Node(kind, node) => (kind, node),
            Entry::Tree(tree) => (
                Kind::Directory,
                DirectoryNode::new(Attributes::new(dev, 0o555), tree.finish()) as Arc<dyn Inode>,
            ),
        };
        Fixed { entries: self.entries.into_iter().map(|(name, entry)| (name, finish(entry))).collect() }
    }
}

impl Directory for Fixed {
    fn child(&self, _: &Arc<Task>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        self.entries.get(name).map(|(_, node)| Arc::clone(node)).ok_or(Errno::ENOENT)
    }

    fn names(&self, _: &Arc<Task>) -> Result<Vec<Name>, Errno> {
        Ok(number(self.entries.iter().map(|(name, (kind, _))| (name.clone(), *kind))))
    }

    fn subdirectories(&self) -> u32 {
        count(self.entries.values().filter(|(kind, _)| *kind == Kind::Directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::VecSink;

    #[test]
    fn a_tree_has_what_was_put_into_it() {
        let task = crate::testing::task();
        let mut tree = Tree::new(1);
        tree.text("a/b/c", "hello\n");
        tree.link("a/self", "b");
        tree.dir("empty");
        let root = tree.finish();
        let names: Vec<_> = root.names(&task).unwrap().into_iter().map(|name| name.name).collect();
        assert_eq!(names, [b"a".to_vec(), b"empty".to_vec()]);
        let c = ["a", "b", "c"].iter().fold(None::<Arc<dyn Inode>>, |at, name| {
            Some(match at {
                None => root.child(&task, name.as_bytes()).unwrap(),
                Some(dir) => dir.lookup(&task, name.as_bytes()).unwrap(),
            })
        });
        let c = c.unwrap();
        assert!(c.stat().unwrap().is_regular());
        let location = task.fs().root();
        let file = c.open(&task, &location, 0).unwrap();
        let op = Op { task: &task, flags: 0 };
        let mut sink = VecSink::new(3);
        assert_eq!(file.read(&op, &mut sink, 2), Ok(3));
        assert_eq!(sink.bytes, b"llo");
        assert_eq!(file.read(&op, &mut VecSink::new(10), 6), Ok(0));
    }

    #[test]
    fn text_is_made_again_when_read_from_the_start() {
        let task = crate::testing::task();
        let count = AtomicU64::new(0);
        let node = Text::new(Attributes::new(1, 0o444), move |_| {
            Ok(count.fetch_add(1, Ordering::Relaxed).to_string().into_bytes())
        });
        let file = node.open(&task, &task.fs().root(), 0).unwrap();
        let read = || {
            let mut sink = VecSink::new(10);
            file.read(&Op { task: &task, flags: 0 }, &mut sink, 0).unwrap();
            sink.bytes
        };
        assert_eq!((read(), read()), (b"0".to_vec(), b"1".to_vec()));
    }
}
