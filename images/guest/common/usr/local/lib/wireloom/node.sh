# Shell functions that containers and virtual machines of every reference image share.
# shellcheck shell=sh

WIRELOOM_ETC=/etc/wireloom
WIRELOOM_RUN=/run/wireloom
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/frr
export PATH

# write_setting PATH VALUE - set a kernel setting where the node may; elsewhere the engine has set it.
write_setting() {
	[ -w "$1" ] && echo "$2" 2>/dev/null >"$1"
	return 0
}

# authorize_keys - let in the SSH keys that were delivered to the node.
authorize_keys() {
	[ -s "$WIRELOOM_ETC/authorized_keys" ] || return 0
	mkdir -p /root/.ssh
	chmod 700 /root/.ssh
	cp "$WIRELOOM_ETC/authorized_keys" /root/.ssh/authorized_keys
	chmod 600 /root/.ssh/authorized_keys
}

# start_ssh - SSH on every address; host keys are made at the first connection and kept.
start_ssh() {
	mkdir -p /etc/dropbear
	rm -f /run/dropbear.pid
	dropbear -R -P /run/dropbear.pid
}

# run_setup - the user's own script, at every start, when the ports are there and before the role starts.
run_setup() {
	[ -s "$WIRELOOM_ETC/setup.sh" ] || return 0
	/bin/sh "$WIRELOOM_ETC/setup.sh" || echo "setup.sh: exit code $?"
}

# start_node - everything between "the ports are there" and "ready".
start_node() {
	mkdir -p "$WIRELOOM_RUN"
	authorize_keys
	start_ssh
	run_setup
	start_role
	: >"$WIRELOOM_RUN/ready"
	echo "$(cat "$WIRELOOM_ETC/role") ready"
}

# The role's own start_role and stop_role.
. /usr/local/lib/wireloom/role.sh
