//! POSIX access control lists, as far as they decide who may do what with a file (`acl(5)`). LINUX: fs/posix_acl.c.
//!
//! Key type: [`Acl`]. Lists are read from volumes and obeyed; they can be neither set nor inherited from here.

use super::Access;
use super::permission::Want;
use crate::Errno;
use crate::task::Credentials;

/// The attribute that holds the list.
pub const ATTRIBUTE: &[u8] = b"system.posix_acl_access";
/// LINUX: `POSIX_ACL_XATTR_VERSION`.
const VERSION: u32 = 2;
const HEADER_LEN: usize = 4;
const ENTRY_LEN: usize = 8;

/// Whom an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Owner,
    User(u32),
    OwningGroup,
    Group(u32),
    Mask,
    Other,
}

/// An access control list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    entries: Vec<(Tag, Want)>,
}

impl Acl {
    /// From the attribute's value.
    ///
    /// # Errors
    /// EIO if it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, Errno> {
        let (version, entries) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Errno::EIO)?;
        if u32::from_le_bytes(*version) != VERSION || !entries.len().is_multiple_of(ENTRY_LEN) {
            return Err(Errno::EIO);
        }
        let entry = |bytes: &[u8]| {
            let [t0, t1, p0, p1, i0, i1, i2, i3] = *bytes else { return Err(Errno::EIO) };
            let id = u32::from_le_bytes([i0, i1, i2, i3]);
            let tag = match u16::from_le_bytes([t0, t1]) {
                0x01 => Tag::Owner,
                0x02 => Tag::User(id),
                0x04 => Tag::OwningGroup,
                0x08 => Tag::Group(id),
                0x10 => Tag::Mask,
                0x20 => Tag::Other,
                _ => return Err(Errno::EIO),
            };
            Ok((tag, Want::from_bits_truncate(u32::from(u16::from_le_bytes([p0, p1])))))
        };
        Ok(Self { entries: entries.chunks_exact(ENTRY_LEN).map(entry).collect::<Result<_, _>>()? })
    }

    /// What the list says to somebody who is not the owner. LINUX: `posix_acl_permission`.
    ///
    /// # Errors
    /// EACCES; EIO if it says nothing.
    pub fn check(&self, credentials: &Credentials, access: &Access, want: Want) -> Result<(), Errno> {
        let grants = |allowed: Want| if allowed.contains(want) { Ok(()) } else { Err(Errno::EACCES) };
        let mask =
            self.entries.iter().find(|(tag, _)| *tag == Tag::Mask).map_or(Want::all(), |(_, mask)| *mask);
        let mut is_member = false;
        for &(tag, allowed) in &self.entries {
            let is_group = match tag {
                Tag::User(uid) if uid == credentials.fsuid => return grants(allowed & mask),
                Tag::OwningGroup => credentials.in_group(access.gid),
                Tag::Group(gid) => credentials.in_group(gid),
                Tag::Other if is_member => return Err(Errno::EACCES),
                Tag::Other => return grants(allowed),
                Tag::Owner | Tag::User(_) | Tag::Mask => false,
            };
            // Of several groups the first that has all that is wanted decides.
            if is_group && allowed.contains(want) {
                return grants(allowed & mask);
            }
            is_member |= is_group;
        }
        Err(Errno::EIO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Acl {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, allowed, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(allowed.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        Acl::parse(&bytes).expect("a list")
    }

    fn may(acl: &Acl, fsuid: u32, groups: &[u32], want: Want) -> bool {
        let credentials =
            Credentials { fsuid, fsgid: 7777, groups: groups.to_vec(), ..Credentials::default() };
        let access = Access { gid: 50, mode: 0, uid: 0, dev: 0, ino: 0, rdev: 0 };
        acl.check(&credentials, &access, want).is_ok()
    }

    #[test]
    fn a_named_user_gets_what_the_mask_leaves() {
        let acl = list(&[(1, 7, 0), (2, 6, 1000), (2, 0, 1001), (4, 4, 0), (16, 4, 0), (32, 7, 0)]);
        assert!(may(&acl, 1000, &[], Want::READ));
        assert!(!may(&acl, 1000, &[], Want::WRITE));
        // Shut out by name, whatever others may.
        assert!(!may(&acl, 1001, &[50], Want::READ));
        assert!(may(&acl, 1002, &[], Want::all()));
    }

    #[test]
    fn a_member_of_groups_gets_what_one_of_them_has_and_never_what_others_have() {
        let acl = list(&[(1, 7, 0), (4, 4, 0), (8, 2, 60), (8, 1, 61), (16, 7, 0), (32, 7, 0)]);
        assert!(may(&acl, 1, &[50], Want::READ));
        assert!(!may(&acl, 1, &[50], Want::WRITE));
        assert!(may(&acl, 1, &[50, 60], Want::WRITE));
        assert!(!may(&acl, 1, &[50, 60], Want::READ | Want::WRITE));
        assert!(!may(&acl, 1, &[61], Want::READ));
        assert!(may(&acl, 1, &[62], Want::READ));
    }

    #[test]
    fn what_is_no_list_grants_nothing() {
        assert_eq!(Acl::parse(b""), Err(Errno::EIO));
        assert_eq!(Acl::parse(&[1, 0, 0, 0]), Err(Errno::EIO));
        assert_eq!(Acl::parse(&[2, 0, 0, 0, 1]), Err(Errno::EIO));
        assert_eq!(Acl::parse(&[2, 0, 0, 0, 64, 0, 7, 0, 0, 0, 0, 0]), Err(Errno::EIO));
        assert!(!may(&list(&[]), 0, &[], Want::READ));
    }
}
