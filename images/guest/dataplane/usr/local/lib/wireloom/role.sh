# The role of the data plane's proving ground: it has no services, only what a suite starts.
# shellcheck shell=sh

start_role() { :; }

stop_role() { :; }
