# Take away what we have brought.
# shellcheck shell=bash

DATABASE=$DATA/wireloom.sqlite

# wireloom_cli ARGS… - the command line, within a deadline.
wireloom_cli() { timeout 300 "$VENV/bin/wireloom" "$@"; }

wireloom_runs() { timeout 20 "$VENV/bin/wireloom" status >/dev/null 2>&1; }

# destroy_labs - every lab goes through the ordinary way of removal; for that, Wireloom must run.
destroy_labs() {
	[ -x "$VENV/bin/wireloom" ] || return 0
	if ! wireloom_runs; then
		if [ ! -e "$DATABASE" ]; then
			note "none"
			return 0
		fi
		start_engines
		wireloom_cli up --detach
	fi
	wireloom_cli down --destroy-labs --yes
	note "destroyed, Wireloom stopped"
}

remove_container_images() {
	local -a images=()
	engine_answers dockerd || return 0
	mapfile -t images < <(docker images --filter label=wireloom.image.key --format '{{.Repository}}:{{.Tag}}' |
		grep '^wireloom/' || true)
	if [ ${#images[@]} -gt 0 ] && ! docker rmi "${images[@]}"; then
		note "kept: containers of somebody else use them"
		return 0
	fi
	docker image prune --force --filter label=wireloom.image.key
	note "${#images[@]} names removed"
}

remove_run_files() { rm -rf "$RUN" "$RUN"-*.lock "$LOGS"; }

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
	[ ! -s "$STATE/units" ] || step "systemd units" remove_units
	step "labs" destroy_labs
	[ ! -e "$DATA/agent/join.json" ] || step "installation" leave_installation
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
