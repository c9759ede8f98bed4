# `agent`: make this machine a host of an installation whose controller is elsewhere.
# shellcheck shell=bash

UNITS=/etc/systemd/system
UNIT_SOURCES=$REPOSITORY/deployment/systemd
AGENT_UNIT=wireloom-agent.service
JOIN_FLAGS=()

# read_join ARGS… - sets `join_token` and `join_url`; the token may come on standard input or in the environment, where
# no list of processes shows it.
read_join() {
	join_token=${WIRELOOM_JOIN_TOKEN:-} join_url=
	while [ $# -gt 0 ]; do
		case $1 in
		--join)
			[ $# -ge 2 ] || die 2 "--join takes a token"
			join_token=$2
			shift
			;;
		--plain-http) JOIN_FLAGS+=(--plain-http) ;;
		-*) die 2 "unknown option '$1' (there are --join TOKEN and --plain-http)" ;;
		*)
			[ -z "$join_url" ] || die 2 "one address is enough: '$join_url' or '$1'?"
			join_url=$1
			;;
		esac
		shift
	done
	unset WIRELOOM_JOIN_TOKEN
	[ "$join_token" != - ] || read -r join_token || die 2 "no token on standard input"
	[ -n "$join_token" ] || [ -e "$DATA/agent/login.json" ] || die 2 "which installation? agent --join TOKEN URL"
	[ -z "$join_token" ] || [ -n "$join_url" ] || die 2 "where is the controller? agent --join TOKEN URL"
}

# join_installation - what it takes to log in is stored; a second time with the same token changes nothing.
join_installation() {
	if [ -z "$join_token" ]; then
		note "joined before"
		return 0
	fi
	"$VENV/bin/wireloom" agent --join - --join-only "${JOIN_FLAGS[@]}" "$join_url" <<<"$join_token"
	note "as $("$VENV/bin/python" -c 'from wireloom.settings import load_settings; print(load_settings().host)')"
}

# unit_text FILE - a unit with the command as it is on this machine.
unit_text() { sed "s#^ExecStart=/usr/local/bin/wireloom #ExecStart=$VENV/bin/wireloom #" "$UNIT_SOURCES/$1"; }

# install_unit NAME - put a unit in its place, unless one of somebody else's has that name; sets it to start at boot.
install_unit() {
	local unit=$1
	if [ -e "$UNITS/$unit" ] && ! remembered units | grep -qx "$unit"; then
		note "$UNITS/$unit is something else; left as it is"
		return 0
	fi
	remember units "$unit"
	unit_text "$unit" >"$UNITS/.$unit.new"
	mv "$UNITS/.$unit.new" "$UNITS/$unit"
	systemctl daemon-reload
	systemctl enable "$unit"
}

run_agent() {
	if ! has_systemd; then
		note "no systemd here; run it with: sudo $VENV/bin/wireloom agent"
		return 0
	fi
	install_unit "$AGENT_UNIT"
	systemctl restart "$AGENT_UNIT"
	wait_until 30 systemctl --quiet is-active "$AGENT_UNIT"
	note "systemd runs it: $AGENT_UNIT"
}

join_and_run() {
	local join_token join_url
	read_join "$@"
	step "system packages" install_packages
	step "python environment" install_python
	step "engines" start_engines
	step "wireloom command" link_command
	step "join" join_installation
	step "agent" run_agent
}

# remove_units - stop what systemd runs of us, and take it away.
remove_units() {
	local unit
	local -a gone=()
	while read -r unit; do
		[ -n "$unit" ] || continue
		systemctl disable --now "$unit" || true
		rm -f "${UNITS:?}/$unit"
		gone+=("$unit")
	done < <(remembered units)
	[ ${#gone[@]} -eq 0 ] || ! has_systemd || systemctl daemon-reload
	forget units
	note "${#gone[@]} removed"
}

# leave_installation - this host is none any more: its login goes; nobody can use it after the host was removed there.
leave_installation() {
	rm -f "$DATA/agent/login.json" "$DATA/agent/join.json"
	note "on the controller: wireloom host remove"
}
