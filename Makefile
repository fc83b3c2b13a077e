# Two commands for a fresh Debian or Ubuntu machine with a Rust toolchain: `make demo` and `make test`.
# Both install what is missing (through sudo where needed) and then do their job.

.PHONY: help demo test kryoptic check bench docs soak setup

help:
	@echo "make demo    build, then run the main job: 1,000 devices from order file to verified bundle (target/demo/)"
	@echo "make test    every test the project has, those of the HSM on SoftHSM and on kryoptic"
	@echo "make check   formatting and clippy, warnings denied"
	@echo "make bench   the throughput suite: bound profiles a second beside the floor (target/bench/report.json)"
	@echo "make docs    the API documentation"
	@echo "make soak    20,000 devices, W3, prebound, and the refusals; minutes, not seconds"

setup:
	@sh .ci/setup.sh

demo: setup
	cargo build --release --locked
	sh examples/demo.sh target/release/bindery target/demo 1000

# The tests that depend on what a PKCS#11 token does; they run on every provider.
HSM_SUITE = --test hsm_demo_site --test hsm_attacks --test hsm_processes --test token --test exits --test fault_shim --test main_job

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
	target/release/bindery bench --out target/bench/report.json

docs: setup
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

soak: setup
	cargo build --release --locked
	sh examples/soak.sh target/release/bindery target/soak 20000
	cargo build --locked --examples
	BINDERY_TEST_EXITS=200 cargo test --locked --test exits
