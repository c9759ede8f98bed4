# The demonstration: the example lab on this machine.
# shellcheck shell=bash

DEMO_LAB=ospf-mixed
DEMO_FILE=$REPOSITORY/examples/ospf-mixed.yml

start_wireloom() {
	if timeout 20 "$VENV/bin/wireloom" status >/dev/null 2>&1; then
		note "runs already"
		return 0
	fi
	timeout 120 "$VENV/bin/wireloom" up --detach
}

demo() {
	local began=$EPOCHREALTIME
	step "wireloom up" start_wireloom
	echo
	"$VENV/bin/wireloom" deploy "$DEMO_FILE" --wait ready --timeout 300 9>&-
	echo
	"$VENV/bin/python" "$REPOSITORY/scripts/demo_checks.py" --wireloom "$VENV/bin/wireloom" "$DEMO_LAB" 9>&-
	what_next "$began"
}

# what_next START - commands to go on with, as the user who called must type them.
what_next() {
	local sudo=
	[ -z "${SUDO_USER:-}" ] || sudo="sudo "
	printf '\nThe lab runs, %s s after set-up. What to try next:\n\n' "$(seconds_since "$1")"
	printf '  %-62s %s\n' \
		"${sudo}wireloom inspect $DEMO_LAB" "its nodes and links" \
		"${sudo}wireloom exec $DEMO_LAB r1 -- vtysh -c 'show ip route'" "a command in a node" \
		"${sudo}wireloom console $DEMO_LAB r2" "the serial console of a machine" \
		"${sudo}wireloom link down $DEMO_LAB r1:eth1 r2:eth1" "pull a cable; traffic takes r4" \
		"${sudo}wireloom destroy $DEMO_LAB" "remove the lab" \
		"sudo ./bootstrap down" "leave the machine as it was"
	printf '\nEdit examples/ospf-mixed.yml and run `%swireloom deploy` again: only what changed is touched.\n' "$sudo"
}
