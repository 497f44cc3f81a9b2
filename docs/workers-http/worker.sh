#!/bin/sh
# Reports a job to a progress-gateway. POSIX sh and curl.
#   ls | sh worker.sh import:7 120      works on one item a line, of 120
set -eu
url="${PROGRESS_GATEWAY_URL:-http://127.0.0.1:8000}/api/jobs/$1"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# The loop.

# The newest state: the fields of an update as JSON, without the braces.
update() {
  printf '%s' "$1" > "$dir/new"
  mv "$dir/new" "$dir/state"
}

# Sends the newest state once a second, always all of it, so that nothing is missing after an
# outage; until the end is delivered, or nothing more can be.
report() {
  run=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n') began=$(date +%s) attempt='"start": true' failures=0 away=
  while state=$(cat "$dir/state" 2> /dev/null); do
    body="{\"run\": \"$run\", $attempt, \"age\": $(($(date +%s) - began)), \"lease\": ${LEASE:-30}, $state}"
    answer=$(curl -s -m 5 -H "Authorization: Bearer ${PROGRESS_GATEWAY_TOKEN:-}" -d "$body" "$url") || true
    case $answer in
      *'"applied":true'* | *'"reason":"unchanged"'* | *'"reason":"final"'*)
        failures=0 away= number=${answer#*'"attempt":'}
        attempt="\"attempt\": ${number%%[!0-9]*}"
        case $state$answer in *'"status"'* | *'"final"'*) return ;; esac ;;
      *'"reason":'* | *'"status":40'[0-79]*) # superseded, or refused
        echo "no longer reported: $answer" >&2
        return ;;
      *) # no answer, or "not now": again; after the end for a minute
        [ "$away" ] || echo "not reported, will be tried again: ${answer:-no answer from $url}" >&2
        away=yes
        case $state in *'"status"'*) failures=$((failures + 1)) ;; esac
        [ $failures -lt 60 ] || { echo "its end is lost: $answer" >&2; return; } ;;
    esac
    sleep 1
  done
}

# Reports beside this shell, but not beyond it: the job of a worker that was killed is to be shown
# as stalled. Descriptor 3 is closed when this shell ends, however it ends; then nothing is left.
start() {
  mkfifo "$dir/alive"
  report &
  reporting=$!
  { cat "$dir/alive"; rm -rf "$dir"; } &
  exec 3> "$dir/alive"
}

# The worker.

done=0 common="\"total\": $2, \"unit\": \"items\""
update "$common"
start
while read -r item; do
  done=$((done + 1))
  update "$common, \"done\": $done"
done
update "$common, \"done\": $done, \"status\": \"succeeded\""
wait $reporting
