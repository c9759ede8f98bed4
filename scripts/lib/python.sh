# The virtual environment, from lock files with hashes; rebuilt only when they change.
# shellcheck shell=bash

LOCKS=(requirements-build.lock requirements-dev.lock)

python_stamp() {
	"$1" -c 'import sys; print(sys.version)'
	(cd "$REPOSITORY" && cat "${LOCKS[@]}" pyproject.toml)
}

python_release() { "$1" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null; }

install_python() {
	local python stamp
	python=/usr/bin/$(python_series)
	stamp=$(python_stamp "$python" | sha256sum | cut -c1-64)
	if [ "$stamp" = "$(cat "$VENV/.stamp" 2>/dev/null)" ] && [ -x "$VENV/bin/wireloom" ]; then
		note "unchanged"
		return 0
	fi
	# Packages of one release of Python do not work with another.
	if [ "$(python_release "$VENV/bin/python")" != "$(python_release "$python")" ]; then
		"$python" -m venv --clear "$VENV"
	fi
	cd "$REPOSITORY" || exit
	local lock
	# Build back-ends first: nothing unpinned is fetched while packages are built from source.
	for lock in "${LOCKS[@]}"; do
		"$VENV/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-build-isolation -r "$lock"
	done
	"$VENV/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	echo "$stamp" >"$VENV/.stamp"
	note "$("$VENV/bin/python" --version)"
}

# link_command - `wireloom` on the PATH, unless something else has that name.
link_command() {
	if [ -e "$COMMAND_LINK" ] && [ "$(readlink "$COMMAND_LINK")" != "$VENV/bin/wireloom" ]; then
		note "$COMMAND_LINK is something else; use $VENV/bin/wireloom"
		return 0
	fi
	ln -sfn "$VENV/bin/wireloom" "$COMMAND_LINK"
	note "$COMMAND_LINK"
}

unlink_command() {
	if [ "$(readlink "$COMMAND_LINK" 2>/dev/null)" = "$VENV/bin/wireloom" ]; then
		rm "$COMMAND_LINK"
	fi
}
