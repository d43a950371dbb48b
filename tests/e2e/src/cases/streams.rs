//! Are a command's standard streams what they are on the host, whatever that is: pipes, FIFOs, files, devices?

use anyhow::Result;

use super::Case;
use super::cli::do_arguments;
use crate::command::{Answer, run};
use crate::world::{BUSYBOX, World};

/// The cases of this file.
pub fn cases() -> Vec<Case> {
    let ours = |case: Case| Case { needs_ours: true, ..case };
    vec![
        ours(Case::new(
            "streams: do goes on in a file where others stopped, and they where it stops",
            offsets,
        )),
        ours(Case::new("streams: do opens its own by their names, whatever they are", names)),
        Case::new("streams: a container opens its own by their names", in_a_container),
    ]
}

/// Runs a script of the host's in which `$@` makes a sandbox; `$dir` is an empty directory. It says what is wrong.
fn script(w: &World, text: &str) -> Result<Answer> {
    let dir = tempfile::tempdir_in(w.dir.path())?;
    let dir = dir.path().display().to_string();
    let mut argv = vec!["sh".to_owned(), "-euc".to_owned(), format!("dir={dir}; {text}"), "sh".to_owned()];
    argv.extend(do_arguments(w)?);
    argv.push("--".to_owned());
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    run(&argv, None, 120)?.ok()
}

fn offsets(w: &World) -> Result<()> {
    let text = r#"
        expect() { [ "$(tr '\n' ' ' < "$dir/$1")" = "$2" ] || { echo "$1: $(tr '\n' ' ' < "$dir/$1")" >&2; exit 1; }; }
        (echo before; "$@" echo guest; echo after) > "$dir/output"
        expect output 'before guest after '
        (echo before; "$@" sh -c 'echo guest; echo error >&2; echo more'; echo after) > "$dir/both" 2>&1
        expect both 'before guest error more after '
        echo before > "$dir/append"
        (echo 1; "$@" sh -c 'echo 2; echo 3') >> "$dir/append"
        expect append 'before 1 2 3 '
        printf '1\n2\n3\n' > "$dir/lines"
        (read -r host; "$@" sh -c 'read -r guest; echo $guest'; read -r host; echo $host) < "$dir/lines" > "$dir/input"
        expect input '2 3 '
        (echo 0123456789; "$@" sh -c 'grep pos: /proc/self/fdinfo/1') > "$dir/place"
        grep -q 'pos:[[:space:]]*11$' "$dir/place" || { cat "$dir/place" >&2; exit 1; }
        (echo 0123456789; "$@" sh -c 'stat -L -c %F /proc/self/fd/1') > "$dir/kind"
        expect kind '0123456789 regular file '
    "#;
    script(w, text).map(drop)
}

fn names(w: &World) -> Result<()> {
    let text = r#"
        expect() { [ "$2" = "$3" ] || { echo "$1: $2" >&2; exit 1; }; }
        for name in /dev/stdout /proc/self/fd/1 /dev/fd/1 /proc/1/fd/1; do
            expect "$name, a pipe" "$("$@" sh -c "echo text > $name" | cat)" text
            "$@" sh -c "echo text > $name" > "$dir/file"
            expect "$name, a file" "$(cat "$dir/file")" text
            mkfifo "$dir/fifo"
            cat "$dir/fifo" > "$dir/got" &
            "$@" sh -c "echo text > $name" > "$dir/fifo"
            wait $!
            expect "$name, a FIFO" "$(cat "$dir/got")" text
            rm "$dir/fifo"
            "$@" sh -c "echo text > $name" > /dev/null
        done
        expect '/dev/stderr' "$("$@" sh -c 'echo text > /dev/stderr' 2>&1 > /dev/null | cat)" text
        expect '/dev/stdin' "$(echo text | "$@" cat /dev/stdin)" text
        echo text > "$dir/file"
        expect '/dev/stdin, a file' "$("$@" cat /dev/stdin < "$dir/file")" text
    "#;
    script(w, text).map(drop)
}

/// containerd hands over FIFOs.
fn in_a_container(w: &World) -> Result<()> {
    let text = "for name in /dev/stdout /proc/self/fd/1 /dev/fd/1 /proc/1/fd/1; do echo $name > $name; done; echo error > /dev/stderr";
    let answer = w.run(BUSYBOX, &["sh", "-c", text])?.ok()?;
    answer.prints("/dev/stdout\n/proc/self/fd/1\n/dev/fd/1\n/proc/1/fd/1")?.says("error").map(drop)
}
