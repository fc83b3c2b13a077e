# Two commands for a fresh Debian or Ubuntu machine with a Rust toolchain: `make demo` and `make test`.
# Both install what is missing (through sudo where needed) and then do their job.

.PHONY: help demo test check bench docs soak setup

help:
	@echo "make demo    build, then run the main job: 1,000 devices from order file to verified bundle (target/demo/)"
	@echo "make test    every test the project has"
	@echo "make check   formatting and clippy, warnings denied"
	@echo "make bench   the throughput suite: bound profiles a second beside the floor (target/bench/report.json)"
	@echo "make docs    the API documentation"
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
