# Day-0 data: the first disk (CD-ROM, virtio, SCSI) with an ISO 9660 or FAT file system of one of these labels.
# Applied once per content, so that changes made in the guest survive restarts with the medium in place.
# shellcheck shell=sh

DAY0_LABELS="CIDATA cidata config-2 CONFIG config"
DAY0_MOUNT=/mnt/day0
DAY0_APPLIED=/etc/wireloom/day0-applied

# read_text DEVICE OFFSET LENGTH - bytes of a device without blanks.
read_text() { dd if="$1" bs=1 skip="$2" count="$3" 2>/dev/null | tr -d ' \0'; }

# iso_label DEVICE - the label of an ISO 9660 file system, read directly: busybox's findfs does not see one that is
# smaller than 68 KiB, as a medium with a few short files is.
iso_label() { [ "$(read_text "$1" 32769 5)" = CD001 ] && read_text "$1" 32808 32; }

find_day0() {
	for day0_device in /dev/sr[0-9] /dev/vd[a-z] /dev/sd[a-z]; do
		[ -b "$day0_device" ] || continue
		case " $DAY0_LABELS " in *" $(iso_label "$day0_device") "*) return 0 ;; esac
	done
	for label in $DAY0_LABELS; do
		day0_device=$(findfs "LABEL=$label" 2>/dev/null) && return 0
	done
	return 1
}

# mount_day0 - find and mount the medium; the drivers of CD-ROMs are loaded only when they are needed.
mount_day0() {
	if ! find_day0; then
		modprobe -a ata_piix ahci virtio_scsi sr_mod sd_mod 2>/dev/null
		tries=0
		until find_day0; do
			tries=$((tries + 1))
			[ "$tries" -gt 15 ] && return 1
			usleep 100000
		done
	fi
	mkdir -p "$DAY0_MOUNT"
	modprobe -q isofs
	mount -t iso9660 -o ro "$day0_device" "$DAY0_MOUNT" 2>/dev/null && return 0
	modprobe -a vfat nls_cp437 nls_ascii nls_iso8859_1 nls_utf8 2>/dev/null
	mount -t vfat -o ro "$day0_device" "$DAY0_MOUNT"
}

# take FILE TARGET MODE - copy one file of the medium, if it is there.
take() {
	[ -f "$DAY0_MOUNT/$1" ] || return 0
	cp "$DAY0_MOUNT/$1" "$2"
	chmod "$3" "$2"
}

apply_day0() {
	mount_day0 || return 0
	content=$(cd "$DAY0_MOUNT" && find . -type f | sort | xargs md5sum | md5sum)
	if [ "$content" != "$(cat "$DAY0_APPLIED" 2>/dev/null)" ]; then
		take hostname /etc/hostname 644
		take authorized_keys /etc/wireloom/authorized_keys 600
		take setup.sh /etc/wireloom/setup.sh 755
		if [ -d /etc/frr ]; then
			take frr.conf /etc/frr/frr.conf 640
			take daemons /etc/frr/daemons 640
			chown frr:frr /etc/frr/frr.conf /etc/frr/daemons
		fi
		echo "$content" >"$DAY0_APPLIED"
		sync
		echo "day-0 data applied from $day0_device" >/dev/console
	fi
	umount "$DAY0_MOUNT"
}
