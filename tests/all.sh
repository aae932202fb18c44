#!/usr/bin/env bash
# Everything that must hold before a change is merged: tests/all.sh [--full]
#
# Needs Rust with cargo, and gcc; fetches what else is missing from Debian (as root, or with sudo) and from the crate registry (into
# FOREGATE_TOOLS, target/tools by default). Every step runs even if one before it failed, so that one run reports everything; the exit
# status is 0 only if all of them passed. The last line counts the tests.
#
# --full adds what takes longer: the large tests, optimised; each fuzz target for 60 seconds; the benchmarks.
set -uo pipefail
cd "$(dirname "$0")/.."

full=no
case "${1-}" in
  '') ;;
  --full) full=yes ;;
  *) echo "usage: $0 [--full]" >&2; exit 2 ;;
esac

failed=()
notes=()
tests_passed=0
tests_failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# step NAME COMMAND…: runs it, and remembers if it fails.
step() {
  local name=$1 started=$SECONDS
  shift
  printf '\n=== %s: %s\n' "$name" "$*"
  if "$@"; then
    echo "--- $name: ok, $((SECONDS - started)) s"
  else
    failed+=("$name")
    echo "--- $name: FAILED, $((SECONDS - started)) s"
  fi
}

# Debian packages by the command they bring.
need() {
  command -v "$1" >/dev/null || install "$2"
}

need_library() {
  ls /usr/lib*/*/"$1" /usr/lib*/"$1" 2>/dev/null | grep -q . || install "$2"
}

install() {
  local package=$1 as_root=()
  if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
  "${as_root[@]}" apt-get update -qq && \
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package"
}

# tool NAME VERSION: a cargo subcommand, compiled unless some version is installed already. Unoptimised: it runs for seconds.
tools=${FOREGATE_TOOLS:-$PWD/target/tools}
export PATH=$PATH:$tools/bin
tool() {
  command -v "$1" >/dev/null || \
    env CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=256 \
      CARGO_PROFILE_RELEASE_DEBUG=false cargo install --locked --root "$tools" --version "$2" "$1"
}

# A minimal toolchain comes without these.
components() {
  cargo fmt --version && cargo clippy --version || rustup component add rustfmt clippy
}

