#!/usr/bin/env bash
# Fuzzes one target for some seconds: tests/fuzz/run.sh TARGET SECONDS
#
# Needs the stable toolchain and g++; no cargo-fuzz, no nightly. What it finds worth keeping stays in target/corpus/TARGET;
# an input that breaks something is printed and left in target/artifacts/TARGET.
set -euo pipefail

if [ $# -ne 2 ]; then
  echo "usage: $0 TARGET SECONDS" >&2
  echo "targets: $(cd "$(dirname "$0")/fuzz_targets" && ls | sed 's/\.rs$//' | tr '\n' ' ')" >&2
  exit 2
fi
target=$1 seconds=$2
cd "$(dirname "$0")"

if ! command -v g++ >/dev/null; then
  echo "$0: needs g++, which compiles libFuzzer" >&2
  exit 1
fi

host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1   # -Z flags on stable
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1 -Cdebug-assertions -Zsanitizer=address"

# --target keeps build scripts and macros free of the instrumentation.
cargo build --locked --release --target "$host" --bin "$target"
corpus=target/corpus/$target artifacts=target/artifacts/$target
mkdir -p "$corpus" "$artifacts"
seeds=()
if [ -d "seeds/$target" ]; then seeds=("seeds/$target"); fi
if [ "$target" = config ]; then seeds+=(../../config); fi
# A configuration may name /dev/stdin as a file; it shall find nothing there.
exec "target/$host/release/$target" "$corpus" "${seeds[@]}" \
  -max_total_time="$seconds" -artifact_prefix="$artifacts/" -max_len=10000 -timeout=5 -print_final_stats=1 </dev/null
