# What can be done with this repository, one word each. Root and Debian are needed for all but build, lint and unit.
#
#   make demo     a container under a real containerd, from nothing: packages, images, build, run, clean up
#   make test     everything that must hold; ends with one line of counts
#   make bench    native / rvisor / runc / runsc, as ratios
#   make build    the four binaries, into $(BIN)
#   make lint     rustfmt, clippy with warnings as errors, the licence check if it is installed
#   make unit     unit tests and tidy only: no root, seconds
#   make e2e      cases under the system's containerd; ONLY=text picks, RUNTIME= and CONTAINERD= choose
#   make model    random sequences of calls beside the host, with seeds that nobody has chosen, for SECONDS (3600) or COUNT each
#   make prove-models  puts one fault after another back, and says by which sequence it is found
#   make programs browsers, databases, compilers, run-times: natively and in the sandbox, compared; NAME=text picks; half an hour
#   make soak     5,000 execs in one container and 2,000 containers that lose a part; hours
#   make docs     prints docs/SYSCALLS.md from the table
#   make clean    removes what was built and cached

TARGET_DIR ?= $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
BIN := $(TARGET_DIR)/x86_64-unknown-linux-gnu/release
RUNTIME ?= io.containerd.rvisor.v2
CONTAINERD ?= system
SECONDS ?= 3600
export RVISOR_CACHE ?= $(CURDIR)/.cache
export RVISOR_BIN := $(BIN)/rvisor
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin

.PHONY: demo test bench build lint unit e2e programs model prove-models soak docs images clean

demo: images build
	$(BIN)/e2e --demo --runtime $(RUNTIME) --bin-dir $(BIN)

test:
	tests/all.sh

bench: images build
	$(BIN)/bench --bin-dir $(BIN)

build:
	cargo build --release --workspace --bins

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	if command -v cargo-deny > /dev/null; then cargo deny check; else echo "cargo-deny is not installed: skipped"; fi

unit:
	RUST_TEST_THREADS=1 cargo test --workspace --exclude guest-tests

e2e: images build
	$(BIN)/e2e --runtime $(RUNTIME) --containerd $(CONTAINERD) --bin-dir $(BIN) $(addprefix --only ,$(ONLY))

model: build
	cargo test -p guest-tests --test model -- --show=20 \
		$(if $(COUNT),--count=0 --fresh=$(COUNT),--seconds=$(SECONDS)) $(addprefix --model=,$(ONLY))

prove-models:
	tests/guest/model/prove.sh

programs: build
	tests/programs/run.sh $(NAME)

soak: images build
	nice $(BIN)/e2e --runtime $(RUNTIME) --containerd $(CONTAINERD) --bin-dir $(BIN) --only soak: --soak 5000

docs: build
	$(BIN)/rvisor syscalls > docs/SYSCALLS.md

images:
	tests/images/setup.sh

clean:
	cargo clean
	rm -rf $(RVISOR_CACHE)
