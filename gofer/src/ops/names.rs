//! Names in directories: `Link`, `Unlink`, `Rename`, `ReadDir`.

use std::sync::PoisonError;

use gofer_protocol::wire::{self, DIR_PAGE_MAX, DirEntryHead, LAST_ENTRY};
use gofer_protocol::{Errno, file_type};
use rustix::fs::{AtFlags, FileType, OFlags, RawDir, RenameFlags, SeekFrom, StatxFlags};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccomp::jail::{ActingAs, Ids};
use zerocopy::{FromBytes, IntoBytes};

use super::attr::uid;
use super::{writable, writable_dir};
use crate::host;
use crate::nodes::{Listing, Node};
use crate::request::{Fault, Name, Outcome, Reply, head, split, whole};
use crate::serve::Server;

/// What one call asks of the kernel. INVARIANT: an entry grows by at most a sixth in our format (24 bytes and a name
/// against 19 bytes, a name, a NUL and padding to 8), so that a page is never longer than [`DIR_PAGE_MAX`].
const GETDENTS_BYTES: usize = 44 << 10;
/// What is asked in addition, to find out whether there is more. PERF: a client that need not ask for the page behind the last
/// saves 40 us a directory.
const MORE_BYTES: usize = 4 << 10;
const _: () = assert!((GETDENTS_BYTES + MORE_BYTES) / 24 * 28 <= DIR_PAGE_MAX);

/// LINUX: `linux/magic.h`.
const OVERLAYFS_SUPER_MAGIC: rustix::fs::FsWord = 0x794c_7630;

/// One more name for a file.
pub(crate) fn link(server: &Server, body: &[u8]) -> Outcome {
    let (request, name): (wire::Link, _) = head(body)?;
    let node = writable(server, request.node)?;
    let dir = writable_dir(server, request.dir)?;
    let name = Name::new(name)?;
    if node.file_type == file_type::DIRECTORY {
        return Err(Errno::EPERM.into());
    }
    if node.mount != dir.mount {
        return Err(Errno::EXDEV.into());
    }
    // Following the descriptor's entry leads to the file itself, even if that is a symlink.
    rustix::fs::linkat(&server.proc_fds, host::entry(&*node), &*dir, name.bytes(), AtFlags::SYMLINK_FOLLOW)?;
    Ok(Reply::value(&server.stat(&*node)?))
}

/// Removes a name.
pub(crate) fn unlink(server: &Server, body: &[u8]) -> Outcome {
    let (request, name): (wire::Unlink, _) = head(body)?;
    let flags = match request.is_dir {
        0 => AtFlags::empty(),
        1 => AtFlags::REMOVEDIR,
        _ => return Err(Fault::Malformed("a flag that is neither 0 nor 1")),
    };
    let dir = writable_dir(server, request.dir)?;
    let name = Name::new(name)?;
    let acting = Remover::new(server, request.by)?;
    let removed = rustix::fs::unlinkat(&*dir, name.bytes(), flags);
    drop(acting);
    removed?;
    Reply::done()
}

/// While it lives, the calling thread is a user who is not above sticky directories, so that the host asks whose a name is in the moment
/// of the change. All other questions the sentry has asked.
struct Remover {
    /// What to have again.
    held: CapabilitySets,
    _acting: ActingAs,
}

impl Remover {
    /// `None`: nobody is to be asked, or this gofer has no rights of which one would have to be laid down.
    fn new(server: &Server, by: u32) -> Result<Option<Self>, Errno> {
        if by == wire::ANYBODY {
            return Ok(None);
        }
        let held = rustix::thread::capabilities(None)?;
        if !held.effective.contains(CapabilitySet::FOWNER | CapabilitySet::SETUID) {
            return Ok(None);
        }
        let ids = Ids { uid: uid(by)?.as_raw(), gid: server.ids.gid };
        let acting = ActingAs::new(server.ids, ids).map_err(|_| Errno::EPERM)?;
        let less = CapabilitySets { effective: held.effective - CapabilitySet::FOWNER, ..held };
        rustix::thread::set_capabilities(None, less)?;
        Ok(Some(Self { held, _acting: acting }))
    }
}

impl Drop for Remover {
    fn drop(&mut self) {
        // They are permitted, so that nothing can hinder it; a thread without them must serve nobody.
        rustix::thread::set_capabilities(None, self.held).expect("permitted capabilities can be had again");
    }
}

