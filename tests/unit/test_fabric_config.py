"""The private server's configuration and the stores' definitions, byte for byte."""

from __future__ import annotations

from pathlib import Path

from wireloom.fabric.server_config import ServerSettings, User, render
from wireloom.fabric.stores import bucket_config, events_config
from wireloom.fabric.subjects import HOSTS, Permissions

_GOLDEN = """\
server_name: "wireloom"
host: 127.0.0.1
port: -1
max_payload: 8388608
pid_file: "/data dir/nats-server.pid"
ports_file_dir: "/data dir"
log_file: "/data dir/nats-server.log"
logfile_size_limit: 16777216
jetstream {
  store_dir: "/data dir/store"
  max_file_store: 2147483648
  max_memory_store: 67108864
}
authorization {
  timeout: 5
  users = [
    { user: "controller", password: "c-secret" }
    { user: "agent-h1", password: "a\\"secret", permissions: {
        publish: { allow: ["$KV.observed.h1.*", "events.h1"] }
        subscribe: { allow: ["rpc.h1.>"] }
        allow_responses: { max: 1, expires: "10m" }
    } }
  ]
}
"""


def test_the_configuration_is_rendered_byte_for_byte() -> None:
    permissions = Permissions(publish=("$KV.observed.h1.*", "events.h1"), subscribe=("rpc.h1.>",))
    users = [User("controller", "c-secret"), User("agent-h1", 'a"secret', permissions)]
    assert render(ServerSettings("wireloom", Path("/data dir"), -1, users)) == _GOLDEN


def test_passwords_do_not_show_in_a_repr() -> None:
    assert "secret" not in repr(User("controller", "secret"))


def test_heartbeats_expire_and_history_is_bounded() -> None:
    assert bucket_config(HOSTS)["max_age"] == 15_000_000_000
    history = events_config()
    assert history["max_age"] == 7 * 24 * 3600 * 1_000_000_000
    assert history["max_bytes"] == 256 * 1024 * 1024
    assert history["discard"] == "old"


def test_a_bucket_repeats_its_changes_with_their_sequence() -> None:
    config = bucket_config(HOSTS)
    assert config["republish"] == {"src": "$KV.hosts.>", "dest": "live.hosts.>"}
    assert config["max_msgs_per_subject"] == 1
    assert config["allow_direct"] is True
