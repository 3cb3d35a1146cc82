# Short names for what the project's own check (.ci/run) does in full. `just` without a name lists them.

default:
    @just --list

# Format and lints, as .ci/run has them.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --quiet -- -D warnings
    scripts/features

# All tests.
test:
    cargo test --workspace --no-fail-fast

# Random pipelines on every backend against the reference.
fuzz SECONDS="10":
    cargo run --release -q -p pipec -- fuzz --seconds {{SECONDS}}

# Takes the snapshots of diagnostics and plans, and the goldens of machine code, as they now are; read the difference before it is
# committed.
bless:
    BLESS_GOLDENS=1 INSTA_UPDATE=always cargo test -p pipe-lib
    BLESS=1 cargo test -p pipelib-c --test header

# What is measured, here and now.
bench:
    cargo run --release -p benches --bin figures

# The tests of pipe-lib and pipec as on machines with fewer instructions.
fewer-instructions:
    scripts/fewer-instructions

# pipe-lib's tests, cross-compiled and emulated.
aarch64:
    scripts/aarch64 --quick

# The interpreter, the driver, layouts and streams in every way to run, under Miri: a nightly compiler with that component.
miri:
    cargo +nightly miri test -p pipe-lib --no-default-features --features testing --test miri
