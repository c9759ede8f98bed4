# Progress: one line per step with its seconds, everything else in a log that is shown on failure.
# shellcheck shell=bash

STEP_LOGS=$BUILD/log
STEP_NOTE=$BUILD/log/note

die() {
	local code=$1
	shift
	echo "bootstrap: $*" >&2
	exit "$code"
}

# take_lock - one bootstrap at a time on a machine. Descriptor 9 is closed for everything we start.
take_lock() {
	mkdir -p "$STEP_LOGS" "$(dirname "$LOCK")"
	exec 9>"$LOCK"
	flock --nonblock 9 && return 0
	echo "waiting for another bootstrap on this machine to end"
	flock --timeout 3600 9 || die 1 "another bootstrap still runs after an hour"
}

# note WORDS - what the running step has to say behind its seconds.
note() { echo "$*" >"$STEP_NOTE"; }

# seconds_since START - with one decimal; START as in $EPOCHREALTIME.
seconds_since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

# step TITLE FUNCTION ARGS… - run a function in a subshell, which ends at its first failing command.
step() {
	local title=$1 began=$EPOCHREALTIME code log
	shift
	log=$STEP_LOGS/$(tr -c 'a-z0-9\n' '-' <<<"${title,,}").log
	: >"$STEP_NOTE"
	printf '%-34s ' "$title"
	# Not as a condition: bash would then ignore failures inside.
	set +e
	(
		set -e
		"$@"
	) >"$log" 2>&1 </dev/null 9>&-
	code=$?
	set -e
	[ "$code" -eq 0 ] || echo FAILED >"$STEP_NOTE"
	printf '%6s s  %s\n' "$(seconds_since "$began")" "$(cat "$STEP_NOTE")"
	[ "$code" -ne 0 ] || return 0
	echo "--- the end of $log:" >&2
	tail -n 40 "$log" >&2
	exit 1
}

# remember LIST WORD… - add words to a list in the state folder, each once.
remember() {
	local list=$STATE/$1
	shift
	mkdir -p "$STATE"
	touch "$list"
	printf '%s\n' "$@" | sort -u - "$list" >"$list.new"
	mv "$list.new" "$list"
}

# remembered LIST - the words of a list, one a line.
remembered() { cat "$STATE/$1" 2>/dev/null || true; }

forget() { rm -f "$STATE/$1"; }

# wait_until SECONDS COMMAND… - try a command until it succeeds.
wait_until() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$deadline" ] || return 1
		sleep 0.2
	done
}
