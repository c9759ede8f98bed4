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
	cat <<TEXT

The lab runs ($(seconds_since "$began") s after set-up). What to try next:

  wireloom labs                                     all labs
  wireloom inspect $DEMO_LAB                       its nodes and links
  wireloom exec $DEMO_LAB r1 -- vtysh -c 'show ip route'
  wireloom console $DEMO_LAB r2                    the serial console of a virtual machine
  wireloom link down $DEMO_LAB r1:eth1 r2:eth1    pull a cable, then look at the routes
  wireloom destroy $DEMO_LAB                       remove the lab
  sudo ./bootstrap down                             leave the machine as it was

The lab's file: examples/ospf-mixed.yml - edit it and run \`wireloom deploy\` again.
TEXT
}
