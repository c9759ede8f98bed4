# The persona reads its day-0 medium itself, as the real device does.
# shellcheck shell=sh

apply_day0() {
	for device in /sys/bus/pci/devices/*; do
		case "$(cat "$device/class")" in 0x01* | 0x0c03*) modprobe -q "$(cat "$device/modalias")" ;; esac
	done
	modprobe -q usb-storage delay_use=0
	modprobe -a sr_mod sd_mod isofs vfat nls_cp437 nls_ascii nls_iso8859_1 nls_utf8 2>/dev/null
}
