# The role of the frr image: a router.
# shellcheck shell=sh

FRR_LIB=/usr/lib/frr
FRR_ETC=/etc/frr
FRR_RUN=/run/frr
OPTIONAL_DAEMONS="bgpd ospfd ospf6d ripd ripngd isisd pimd pim6d ldpd nhrpd eigrpd babeld pbrd bfdd fabricd vrrpd pathd"

# implied_daemons - daemons whose statements stand in frr.conf, so that a configuration alone is enough.
implied_daemons() {
	[ -r "$FRR_ETC/frr.conf" ] || return 0
	while read -r daemon pattern; do
		grep -Eq "$pattern" "$FRR_ETC/frr.conf" && echo "$daemon"
	done <<-'TABLE'
		bgpd    ^router bgp
		ospfd   ^router ospf( |$)
		ospf6d  ^router ospf6
		ripd    ^router rip( |$)
		ripngd  ^router ripng
		isisd   ^router isis
		pimd    ^(ip pim| ip (pim|igmp)|router pim( |$))
		pim6d   ^(ipv6 pim| ipv6 (pim|mld)|router pim6)
		ldpd    ^mpls ldp
		nhrpd   ^ (ip|ipv6) nhrp
		eigrpd  ^router eigrp
		babeld  ^router babel
		pbrd    ^(pbr-map| pbr-policy)
		bfdd    ^(bfd| +(ip ospf|neighbor .*|ipv6 ospf6) bfd)
		fabricd ^router openfabric
		vrrpd   ^ vrrp
		pathd   ^segment-routing
	TABLE
	return 0
}

# start_daemon NAME - start one daemon; it has opened its sockets when this returns.
start_daemon() {
	[ -x "$FRR_LIB/$1" ] || return 0
	eval "daemon_options=\${$1_options:-}"
	# Options are words by intent.
	# shellcheck disable=SC2154,SC2086
	"$FRR_LIB/$1" -d $daemon_options || echo "frr: $1 did not start"
}

# wanted_daemons - the optional daemons to start: named in the daemons file or implied by frr.conf.
wanted_daemons() {
	implied=" $(implied_daemons | tr '\n' ' ')"
	for daemon in $OPTIONAL_DAEMONS; do
		eval "setting=\${$daemon:-no}"
		# shellcheck disable=SC2154
		case "$setting:$implied" in
		yes:* | *" $daemon "*) echo "$daemon" ;;
		esac
	done
}

start_role() {
	write_setting /proc/sys/net/ipv4/ip_forward 1
	write_setting /proc/sys/net/ipv6/conf/all/forwarding 1
	# A restarted container still has the previous run's process ids and sockets.
	rm -rf "$FRR_RUN"
	mkdir -p "$FRR_RUN" /var/log/frr /var/tmp
	chown frr:frr "$FRR_RUN" /var/log/frr
	# shellcheck source=/dev/null
	. "$FRR_ETC/daemons"
	[ -s "$FRR_ETC/frr.conf" ] || printf 'frr defaults traditional\n' >"$FRR_ETC/frr.conf"
	# The others connect to these two, mgmtd (FRR 9 and later) before zebra.
	start_daemon mgmtd
	start_daemon zebra
	started=""
	for daemon in staticd $(wanted_daemons); do
		start_daemon "$daemon" &
		started="$started $!"
	done
	# shellcheck disable=SC2086
	wait $started
	vtysh -b >/var/log/frr/boot.log 2>&1 || sed 's/^/frr: /' /var/log/frr/boot.log
	touch "$FRR_RUN/ready"
}

# stop_role - let the daemons say goodbye to their neighbours, within a second.
stop_role() {
	daemons=$(cat "$FRR_RUN"/*.pid 2>/dev/null)
	[ -n "$daemons" ] || return 0
	# shellcheck disable=SC2086
	kill -TERM $daemons 2>/dev/null
	tries=0
	# shellcheck disable=SC2086
	while kill -0 $daemons 2>/dev/null && [ "$tries" -lt 20 ]; do
		usleep 50000
		tries=$((tries + 1))
	done
	return 0
}
