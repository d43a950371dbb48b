#!/bin/bash
# Everything that must hold, step by step; a step that fails does not hide the next ones. Each step's output is
# kept in the target directory; the last line counts every test of every step: "N passed, N failed".
set -uo pipefail

cd "$(dirname "$(readlink -f "$0")")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
bin=$target/x86_64-unknown-linux-gnu/release
logs=$target/test-logs
export RVISOR_CACHE=${RVISOR_CACHE:-$PWD/.cache} RVISOR_BIN=$bin/rvisor
export PATH=$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin
# The platform's tests fork a process from the test's own, which is only sound with one thread; the rest is as fast so.
export RUST_TEST_THREADS=1
runtime=io.containerd.rvisor.v2
# Longest that one step and that all of them may take; a hang fails its step, and nothing else.
STEP_SECONDS=1800
TOTAL_SECONDS=4500
passed=0 failed=0 begun=$SECONDS
mkdir -p "$logs"
exec < /dev/null

# Runs a command in a PID namespace of its own: what it leaves running ends with it, and nothing else on the
# machine is in its sight. The shell within is its init, and waits for orphans.
alone=()
if unshare --pid --fork --kill-child --mount-proc true 2> /dev/null; then
    alone=(unshare --pid --fork --kill-child --mount-proc bash -c '"$@"; exit $?' init)
fi

# counts LOG: passed and failed tests in the forms that cargo's harness and our own runners print.
counts() {
    awk '
        /^test result:/ { gsub(/;/, ""); p += $4; f += $6 }
        /^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3 }
        END { print p + 0, f + 0 }' "$1"
}

# step NAME COMMAND...: a command without tests of its own counts as one.
step() {
    local name=$1 log status p f from=$SECONDS limit=$((TOTAL_SECONDS - SECONDS + begun))
    shift
    log=$logs/${name//[^a-z0-9.]/-}.log
    echo "== $name"
    [ "$limit" -lt "$STEP_SECONDS" ] || limit=$STEP_SECONDS
    if [ "$limit" -gt 0 ]; then
        timeout -k 10 "$limit" "$@" > "$log" 2>&1
        status=$?
    else
        echo "FAIL not tried: $TOTAL_SECONDS s are over" > "$log"
        status=124
    fi
    [ $status != 124 ] && [ $status != 137 ] || echo "FAIL cut off after $limit s" >> "$log"
    read -r p f < <(counts "$log")
    if [ $status != 0 ] && [ "$f" = 0 ]; then f=1; fi
    if [ $status = 0 ] && [ "$p" = 0 ]; then p=1; fi
    passed=$((passed + p)) failed=$((failed + f))
    if [ $status != 0 ] || [ "$f" != 0 ]; then
        grep -aE '^(FAIL|error|warning: unused|Diff in)|panicked at|FAILED|: not ok |passes now' "$log" | head -60
        tail -n 25 "$log"
    fi
    # What only passed when it was asked again, and what is known to fail, is told all the same.
    grep -aE '^(unstable:|known |[a-z]+: [0-9]+ passed)' "$log" | cut -c1-200 | head -60
    echo "   $name: $p passed, $f failed, $((SECONDS - from)) s"
}

step "packages and images" tests/images/setup.sh
step "format" cargo fmt --all --check
step "clippy" cargo clippy --workspace --all-targets -- -D warnings
if command -v cargo-deny > /dev/null; then step "licences" cargo deny --offline check licenses bans sources; fi
step "build" cargo build --release --workspace --bins
step "build the tests" cargo test --workspace --no-run
step "unit tests and tidy" "${alone[@]}" cargo test --workspace --exclude guest-tests --no-fail-fast
step "the guest tests' runner" cargo test -p guest-tests --lib
step "guest behaviours" "${alone[@]}" cargo test -p guest-tests --test guest
step "random sequences on files" "${alone[@]}" cargo test -p guest-tests --test model -- --model=files --count=200
step "options that are taken" "${alone[@]}" cargo test -p guest-tests --test options
step "access lists of volumes" "${alone[@]}" cargo test -p guest-tests --test acl
step "random sequences on pipes and sockets" "${alone[@]}" cargo test -p guest-tests --test model -- --model=pipes --count=100
step "random sequences of signals" "${alone[@]}" cargo test -p guest-tests --test model -- --model=signals --count=40
step "random sequences of memory calls" "${alone[@]}" cargo test -p guest-tests --test model -- --model=memory --count=150
step "what guests make and destroy" "${alone[@]}" cargo test -p guest-tests --test lifetimes
step "storage that is full or fails" "${alone[@]}" cargo test -p guest-tests --test storage
step "the harness itself, with runc" "${alone[@]}" \
    "$bin/e2e" --runtime io.containerd.runc.v2 --keep-log "$logs/daemon-runc.log"
for version in system 1.7 2.1; do
    step "containerd $version" "${alone[@]}" "$bin/e2e" --runtime $runtime --containerd $version --bin-dir "$bin" \
        --keep-log "$logs/daemon-$version.log"
done

echo "$((SECONDS - begun)) s in all, logs in $logs"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
