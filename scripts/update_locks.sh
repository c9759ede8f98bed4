#!/usr/bin/env bash
# Make the lock files anew from pyproject.toml (needs uv). They hold for Python 3.11 and later, and name no address.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compile() { uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@"; }

# Versions that still fit are kept; `update_locks.sh --upgrade` takes the newest.
compile "$@" pyproject.toml --output-file requirements.lock
compile "$@" pyproject.toml --extra dev --output-file requirements-dev.lock
python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["build"], sep="\n")' |
	compile "$@" - --output-file requirements-build.lock
