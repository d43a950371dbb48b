//! What does the `#!` line of a script say?
//!
//! LINUX: `load_script` in `fs/binfmt_script.c`, whose cases are followed one by one.

use crate::Errno;

/// How much of a file is looked at. LINUX: `BINPRM_BUF_SIZE`.
const BUFFER_LEN: usize = 256;

/// A script's interpreter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// Path.
    pub(super) interpreter: Vec<u8>,
    /// All that follows, as one argument.
    pub(super) argument: Option<Vec<u8>>,
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `None`: not a script.
///
/// # Errors
/// ENOEXEC: a script without interpreter, or with one whose path is cut off.
pub(super) fn parse(head: &[u8]) -> Result<Option<Script>, Errno> {
    if !head.starts_with(b"#!") {
        return Ok(None);
    }
    // What lies behind the end of the file reads as zeros.
    let mut buffer = [0; BUFFER_LEN];
    let n = head.len().min(BUFFER_LEN);
    buffer[..n].copy_from_slice(&head[..n]);

    let mut line: &[u8] = match buffer.iter().position(|&byte| byte == b'\n') {
        Some(end) => &buffer[2..end],
        None => {
            let rest = &buffer[2..BUFFER_LEN - 1];
            let name = rest.iter().position(|&byte| !is_blank(byte)).ok_or(Errno::ENOEXEC)?;
            // Without anything behind it, the path must be thought cut off.
            if !rest[name..].iter().any(|&byte| is_blank(byte) || byte == 0) {
                return Err(Errno::ENOEXEC);
            }
            rest
        }
    };
    while let Some((_, shorter)) = line.split_last().filter(|(last, _)| is_blank(**last)) {
        line = shorter;
    }
    let name_start = line.iter().position(|&byte| !is_blank(byte)).ok_or(Errno::ENOEXEC)?;
    let line = &line[name_start..];
    let name_end = line.iter().position(|&byte| is_blank(byte) || byte == 0).unwrap_or(line.len());
    let (name, rest) = line.split_at(name_end);
    if name.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    let argument = if rest.first().is_some_and(|&byte| byte != 0) {
        let text = &rest[rest.iter().position(|&byte| !is_blank(byte)).unwrap_or(rest.len())..];
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        Some(text[..end].to_vec())
    } else {
        None
    };
    Ok(Some(Script { interpreter: name.to_vec(), argument }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &[u8]) -> Option<(String, Option<String>)> {
        let script = parse(head).expect("a good script")?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Some((text(script.interpreter), script.argument.map(text)))
    }

    #[test]
    fn a_file_without_the_mark_is_no_script() {
        assert_eq!(parsed(b"\x7fELF"), None);
        assert_eq!(parsed(b""), None);
    }

    #[test]
    fn interpreter_and_all_the_rest_as_one_argument() {
        assert_eq!(parsed(b"#!/bin/sh\necho"), Some(("/bin/sh".into(), None)));
        assert_eq!(parsed(b"#! \t/bin/sh -e  -x \t\necho"), Some(("/bin/sh".into(), Some("-e  -x".into()))));
    }

    #[test]
    fn a_short_file_without_newline_counts() {
        assert_eq!(parsed(b"#!/bin/sh"), Some(("/bin/sh".into(), None)));
        assert_eq!(parsed(b"#!/bin/sh -x"), Some(("/bin/sh".into(), Some("-x".into()))));
    }

    #[test]
    fn no_interpreter_is_not_executable() {
        assert_eq!(parse(b"#!\n").err(), Some(Errno::ENOEXEC));
        assert_eq!(parse(b"#!  \t \n").err(), Some(Errno::ENOEXEC));
        assert_eq!(parse(b"#!").err(), Some(Errno::ENOEXEC));
    }

    #[test]
    fn a_path_cut_off_by_the_buffer_is_not_executable() {
        let mut long = b"#!/".to_vec();
        long.resize(400, b'x');
        assert_eq!(parse(&long).err(), Some(Errno::ENOEXEC));
        // With an argument in sight the path is whole.
        let mut argument = b"#!/bin/sh ".to_vec();
        argument.resize(400, b'x');
        assert_eq!(parsed(&argument).map(|(name, _)| name), Some("/bin/sh".into()));
    }
}
