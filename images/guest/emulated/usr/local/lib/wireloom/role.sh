# The role of the emulated image: nothing of a node's usual services, all is the persona's.
# shellcheck shell=sh

start_ssh() { :; }

start_role() { :; }

stop_role() { :; }
