//! How is the host told? In pieces: the stub's filter refuses calls on longer ranges, since it tells the guest's ranges
//! from its own by start and length only.

use platform::{Context, MemoryCall};

use crate::Errno;

/// Longest range of one host call in bytes.
pub(super) const PIECE_MAX: u64 = platform::MEMORY_CALL_MAX;

/// Executes a call on a range of any length. Part of it may have been done when it fails.
///
/// # Errors
/// The host's; ENOMEM for a move of too long a range.
pub(super) fn call(context: &mut dyn Context, call: MemoryCall<'_>) -> Result<(), Errno> {
    pieces(call, |piece| context.memory(piece).map(drop))
}

/// Has `perform` execute a call piece by piece.
///
/// # Errors
/// As [`call`].
pub(super) fn pieces<'a>(
    call: MemoryCall<'a>,
    mut perform: impl FnMut(MemoryCall<'a>) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let (start, len) = match call {
        MemoryCall::MapAnonymous { addr, len, .. }
        | MemoryCall::MapFile { addr, len, .. }
        | MemoryCall::Unmap { addr, len }
        | MemoryCall::Protect { addr, len, .. }
        | MemoryCall::Advise { addr, len, .. }
        | MemoryCall::Sync { addr, len, .. }
        | MemoryCall::Incore { addr, len, .. } => (addr, len),
        MemoryCall::Remap { old_len, new_len, .. } => (0, old_len.max(new_len)),
    };
    if len <= PIECE_MAX {
        return perform(call);
    }
    let mut done = 0;
    while done < len {
        let piece = (len - done).min(PIECE_MAX);
        perform(piece_of(call, start + done, piece, done)?)?;
        done += piece;
    }
    Ok(())
}

/// The same call on `len` bytes from `addr`, which lies `done` bytes into its range.
fn piece_of(call: MemoryCall<'_>, addr: u64, len: u64, done: u64) -> Result<MemoryCall<'_>, Errno> {
    Ok(match call {
        MemoryCall::MapAnonymous { prot, extra_flags, .. } => {
            MemoryCall::MapAnonymous { addr, len, prot, extra_flags }
        }
        MemoryCall::MapFile { prot, shared, file, offset, .. } => {
            MemoryCall::MapFile { addr, len, prot, shared, file, offset: offset + done }
        }
        MemoryCall::Unmap { .. } => MemoryCall::Unmap { addr, len },
        MemoryCall::Protect { prot, .. } => MemoryCall::Protect { addr, len, prot },
        MemoryCall::Advise { advice, .. } => MemoryCall::Advise { addr, len, advice },
        MemoryCall::Sync { flags, .. } => MemoryCall::Sync { addr, len, flags },
        MemoryCall::Incore { vec, .. } => {
            MemoryCall::Incore { addr, len, vec: vec + done / super::layout::PAGE }
        }
        MemoryCall::Remap { .. } => return Err(Errno::ENOMEM),
    })
}
