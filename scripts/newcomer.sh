#!/usr/bin/env bash
# The first five minutes of an operator, an owner and a practitioner, as README.md and docs/ tell them:
# from a clean clone, in a fresh virtual environment, on this machine alone.
#
#   scripts/newcomer.sh [DIRECTORY]     works in there; by default in a new one, removed at the end
#
# With INSTALLED, it takes the environment that is there instead of making one.
#
# Every command of ours below stands in a page: tests/e2e/test_newcomer.py holds that, and runs this.
# A variable stands for what the page has in its place: its default here, or its name.
set -euo pipefail

SOURCE=$(cd "$(dirname "$0")/.." && pwd)
ADDRESS=${ADDRESS:-127.0.0.1:7700}

say() { printf '\n[%4ds] %s\n' "$SECONDS" "$*" >&2; }

fail() {
  say "FAILED: $*"
  for log in "$WORK"/*.log; do
    [ -e "$log" ] && { printf -- '--- %s\n' "$log" >&2; tail -n 30 "$log" >&2; }
  done
  exit 1
}

# step NAME SECONDS COMMAND...: what has to end well within that time.
step() {
  local name=$1 limit=$2
  shift 2
  say "$name: $*"
  timeout --kill-after=10 "$limit" "$@" || fail "$name: exit $? (limit $limit s): $*"
}

# await NAME SECONDS TEXT COMMAND...: ask again until the answer has TEXT in it.
await() {
  local name=$1 limit=$2 text=$3 answer
  shift 3
  say "wait until $name, at most $limit s: $*"
  local end=$((SECONDS + limit))
  until answer=$(timeout 60 "$@" 2>&1) && [[ $answer == *"$text"* ]]; do
    [ "$SECONDS" -lt "$end" ] || fail "not so after $limit s: $name. Last answer: $answer"
    sleep 0.5
  done
  printf '%s\n' "$answer"
}

# background NAME COMMAND...: what runs beside the others; its log is NAME.log.
background() {
  local name=$1
  shift
  say "$name, in a terminal of its own: $*"
  "$@" >"$WORK/$name.log" 2>&1 &
  PROCESSES+=("$!")
}

# block PAGE NUMBER: a page's Python, to put into a file.
block() {
  awk -v want="$2" '/^```python$/ { n++; inside = 1; next } /^```$/ { inside = 0 }
    inside && n == want' "$SOURCE/docs/$1"
}

clean_up() {
  local process
  for process in "${PROCESSES[@]}"; do kill "$process" 2>/dev/null || true; done
  for process in "${PROCESSES[@]}"; do
    timeout 60 tail --pid="$process" -f /dev/null 2>/dev/null || kill -9 "$process" 2>/dev/null || true
  done
  [ -n "$KEPT" ] || rm -rf "$WORK"
}

KEPT=${1:-}
WORK=${KEPT:-$(mktemp -d)}
mkdir -p "$WORK"
WORK=$(cd "$WORK" && pwd)
PROCESSES=()
trap clean_up EXIT

# --- install: docs/how-to/install.md -----------------------------------------------------------------

if [ -z "${INSTALLED:-}" ]; then
  say "clone"
  git clone --quiet "$SOURCE" "$WORK/homespun"
  cd "$WORK/homespun"
  step "an environment" 600 python3 -m venv .venv
  # shellcheck disable=SC1091
  . .venv/bin/activate
  step "install" 1800 python -m pip install -c constraints.txt .
else
  PATH=$INSTALLED/bin:$PATH
fi
step "the first command" 300 homespun --help

# From here on, nothing of this account's own: identities, settings and caches go below $WORK.
export HOME="$WORK/home"
unset XDG_CONFIG_HOME XDG_DATA_HOME XDG_CACHE_HOME HOMESPUN_PEER_DIR HOMESPUN_CREDENTIALS
mkdir -p "$HOME" "$WORK/desk"
cd "$WORK/desk"

# --- the operator: docs/tutorials/run-a-broker.md ----------------------------------------------------

export HOMESPUN_BROKER_DIR=~/homespun
step "make a network" 300 broker init --listen "$ADDRESS" --no-announce
background broker broker serve
await "the broker answers" 300 "availability" broker peers
step "a link into the console" 300 broker console link
step "a key for an owner" 300 broker keys create --role peer --needs-admission > key.txt
step "a key for a practitioner" 300 broker keys create --role submitter > submitter.txt

# --- the owner: docs/tutorials/lend-a-device.md ------------------------------------------------------

step "join" 300 peer join "$ADDRESS" --key file:key.txt --name attic --memory 1GiB
step "what lending needs" 300 peer check
step "all limits" 300 peer get
step "one limit" 300 peer set schedule 22:00-07:00 daily
step "and back" 300 peer set schedule always
background peer peer run
await "the operator sees who waits" 600 "attic" broker peers
step "admit" 300 broker admit attic
await "the peer is connected" 300 "connected to" peer status
step "one picture" 300 peer top --once
step "pause" 300 peer pause 30m
step "resume" 300 peer resume
await "the broker may give it work" 300 "open" broker peers

# --- the practitioner: docs/tutorials/first-job.md ---------------------------------------------------

block tutorials/first-job.md 1 > first.py
step "a job without any network" 900 python first.py
step "join" 300 homespun join "$ADDRESS" --key file:submitter.txt
block tutorials/first-job.md 2 > line.py
block tutorials/first-job.md 3 > use.py
step "where would it run" 600 homespun plan line.py
step "submit" 600 homespun submit line.py > job.txt
JOB=$(cat job.txt)
step "watch" 600 homespun watch "$JOB"
step "all jobs" 300 homespun jobs
step "one job" 300 homespun job "$JOB"
step "the result" 300 homespun download "$JOB" -o line.safetensors
step "use it" 300 python use.py

# --- the end -----------------------------------------------------------------------------------------

step "the operator sees it" 300 broker jobs
step "leave" 300 peer leave
say "done: all three"
