# Take away what we have brought.
# shellcheck shell=bash

# wireloom_cli ARGS… - the command line, within a deadline.
wireloom_cli() { timeout 300 "$VENV/bin/wireloom" "$@"; }

lab_names() { wireloom_cli labs --json | "$VENV/bin/python" "$REPOSITORY/scripts/lab_names.py"; }

destroy_labs() {
	local labs lab count=0
	[ -x "$VENV/bin/wireloom" ] || return 0
	if ! wireloom_cli status >/dev/null 2>&1; then
		note "wireloom does not run"
		return 0
	fi
	labs=$(lab_names)
	for lab in $labs; do
		wireloom_cli destroy "$lab"
		count=$((count + 1))
	done
	note "$count destroyed"
}

stop_wireloom() {
	[ -x "$VENV/bin/wireloom" ] || return 0
	wireloom_cli status >/dev/null 2>&1 || return 0
	wireloom_cli down
}

remove_container_images() {
	local -a images=()
	engine_answers dockerd || return 0
	mapfile -t images < <(docker images --filter label=wireloom.image.key --format '{{.Repository}}:{{.Tag}}' |
		grep '^wireloom/' || true)
	[ ${#images[@]} -eq 0 ] || docker rmi "${images[@]}"
	note "${#images[@]} names removed"
}

remove_run_files() { rm -rf "$RUN" "$LOGS"; }

remove_data() {
	local kept
	kept=$(mktemp -d)
	# The packages are removed last, and only the state folder says which they are.
	[ ! -d "$STATE" ] || cp -a "$STATE" "$kept/"
	rm -rf "$DATA"
	if [ -d "$kept/bootstrap" ]; then
		mkdir -p "$DATA"
		mv "$kept/bootstrap" "$DATA/"
	fi
	rm -rf "$kept"
}

down() {
	local purge=no
	case ${1:-} in
	'') ;;
	--purge) purge=yes ;;
	*) die 2 "unknown option '$1' (there is --purge)" ;;
	esac
	step "labs" destroy_labs
	step "wireloom" stop_wireloom
	step "container images" remove_container_images
	step "engines" stop_engines
	step "command" unlink_command
	# Engines that others need keep their records, so that a later `down` can stop them.
	[ -n "$(ls -A "$ENGINE_STATE" 2>/dev/null)" ] || step "run files" remove_run_files
	[ "$purge" = no ] || purge_all
}

purge_all() {
	step "data" remove_data
	step "packages" purge_packages
	echo "removing $VENV, $BUILD and $DATA"
	rm -rf "$VENV" "$BUILD" "$DATA"
}
