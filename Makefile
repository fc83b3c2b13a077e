# Two commands for a fresh Debian or Ubuntu machine with a Rust toolchain: `make demo` and `make test`.
# Both install what is missing (through sudo where needed) and then do their job.

.PHONY: help demo test kryoptic check bench docs soak fuzz setup

help:
	@echo "make demo    build, then run the main job: 1,000 devices from order file to verified bundle (target/demo/)"
	@echo "make test    every test the project has, those of the HSM on SoftHSM and on kryoptic"
	@echo "make check   formatting and clippy, warnings denied"
	@echo "make bench   the throughput suite: bound profiles a second beside the floor (target/bench/report.html and .json)"
	@echo "make docs    the API documentation"
	@echo "make fuzz    a million mutated packages, then each libFuzzer target for a minute where cargo-fuzz is installed"
	@echo "make soak    20,000 devices, W3, and the refusals; 1,000,000 lines, W1; 200 stops, the whole crash matrix, 200 kills; an hour"

setup:
	@sh .ci/setup.sh

demo: setup
	cargo build --release --locked
	sh examples/demo.sh target/release/bindery target/demo 1000

# The tests that depend on what a PKCS#11 token does; they run on every provider.
HSM_SUITE = --test hsm_demo_site --test hsm_attacks --test hsm_processes --test token --test exits --test fault_shim --test main_job \
	--test hsm_faults --test purge --test resume --test doctor --test curves --test import --test ceremony --test memory

test: setup kryoptic
	cargo test --locked
	BINDERY_TEST_PROVIDER=kryoptic cargo test --locked $(HSM_SUITE)

# The second token of the tests, from the package registry; under a minute, and only once.
kryoptic: setup
	cargo build --locked --manifest-path tests/kryoptic/Cargo.toml --target-dir target/kryoptic

check: setup
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

bench: setup
	cargo build --release --locked
	mkdir -p target/bench
	target/release/bindery bench --scratch target/bench --out target/bench/report.json --html target/bench/report.html

docs: setup
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

soak: setup
	cargo build --release --locked
	sh examples/soak.sh target/release/bindery target/soak 20000
	sh examples/million.sh target/release/bindery target/million 1000000
	cargo build --locked --examples
	BINDERY_TEST_EXITS=200 cargo test --locked --test exits
	cargo test --release --locked --examples --test fault_shim -- --ignored --nocapture overhead network_hsm
	BINDERY_TEST_CRASH_STEP=1 cargo test --locked --test crash -- --nocapture
	BINDERY_TEST_KILLS=200 BINDERY_TEST_RECORDS=1500 cargo test --release --locked --test kills at_any_moment -- --nocapture
	BINDERY_TEST_RESTART_RECORDS=20000 cargo test --release --locked --test kills soon_after -- --nocapture
	BINDERY_TEST_AWAY_S=30 BINDERY_TEST_RECORDS=20000 cargo test --release --locked --examples --test hsm_faults vanishes

# SQLite has two static tables of one name, which AddressSanitizer takes for a fault.
fuzz: export ASAN_OPTIONS = detect_odr_violation=0
fuzz: setup
	cargo run --release --locked --manifest-path fuzz/Cargo.toml --bin mutate -- --packages 1000000 --threads 2
	@if cargo fuzz --version >/dev/null 2>&1; then \
		cargo run --release --locked --manifest-path fuzz/Cargo.toml --bin mutate -- --write-corpus fuzz/corpus/seeds && \
		mkdir -p fuzz/corpus/tlv fuzz/corpus/elements fuzz/corpus/lint fuzz/corpus/template fuzz/corpus/source && \
		for target in tlv elements lint template; do \
			cargo +nightly fuzz run --features libfuzzer $$target fuzz/corpus/$$target fuzz/corpus/seeds/der -- -max_total_time=60 \
				|| exit 1; \
		done && \
		cargo +nightly fuzz run --features libfuzzer source fuzz/corpus/source fuzz/corpus/seeds/source -- -max_total_time=60; \
	else \
		echo "cargo-fuzz is not installed: the libFuzzer targets were not run"; \
	fi
