# What `demo` and `test` need first.
# shellcheck shell=bash

build_images() {
	local -a build=("$VENV/bin/python" "$REPOSITORY/images/build.py" --out "$DATA/images" --load)
	# Package lists of yesterday may name files that the mirrors no longer have.
	if ! "${build[@]}"; then
		update_package_lists
		"${build[@]}"
	fi
	note "$(cd "$DATA/images" && find . -maxdepth 1 -type l -printf '%f\n' | sort | tr '\n' ' ')"
}

setup() {
	step "system packages" install_packages
	step "python environment" install_python
	step "engines" start_engines
	step "reference images" build_images
	step "wireloom command" link_command
}
