# Docker, libvirt and Open vSwitch: started only when they do not answer, by systemd where it rules, by hand elsewhere.
# What was started is remembered with process id and start time, so that `down` ends exactly that.
# shellcheck shell=bash

ENGINE_STATE=$RUN/bootstrap
ENGINE_SECONDS=60
ENGINES=(dockerd virtlogd libvirtd ovs-vswitchd)

declare -A ENGINE_UNIT=(
	[dockerd]=docker [virtlogd]=virtlogd [libvirtd]=libvirtd [ovs-vswitchd]=openvswitch-switch
)
declare -A ENGINE_PACKAGE=(
	[dockerd]=docker.io [virtlogd]=libvirt-daemon-system [libvirtd]=libvirt-daemon-system
	[ovs-vswitchd]=openvswitch-switch
)
DOCKER_BRIDGE=docker0

has_systemd() { [ -d /run/systemd/system ]; }

engine_answers() {
	case $1 in
	dockerd) timeout 5 docker version --format '{{.Server.Version}}' ;;
	virtlogd) timeout 5 virt-admin --connect virtlogd:///system uri ;;
	libvirtd) timeout 5 virsh --connect qemu:///system uri ;;
	ovs-vswitchd) timeout 5 ovs-vsctl --timeout=4 list-br && timeout 5 ovs-appctl version ;;
	esac >/dev/null 2>&1
}

# process_start PID - when a live process began, in clock ticks since boot; empty for a dead one, reaped or not.
process_start() { sed -n 's/.*) \([^ZX] .*\)/\1/p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# ovs_ctl WORD… - Open vSwitch's own way to start and stop its daemons, the database among them.
ovs_ctl() { /usr/share/openvswitch/scripts/ovs-ctl "$@"; }

# launch_engine NAME - start a daemon by hand; sets `launched`, its process id.
launch_engine() {
	if [ "$1" = ovs-vswitchd ]; then
		ovs_ctl --system-id=random --no-mlockall start >>"$LOGS/$1.log" 2>&1
		launched=$(cat /run/openvswitch/ovs-vswitchd.pid)
		return 0
	fi
	setsid nohup "$1" >>"$LOGS/$1.log" 2>&1 </dev/null &
	launched=$!
}

start_engine() {
	local name=$1 launched
	mkdir -p "$ENGINE_STATE" "$LOGS"
	[ "$name" != dockerd ] || ip link show "$DOCKER_BRIDGE" >/dev/null 2>&1 || touch "$ENGINE_STATE/.bridge"
	if has_systemd; then
		systemctl start "${ENGINE_UNIT[$name]}"
		echo systemd >"$ENGINE_STATE/$name"
	else
		launch_engine "$name"
		echo "$launched $(process_start "$launched")" >"$ENGINE_STATE/$name"
	fi
	wait_until "$ENGINE_SECONDS" engine_answers "$name" && return 0
	echo "$name does not answer; its last words:"
	tail -n 20 "$LOGS/$name.log" 2>/dev/null || true
	return 1
}

# open_kvm - where no udev runs, /dev/kvm keeps its first owner, and libvirt then asks QEMU anew at every call.
open_kvm() {
	[ -c /dev/kvm ] && [ ! -d /run/udev ] && getent group kvm >/dev/null || return 0
	[ "$(stat -c %a:%G /dev/kvm)" = 600:root ] || return 0
	mkdir -p "$ENGINE_STATE"
	touch "$ENGINE_STATE/.kvm"
	chgrp kvm /dev/kvm
	chmod 660 /dev/kvm
}

close_kvm() {
	[ -e "$ENGINE_STATE/.kvm" ] || return 0
	rm "$ENGINE_STATE/.kvm"
	chgrp root /dev/kvm
	chmod 600 /dev/kvm
}

# came_with_us NAME - systemd started the engine when setup installed its package.
came_with_us() { has_systemd && remembered packages | grep -qx "${ENGINE_PACKAGE[$1]}"; }

start_engines() {
	local name
	local -a started=()
	open_kvm
	for name in "${ENGINES[@]}"; do
		if engine_answers "$name"; then
			if came_with_us "$name"; then
				mkdir -p "$ENGINE_STATE"
				echo systemd >"$ENGINE_STATE/$name"
			fi
			continue
		fi
		start_engine "$name"
		started+=("$name")
	done
	if [ ${#started[@]} -eq 0 ]; then note "all answer"; else note "started ${started[*]}"; fi
}

stop_engine() {
	local name=$1 pid began
	read -r pid began <"$ENGINE_STATE/$name"
	rm "$ENGINE_STATE/$name"
	[ "$name" != libvirtd ] || stop_libvirt_networks
	if [ "$pid" = systemd ]; then
		systemctl stop "${ENGINE_UNIT[$name]}.socket" "${ENGINE_UNIT[$name]}.service" || true
	elif [ -n "$began" ] && [ "$(process_start "$pid")" = "$began" ]; then
		end_engine "$name" "$pid"
		wait_until 30 process_has_ended "$pid" "$began"
	fi
	if [ "$name" = dockerd ] && [ -e "$ENGINE_STATE/.bridge" ]; then
		rm "$ENGINE_STATE/.bridge"
		ip link delete "$DOCKER_BRIDGE" 2>/dev/null || true
	fi
}

# end_engine NAME PID - tell a daemon that we launched to end.
end_engine() {
	if [ "$1" = ovs-vswitchd ]; then
		timeout 30 ovs-appctl exit --cleanup || true
		ovs_ctl stop
	else
		kill "$2"
	fi
}

# stop_libvirt_networks - libvirtd starts its networks by itself, and they would outlive it.
stop_libvirt_networks() {
	local network
	engine_answers libvirtd || return 0
	virsh --connect qemu:///system net-list --name | while read -r network; do
		[ -z "$network" ] || virsh --connect qemu:///system net-destroy "$network"
	done
}

process_has_ended() { [ "$(process_start "$1")" != "$2" ]; }

# engine_is_needed NAME - somebody else's containers or machines run on an engine that we started.
engine_is_needed() {
	case $1 in
	dockerd) [ -n "$(timeout 10 docker ps -q)" ] ;;
	ovs-vswitchd) [ -n "$(timeout 10 ovs-vsctl --timeout=9 list-br)" ] ;;
	*) [ -n "$(timeout 10 virsh --connect qemu:///system list --name | tr -d '\n')" ] ;;
	esac 2>/dev/null
}

stop_engines() {
	local name
	local -a stopped=() kept=()
	for name in libvirtd virtlogd dockerd ovs-vswitchd; do
		[ -e "$ENGINE_STATE/$name" ] || continue
		if engine_answers "$name" && engine_is_needed "$name"; then
			kept+=("$name")
		else
			stop_engine "$name"
			stopped+=("$name")
		fi
	done
	note "stopped: ${stopped[*]:-none}${kept[*]:+; still needed by others: ${kept[*]}}"
	close_kvm
}
