# System packages: only what is missing, in one go, remembered for `down --purge`.
# shellcheck shell=bash

PACKAGES=(
	# engines
	libvirt-clients libvirt-daemon-system openvswitch-switch ovmf qemu-system-x86 qemu-utils
	# what Wireloom runs
	busybox-static dnsmasq-base iproute2 iptables nats-server
	# filters of captures, and frames as text; tshark brings wireshark-common, whose question has the answer "no"
	tcpdump tshark
	# images and layers of images that are packed with it
	zstd
	# to build the Python package of libvirt
	gcc libc6-dev libvirt-dev pkg-config
	# to build the reference images
	binutils cpio dosfstools e2fsprogs fdisk kmod mtools syslinux syslinux-common syslinux-efi
	# to test: readers of the media that we build, and what cloud-init's check of its files needs
	genisoimage iputils-ping shellcheck xorriso
	# … and the database of several controllers
	postgresql
	python3-configobj python3-jinja2 python3-jsonpatch python3-jsonschema python3-oauthlib python3-requests
	python3-serial python3-yaml
	ca-certificates procps
)

is_known() { [ -n "$(apt-cache show --no-all-versions "$1" 2>/dev/null)" ]; }

# python_series - the Python that we use: the distribution's own if it is 3.11 or later, else python3.11.
python_series() {
	local version
	version=$(apt-cache policy python3 | awk '/Candidate:/ { print $2 }')
	if dpkg --compare-versions "$version" ge 3.11; then
		echo python3
	else
		echo python3.11
	fi
}

# wanted_packages - names, one a line. A Docker that is already there, of whatever origin, is left alone.
wanted_packages() {
	local series
	series=$(python_series)
	printf '%s\n' "${PACKAGES[@]}" "$series" "$series-venv" "$series-dev"
	command -v dockerd >/dev/null || echo docker.io
	# A package of its own since Debian 13.
	command -v docker >/dev/null || ! is_known docker-cli || echo docker-cli
}

installed_packages() { dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort; }

update_package_lists() { apt-get -q update; }

# no_database_of_its_own - Debian's PostgreSQL makes and starts a database when it is installed; tests make their own.
no_database_of_its_own() {
	local file=/etc/postgresql-common/createcluster.conf
	[ -z "$(dpkg-query -W -f '${db:Status-Status}' postgresql-common 2>/dev/null)" ] || return 0
	mkdir -p "${file%/*}"
	[ -e "$file" ] || echo 'create_main_cluster = false' >"$file"
}

install_packages() {
	local -a missing
	[ -e /etc/debian_version ] || die 1 "needs Debian 12 or 13, or Ubuntu 22.04 or later"
	is_known busybox-static || update_package_lists
	mapfile -t missing < <(wanted_packages | sort -u | comm -23 - <(installed_packages))
	if [ ${#missing[@]} -eq 0 ]; then
		note "all there"
		return 0
	fi
	update_package_lists
	no_database_of_its_own
	installed_packages >"$BUILD/packages.before"
	local code=0
	apt-get -q -y --no-install-recommends -o Dpkg::Options::=--force-confold install "${missing[@]}" || code=$?
	# What came along as a dependency is ours as well, even when the installation stopped half-way.
	installed_packages >"$BUILD/packages.after"
	mapfile -t missing < <(comm -13 "$BUILD/packages.before" "$BUILD/packages.after")
	[ ${#missing[@]} -eq 0 ] || remember packages "${missing[@]}"
	[ "$code" -eq 0 ] || return "$code"
	note "${#missing[@]} installed"
}

# unpack_cloud_init - cloud-init beside the system, for the check of its own files. Installed, it would look at the next
# boot for a configuration of this very machine.
unpack_cloud_init() {
	local folder=$BUILD/cloud-init
	if [ -d "$folder/usr/lib/python3/dist-packages/cloudinit" ]; then
		note "all there"
		return 0
	fi
	rm -rf "$folder"
	mkdir -p "$folder"
	(cd "$folder" && apt-get -q -o APT::Sandbox::User=root download cloud-init && dpkg-deb --extract ./cloud-init_*.deb .)
	rm -f "$folder"/cloud-init_*.deb
	note "unpacked"
}

purge_packages() {
	local -a ours
	mapfile -t ours < <(remembered packages | sort -u | comm -12 - <(installed_packages))
	[ ${#ours[@]} -eq 0 ] || apt-get -q -y purge "${ours[@]}"
	forget packages
	note "${#ours[@]} removed"
}
