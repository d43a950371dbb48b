#!/bin/bash
# Does the model of file calls find faults? Puts each fault of faults/ back, one after the other, into a copy of the source,
# builds that and runs sequences until one differs from the host. Without a fault none may differ.
#
#   prove.sh [NAME...]     COUNT=300 sequences for each place, PLATFORM=systrap
#
# Prints a line for each fault, and at the end how many were found; fails unless all were.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
root=$(cd "$here/../../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
copy=$target/prove/source
count=${COUNT:-300} platform=${PLATFORM:-systrap}
logs=$target/prove/logs
mkdir -p "$copy" "$logs"
export PATH=$PATH:$HOME/.cargo/bin
# Built in the copy, so that what is in the working tree's own target directory stays as it is.
copy_target=$target/prove/target
programs=$copy_target/x86_64-unknown-linux-gnu/debug

# As in the working tree. What is the same keeps its time, and what is not gets a new one: so much is built anew.
refresh() {
    (cd "$root" && git ls-files) | while read -r file; do
        [ -f "$root/$file" ] || continue
        cmp -s "$root/$file" "$copy/$file" || { mkdir -p "$(dirname "$copy/$file")" && cp "$root/$file" "$copy/$file"; }
    done
}

# sequences NAME: builds the copy and runs the model; 0 if nothing differs.
sequences() {
    (cd "$copy" && CARGO_TARGET_DIR=$copy_target cargo build -q -p rvisor -p rvisor-sentry -p rvisor-gofer) > "$logs/$1.build" 2>&1 ||
        { tail -n 30 "$logs/$1.build"; echo "$1: does not build"; exit 1; }
    (cd "$root" && RVISOR_BIN=$programs/rvisor cargo test -q -p guest-tests --test model -- --model=files \
        --platform="$platform" --first=1 --count="$count" --show=1 --most=1) > "$logs/$1" 2>&1
}

refresh
if ! sequences none; then
    tail -n 30 "$logs/none"
    echo "differs without a fault"
    exit 1
fi
echo "no fault: no difference in $count sequences at each place"
found=0 all=0
for patch in "$here"/faults/*.patch; do
    name=$(basename "$patch" .patch)
    [ $# = 0 ] || [[ " $* " = *" $name "* ]] || continue
    all=$((all + 1))
    refresh
    patch -s -p1 --no-backup-if-mismatch -d "$copy" < "$patch"
    if sequences "$name"; then
        echo "$name: NOT found"
    else
        seed=$(grep -m1 -o 'FAIL .*' "$logs/$name" || echo "in an unknown way, see $logs/$name")
        echo "$name: found by ${seed#FAIL }"
        found=$((found + 1))
    fi
done
echo "$found of $all faults found"
[ "$found" = "$all" ]
