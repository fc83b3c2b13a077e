# Two commands for a fresh Debian or Ubuntu machine with a Rust toolchain: `make demo` and `make test`.
# Both install what is missing (through sudo where needed) and then do their job.

.PHONY: help demo test check bench docs soak fuzz setup

help:
	@echo "make demo    build, then run the main job: 1,000 devices from order file to verified bundle (target/demo/)"
	@echo "make test    every test the project has"
	@echo "make check   formatting and clippy, warnings denied"
	@echo "make bench   the throughput suite: bound profiles a second beside the floor (target/bench/report.json)"
	@echo "make docs    the API documentation"
	@echo "make fuzz    a million mutated packages, then each libFuzzer target for a minute where cargo-fuzz is installed"
	@echo "make soak    20,000 devices, W3, prebound, and the refusals; minutes, not seconds"

setup:
	@sh .ci/setup.sh

demo: setup
	cargo build --release --locked
	sh examples/demo.sh target/release/bindery target/demo 1000

test: setup
	cargo test --locked

check: setup
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

bench: setup
	cargo build --release --locked
	mkdir -p target/bench
	target/release/bindery bench --out target/bench/report.json

docs: setup
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

soak: setup
	cargo build --release --locked
	sh examples/soak.sh target/release/bindery target/soak 20000

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
