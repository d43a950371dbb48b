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
runtime=io.containerd.rvisor.v2
# Longest that one step may take; a hang fails it.
STEP_SECONDS=900
passed=0 failed=0 begun=$SECONDS
mkdir -p "$logs"

# counts LOG: passed and failed tests in the forms that cargo's harness and our own runners print.
counts() {
    awk '
        /^test result:/ { gsub(/;/, ""); p += $4; f += $6 }
        /^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3 }
        END { print p + 0, f + 0 }' "$1"
}

# step NAME COMMAND...: a command without tests of its own counts as one.
step() {
    local name=$1 log status p f from=$SECONDS
    shift
    log=$logs/${name//[^a-z0-9.]/-}.log
    echo "== $name"
    timeout -k 10 "$STEP_SECONDS" "$@" > "$log" 2>&1
    status=$?
    read -r p f < <(counts "$log")
    if [ $status != 0 ] && [ "$f" = 0 ]; then f=1; fi
    if [ $status = 0 ] && [ "$p" = 0 ]; then p=1; fi
    passed=$((passed + p)) failed=$((failed + f))
    if [ $status != 0 ] || [ "$f" != 0 ]; then
        grep -E '^(FAIL|error|warning: unused|Diff in)|panicked at|FAILED' "$log" | head -40
        tail -n 25 "$log"
    fi
    echo "   $name: $p passed, $f failed, $((SECONDS - from)) s"
}

step "packages and images" tests/images/setup.sh
step "format" cargo fmt --all --check
step "clippy" cargo clippy --workspace --all-targets -- -D warnings
if command -v cargo-deny > /dev/null; then step "licences" cargo deny --offline check licenses bans sources; fi
step "build" cargo build --release --workspace --bins
step "unit tests and tidy" cargo test --workspace --exclude guest-tests
step "guest behaviours" cargo test --release -p guest-tests
step "the harness itself, with runc" "$bin/e2e" --runtime io.containerd.runc.v2 --keep-log "$logs/containerd-runc.log"
for version in system 1.7 2.1; do
    step "containerd $version" "$bin/e2e" --runtime $runtime --containerd $version --bin-dir "$bin" \
        --keep-log "$logs/containerd-$version.log"
done

echo "$((SECONDS - begun)) s in all, logs in $logs"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