/// Moves a name.
pub(crate) fn rename(server: &Server, body: &[u8]) -> Outcome {
    let (request, tail): (wire::Rename, _) = head(body)?;
    let (old, new) = split(tail, request.old_length)?;
    let flags = RenameFlags::from_bits_retain(request.flags);
    let allowed = [RenameFlags::empty(), RenameFlags::NOREPLACE, RenameFlags::EXCHANGE];
    if !allowed.contains(&flags) {
        return Err(Errno::EINVAL.into());
    }
    let old_dir = writable_dir(server, request.old_dir)?;
    let new_dir = writable_dir(server, request.new_dir)?;
    let (old, new) = (Name::new(old)?, Name::new(new)?);
    if old_dir.mount != new_dir.mount {
        return Err(Errno::EXDEV.into());
    }
    if request.pad != 0 {
        return Err(Fault::Malformed("something where nothing is"));
    }
    let acting = Remover::new(server, request.by)?;
    let moved = rustix::fs::renameat_with(&*old_dir, old.bytes(), &*new_dir, new.bytes(), flags);
    drop(acting);
    moved?;
    Reply::done()
}

/// A page of entries.
pub(crate) fn read_dir(server: &Server, body: &[u8]) -> Outcome {
    let request: wire::ReadDir = whole(body)?;
    let node = server.nodes.get(request.node)?;
    if node.file_type != file_type::DIRECTORY {
        return Err(Errno::ENOTDIR.into());
    }
    let mut kept = node.listing.lock().unwrap_or_else(PoisonError::into_inner);
    let mut listing = match kept.take() {
        // PERF: an overlay merges its layers once for each open directory, 136 ms for 100,000 names.
        Some(mut listing) if request.cookie != 0 => {
            if listing.cookie != request.cookie {
                rustix::fs::seek(&listing.fd, SeekFrom::Start(request.cookie))?;
                listing.cookie = request.cookie;
            }
            listing
        }
        _ => start_listing(server, &node, request.cookie)?,
    };
    let (page, extent) = read_page(&mut listing)?;
    if extent == Extent::More {
        listing.slot = listing.slot.or_else(|| server.nodes.listing_slot());
        *kept = Some(listing).filter(|listing| listing.slot.is_some());
    }
    Ok(Reply { body: page, fd: None })
}

fn start_listing(server: &Server, node: &Node, cookie: u64) -> Result<Listing, Errno> {
    let fd = host::reopen(&server.proc_fds, node, OFlags::RDONLY | OFlags::DIRECTORY)?;
    if cookie != 0 {
        rustix::fs::seek(&fd, SeekFrom::Start(cookie))?;
    }
    let is_overlay = rustix::fs::fstatfs(&fd)?.f_type == OVERLAYFS_SUPER_MAGIC;
    Ok(Listing { fd, is_overlay, cookie, slot: None })
}

/// Whether a directory goes on behind a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// It may.
    More,
    /// It does not, for now.
    End,
}

fn read_page(listing: &mut Listing) -> Result<(Vec<u8>, Extent), Errno> {
    let mut page = Vec::new();
    let mut last_head = 0;
    for bytes in [GETDENTS_BYTES, MORE_BYTES] {
        if read_buffer(listing, bytes, &mut page, &mut last_head)? == Extent::End {
            mark_last(&mut page, last_head);
            return Ok((page, Extent::End));
        }
    }
    Ok((page, Extent::More))
}

/// Writes into the head that begins at `at` that no entry follows.
fn mark_last(page: &mut [u8], at: usize) {
    if let Some(bytes) = page.get_mut(at..)
        && let Ok((mut head, _)) = DirEntryHead::read_from_prefix(bytes)
    {
        head.kind |= LAST_ENTRY;
        // It was read from there, so it fits.
        let _ = head.write_to_prefix(bytes);
    }
}

/// Adds the entries of one buffer from the kernel, or of a second one if the first holds only `.` and `..`. `last_head`: where
/// the last one begins.
fn read_buffer(
    listing: &mut Listing,
    bytes: usize,
    page: &mut Vec<u8>,
    last_head: &mut usize,
) -> Result<Extent, Errno> {
    let before = page.len();
    let mut buffer = Vec::with_capacity(bytes);
    let mut entries = RawDir::new(&listing.fd, buffer.spare_capacity_mut());
    while page.len() == before || !entries.is_buffer_empty() {
        let Some(entry) = entries.next() else { return Ok(Extent::End) };
        let entry = entry?;
        listing.cookie = entry.next_entry_cookie();
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let mut ino = entry.ino();
        if listing.is_overlay && entry.file_type() == FileType::Directory {
            // One that has just gone keeps the number it is listed with.
            let stat =
                rustix::fs::statx(&listing.fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO);
            ino = stat.map_or(ino, |stat| stat.stx_ino);
        }
        let head = DirEntryHead {
            ino,
            cookie: entry.next_entry_cookie(),
            kind: d_type(entry.file_type()),
            length: u32::try_from(name.len()).expect("at most NAME_MAX"),
        };
        *last_head = page.len();
        page.extend_from_slice(head.as_bytes());
        page.extend_from_slice(name);
    }
    Ok(Extent::More)
}

/// LINUX: `DT_*` are the type bits of a mode, shifted down.
fn d_type(kind: FileType) -> u32 {
    match kind {
        FileType::Unknown => 0,
        known => (known.as_raw_mode() & file_type::MASK) >> 12,
    }
}
