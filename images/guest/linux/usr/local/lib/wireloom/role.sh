# The role of the linux image: a plain host.
# shellcheck shell=sh

start_role() { :; }

stop_role() { :; }