# counted COMMAND…: adds what the test runner's closing lines say to the sums.
counted() {
  local log status
  log=$work/tests
  "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  # cargo test: "test result: ok. 12 passed; 0 failed; …"; nextest: "Summary [ 1.2s] 12 tests run: 11 passed (1 slow), 1 failed, …"
  local sums
  sums=$(sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '
    /^test result: / || /^ *Summary \[/ {
      for (i = 2; i <= NF; i++) {
        if ($i ~ /^passed/) passed += $(i - 1)
        if ($i ~ /^failed/) failed += $(i - 1)
        if ($i ~ /^timed/) failed += $(i - 1)
      }
    }
    END { print passed + 0, failed + 0 }')
  tests_passed=$((tests_passed + ${sums% *}))
  tests_failed=$((tests_failed + ${sums#* }))
  return "$status"
}

# `check` takes every example, and the map in the README. What an example expects to find beside it is put beside a copy of it.
examples() {
  local foregate=target/debug/foregate folder=$work/examples
  mkdir -p "$folder/tls"
  cp config/*.yaml "$folder"
  # The demo makes a certificate for itself; the examples borrow it.
  borrow_certificate "$folder" || return
  DEMO_DIR=$folder/tls DEMO_PORT=0 DEMO_ADMIN_PORT=0 DEMO_UPSTREAM_PORT=1 \
    "$foregate" check --config "$folder/demo.yaml" || return
  DEMO_DIR=$folder/tls DEMO_PORT=0 DEMO_ADMIN_PORT=0 DEMO_UPSTREAM_PORT=1 \
    "$foregate" test --config "$folder/demo.yaml" "$folder/demo.cases.yaml" || return
  SUPABASE_JWT_SECRET=$(head -c 48 /dev/urandom | base64 -w 0) FOREGATE_KEY=$(head -c 32 /dev/urandom | base64 -w 0) \
    DATABASE_URL=postgres://foregate@127.0.0.1/velro FOREGATE_REDIS_URL=redis://127.0.0.1:6379 "$foregate" check --config "$folder/foregate.yaml" || return
  velro "$foregate" check --config "$folder/velro.yaml" || return
  velro "$foregate" test --config "$folder/velro.yaml" "$folder/velro.cases.yaml" || return
  awk '/^```yaml$/ { inside = 1; next } /^```$/ { inside = 0 } inside' README.md >"$folder/readme.yaml"
  "$foregate" check --config "$folder/readme.yaml"
}

# With the variables that the map of Velro takes from its environment.
velro() {
  FOREGATE_KEY=$(head -c 32 /dev/urandom | base64 -w 0) FOREGATE_REDIS_URL=redis://127.0.0.1:6379 SUPABASE_URL=https://velro.supabase.co \
    SUPABASE_JWT_SECRET=$(head -c 48 /dev/urandom | base64 -w 0) DATABASE_URL=postgres://foregate@127.0.0.1/velro \
    SUPABASE_PUBLISHABLE_KEY=sb_publishable_0123456789abcdef SUPABASE_SECRET_KEY=sb_secret_0123456789abcdef "$@"
}

# Starts the demo as the README says, asks it what the README promises, and keeps its certificate.
borrow_certificate() {
  local folder=$1 demo status=0
  target/debug/foregate demo --port 0 --format json >"$work/demo" 2>"$work/demo.log" &
  demo=$!
  for _ in $(seq 100); do
    [ -s "$work/demo" ] && break
    sleep 0.1
  done
  local url ca token expired
  url=$(field url) ca=$(field ca) token=$(field token) expired=$(field expired_token)
  cp "$(dirname "$ca")"/{cert,key}.pem "$(dirname "$ca")/secret" "$folder/tls" || status=1
  cp "$folder/tls/cert.pem" "$folder/tls/tls.crt" && cp "$folder/tls/key.pem" "$folder/tls/tls.key" || status=1
  answers 200 "$ca" "$url/hello" || status=1
  answers 401 "$ca" "$url/api/notes" || status=1
  answers 200 "$ca" "$url/api/notes" "$token" || status=1
  answers 401 "$ca" "$url/api/notes" "$expired" || status=1
  kill "$demo" && wait "$demo" || status=1
  [ "$status" -eq 0 ] || cat "$work/demo.log"
  return "$status"
}

# A text field of the one line of JSON that the demo printed.
field() {
  sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$work/demo"
}

# answers STATUS CA URL [TOKEN]
answers() {
  local seen
  seen=$(curl -s -o /dev/null -w '%{http_code}' --max-time 10 --cacert "$2" ${4:+-H "Authorization: Bearer $4"} "$3")
  echo "demo: GET /${3#*://*/}${4:+, with a token}: $seen"
  [ "$seen" = "$1" ]
}

dependencies() {
  cargo deny --all-features check bans licenses sources || return
  # The advisories live elsewhere. Without network nothing can be said about them, and that is said.
  if cargo deny check advisories >"$work/advisories" 2>&1; then
    tail -n 1 "$work/advisories"
  elif grep -q 'failed to fetch advisory database' "$work/advisories"; then
    notes+=('advisories were not checked: their database could not be fetched')
  else
    cat "$work/advisories"
    return 1
  fi
}

# Whether the lock file beside a manifest fits it.
locked() {
  cargo metadata --locked --format-version 1 --manifest-path "$1" >/dev/null
}

# A browser, and what drives it. Where they cannot be had, that is said, and the test of it proves nothing.
browser() {
  if need node nodejs && need npm npm && need chromium chromium \
    && npm ci --prefix tests/browser --no-audit --no-fund --ignore-scripts --loglevel=error; then
    export FOREGATE_NEEDS_BROWSER=1
  else
    notes+=('NOT PROVEN: what a browser does with cookies; chromium, node or npm could not be installed')
  fi
}

# Clients that people use. Those that cannot be had are left out, and that is said.
clients() {
  npm ci --prefix tests/clients --no-audit --no-fund --ignore-scripts --loglevel=error \
    || notes+=('NOT PROVEN: that clients of Node read the refusal of an upload; they could not be installed')
  if ! { { python3 -c 'import ensurepip' || install python3-venv; } && python3 -m venv tests/clients/venv \
    && tests/clients/venv/bin/pip install --quiet --disable-pip-version-check --requirement tests/clients/requirements.txt; }; then
    rm -rf tests/clients/venv
    notes+=('NOT PROVEN: that clients of Python read the refusal of an upload; they could not be installed')
  fi
  if [ "$full" = yes ]; then need java default-jdk-headless; fi
  command -v java >/dev/null || notes+=('NOT PROVEN: that the client of Java reads the refusal of an upload; there is no java')
  return 0
}

# Suites of conformance that others wrote. Those that cannot be had are left out, and that is said.
conformance() {
  if go_programs "$tools/bin" github.com/summerwind/h2spec/cmd/h2spec; then
    export FOREGATE_H2SPEC="$tools/bin/h2spec"
  else
    notes+=('NOT PROVEN: what h2spec says of HTTP/2; there is no go, or the suite could not be fetched')
  fi
  if go_programs "$tools/grpc" google.golang.org/grpc/interop/{client,server}; then
    export FOREGATE_GRPC_INTEROP="$tools/grpc"
  else
    notes+=('NOT PROVEN: that the interoperability tests of gRPC pass; there is no go, or they could not be fetched')
  fi
  if need python3 python3 && go_programs "$tools/connect" connectrpc.com/conformance/cmd/{connectconformance,referenceserver}; then
    export FOREGATE_CONNECT="$tools/connect"
  else
    notes+=('NOT PROVEN: that the conformance suite of Connect passes; there is no go, or it could not be fetched')
  fi
  if { python3 -c 'import ensurepip' || install python3-venv; } && python3 -m venv "$tools/httplint" \
    && "$tools/httplint/bin/pip" install --quiet --disable-pip-version-check httplint; then
    export FOREGATE_HTTPLINT="$tools/httplint/bin/python"
  else
    notes+=('NOT PROVEN: what httplint says of answers; it could not be installed')
  fi
}

# go_programs FOLDER PACKAGE…: installs the programs of these packages into a folder.
go_programs() {
  local folder=$1 package
  shift
  command -v go >/dev/null || return
  for package in "$@"; do
    GOFLAGS=-p=1 GOBIN=$folder go install "$package@latest" || return
  done
}

step 'packages: curl' need curl curl
step 'packages: openssl' need openssl openssl
step 'packages: kill' need kill procps
step 'packages: redis-server' need redis-server redis-server
step 'packages: redis-sentinel' need redis-sentinel redis-sentinel
step 'packages: faketime' need faketime faketime
step 'packages: libnss-wrapper' need_library libnss_wrapper.so libnss-wrapper
# Elsewhere, a test that needs one of them proves nothing without it, and says so. Here it fails.
export FOREGATE_NEEDS_PACKAGES=1
step 'packages: node' need node nodejs
step 'packages: npm' need npm npm
step 'packages: postgresql' need pg_createcluster postgresql
browser
[ -n "${FOREGATE_SUPABASE_URL-}" ] || notes+=('NOT PROVEN: that a real identity server answers as its double does; set FOREGATE_SUPABASE_URL and FOREGATE_SUPABASE_KEY')
if [ "$full" = yes ]; then
  step 'packages: g++' need g++ g++
  step 'packages: valgrind' need valgrind valgrind
  step 'tools: conformance' conformance
fi
step 'components' components
step 'tools: cargo-deny' tool cargo-deny 0.20.2
step 'tools: cargo-machete' tool cargo-machete 0.9.2
step 'clients' clients
step 'clients of Supabase' npm ci --prefix tests/supabase-js --no-audit --no-fund --ignore-scripts --loglevel=error

step 'format' cargo fmt --check
step 'format, fuzz targets' cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
# `--locked` refuses a lock file that does not fit, which only building the targets would tell otherwise.
step 'lock file, fuzz targets' locked tests/fuzz/Cargo.toml
step 'lints' env CLIPPY_CONF_DIR="$PWD/tests" cargo clippy --locked --all-targets -- -D warnings
# With private items, because the map of the code leads to them.
step 'documentation' env RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items
step 'build' cargo build --locked
step 'examples' examples
step 'dependencies' dependencies
step 'unused dependencies' cargo machete

# The test says so, too, but the runner shows nothing of a test that passed.
if [ ! -d "${FOREGATE_WYCHEPROOF:-../shared/wycheproof}" ]; then
  notes+=('NOT PROVEN: how the vectors of Wycheproof are judged; they are not there (FOREGATE_WYCHEPROOF=FOLDER)')
fi

# Most tests wait for time-outs and for other processes: with one thread a core, the cores would be idle. With four, a server that a test
# starts sometimes waits too long for its turn.
threads=$((2 * $(nproc)))
# The documentation's examples prove, among others, that no permit can be forged; nextest does not run them.
if cargo nextest --version >/dev/null 2>&1; then
  step 'tests' counted cargo nextest run --locked --no-fail-fast --test-threads "$threads"
else
  step 'tests' counted cargo test --locked --no-fail-fast --lib --bins --tests -- --test-threads "$threads"
fi
step 'documentation tests' counted cargo test --locked --doc

if [ "$full" = yes ]; then
  step 'large tests' counted env FOREGATE_FULL=1 cargo test --locked --no-fail-fast --release --lib --bins --tests
  for target in tests/fuzz/fuzz_targets/*.rs; do
    target=$(basename "$target" .rs)
    step "fuzz $target" tests/fuzz/run.sh "$target" 60
  done
  # In the profile of the large tests, which is built by now: whole-program builds of every benchmark would take an hour.
  step 'benches' cargo bench --locked --profile release
fi

printf '\n=== %s s\n' "$SECONDS"
for note in "${notes[@]}"; do echo "note: $note"; done
for name in "${failed[@]}"; do echo "FAILED: $name"; done
echo "$tests_passed passed, $tests_failed failed"
[ "${#failed[@]}" -eq 0 ]
