#!/bin/bash
# Do large programs run as natively? Each script of tests/programs/cases runs in a root file system of Debian's packages: natively (chroot, a
# layer of its own), then by `rvisor do` on each platform. What it prints, and its exit status, have to be the same.
#
#   run.sh [NAME...]      `make programs`; root, Debian, 3 GB in $RVISOR_CACHE. Last line: `N passed, N failed`.
#
# RVISOR_BIN is the rvisor to try, PLATFORMS which platforms. What was printed stays in the target directory.
set -uo pipefail

here=$(dirname "$(readlink -f "$0")")
repository=$(readlink -f "$here/../..")
target=${CARGO_TARGET_DIR:-$repository/target}
cache=${RVISOR_CACHE:-$repository/.cache}
rvisor=${RVISOR_BIN:-$target/x86_64-unknown-linux-gnu/release/rvisor}
platforms=${PLATFORMS:-systrap ptrace}
root=$cache/rootfs/programs
logs=$target/programs-logs
# Longest that one program may take in one place, in seconds.
SECONDS_MAX=400
passed=0 failed=0
exec < /dev/null

[ -x "$rvisor" ] || { echo "no rvisor at $rvisor: build it, or set RVISOR_BIN" >&2; exit 2; }
RVISOR_CACHE=$cache "$here/../images/setup.sh" packages programs || exit 2
mkdir -p "$logs"
work=$(mktemp -d)
# Its mounts are in a namespace that has gone by then.
trap 'rm -rf "$work"' EXIT
# What both places start from.
environment=(HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)

# In its own namespaces, on a layer above the root file system, with a /dev like a container's.
native() {
    rm -rf "$work/layer"
    mkdir -p "$work"/layer/{upper,work,root}
    timeout -k 5 "$SECONDS_MAX" unshare --mount --pid --ipc --uts --net --fork --kill-child bash -c '
        set -e
        layer=$1 lower=$2 cases=$3
        shift 3
        ip link set lo up
        cd "$layer"
        mount -t overlay overlay -o "lowerdir=$lower,upperdir=upper,workdir=work" root
        mount -t proc proc root/proc
        mount -t tmpfs -o mode=755 tmpfs root/dev
        for device in null zero full random urandom tty; do
            touch "root/dev/$device"
            mount --bind "/dev/$device" "root/dev/$device"
        done
        mkdir root/dev/pts root/dev/shm root/cases
        mount -t devpts -o newinstance,ptmxmode=666 devpts root/dev/pts
        mount -t tmpfs -o mode=1777 tmpfs root/dev/shm
        ln -s pts/ptmx root/dev/ptmx
        ln -s /proc/self/fd root/dev/fd
        for stream in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${stream%:*}" "root/dev/${stream#*:}"; done
        mount --bind "$cases" root/cases
        exec chroot root env -i "$@"
        ' native "$work/layer" "$root" "$here/cases" "${environment[@]}" bash "/cases/$1"
}

# in_sandbox PLATFORM CASE
in_sandbox() {
    timeout -k 5 "$SECONDS_MAX" "$rvisor" do --no-tty --platform "$1" --root "$root" -v "$here/cases:/cases:ro" -- \
        env -i "${environment[@]}" bash "/cases/$2"
}

# try PLACE NAME COMMAND...: keeps what it prints, its exit status at the end.
try() {
    local place=$1 name=$2
    shift 2
    "$@" > "$logs/$name.$place" 2> "$logs/$name.$place.err"
    echo "exit status $?" >> "$logs/$name.$place"
}

names=("$@")
[ $# -gt 0 ] || for case in "$here"/cases/*.sh; do names+=("$(basename "$case" .sh)"); done
for name in "${names[@]}"; do
    begun=$SECONDS
    try native "$name" native "$name.sh"
    if [ "$(tail -n 1 "$logs/$name.native")" != "exit status 0" ]; then
        failed=$((failed + 1))
        echo "FAIL $name: not even natively: $(tail -n 3 "$logs/$name.native" "$logs/$name.native.err" | cut -c1-300)"
        continue
    fi
    took="native $((SECONDS - begun)) s"
    for platform in $platforms; do
        begun=$SECONDS
        try "$platform" "$name" in_sandbox "$platform" "$name.sh"
        if difference=$(diff "$logs/$name.native" "$logs/$name.$platform"); then
            passed=$((passed + 1))
            took+=", $platform $((SECONDS - begun)) s"
        else
            failed=$((failed + 1))
            echo "FAIL $name on $platform:"
            head -n 12 <<< "$difference" | cut -c1-300
            tail -n 5 "$logs/$name.$platform.err" | cut -c1-300
        fi
    done
    echo "     $name: $took"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
