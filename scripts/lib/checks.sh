# Everything that CI runs. Each lane runs even when an earlier one has failed; the summary names the failures.
# shellcheck shell=bash

LANES=(lint format types imports limits shell generated docs unit contract system hosts scale)
LANE_SECONDS=2400

check_lane_names() {
	local name
	for name in "$@"; do
		[[ " ${LANES[*]} " == *" $name "* ]] || die 2 "no lane '$name' (there are: ${LANES[*]})"
	done
}

# run_lane NAME - one lane under a deadline; its output goes straight to the terminal.
run_lane() {
	local code=0
	printf '\n=== %s\n' "$1"
	timeout --kill-after=30 "$LANE_SECONDS" "$REPOSITORY/scripts/check" "$1" </dev/null 9>&- || code=$?
	[ "$code" -ne 124 ] || echo "$1 took longer than $LANE_SECONDS s"
	return "$code"
}

run_checks() {
	local began=$EPOCHREALTIME lane_began name result
	local -a lanes=("$@") failed=() summary=()
	[ ${#lanes[@]} -gt 0 ] || lanes=("${LANES[@]}")
	rm -rf "$BUILD/reports"
	for name in "${lanes[@]}"; do
		lane_began=$EPOCHREALTIME
		result=ok
		if ! run_lane "$name"; then
			result=FAILED
			failed+=("$name")
		fi
		summary+=("$(printf '%-10s %7s s  %s' "$name" "$(seconds_since "$lane_began")" "$result")")
		echo "--- ${summary[-1]}"
	done
	printf '\n=== summary, %s s\n' "$(seconds_since "$began")"
	printf '%s\n' "${summary[@]}"
	"$VENV/bin/python" "$REPOSITORY/scripts/sum_reports.py" "$BUILD/reports"
	[ ${#failed[@]} -eq 0 ] || die 1 "failed: ${failed[*]}"
}
