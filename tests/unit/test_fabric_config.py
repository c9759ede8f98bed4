"""The servers' configuration and the stores' definitions, byte for byte."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from wireloom.cli.main import app
from wireloom.errors import InvalidInput
from wireloom.fabric.addresses import own_names, split_address
from wireloom.fabric.authority import Authority, fingerprint, names_of
from wireloom.fabric.deployment import Deployment, write_deployment
from wireloom.fabric.server_config import Cluster, Files, ServerSettings, Tls, Trust, render
from wireloom.fabric.stores import bucket_config, events_config
from wireloom.fabric.subjects import HOSTS

_PRIVATE = """\
server_name: "wireloom"
host: "127.0.0.1"
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
authorization { timeout: 5 }
operator: "eyJ.o.p"
system_account: "ASYS"
resolver {
  type: full
  dir: "/data dir/claims"
  allow_delete: false
  interval: "2m"
}
resolver_preload {
  AONE: "eyJ.one"
  ASYS: "eyJ.sys"
}
"""

_SHARED = """\
server_name: "n1"
host: "0.0.0.0"
port: 4222
max_payload: 8388608
jetstream {
  store_dir: "/var/lib/n/store"
  max_file_store: 2147483648
  max_memory_store: 67108864
}
authorization { timeout: 5 }
tls {
  cert_file: "/etc/n/server.pem"
  key_file: "/etc/n/server.key"
  verify: false
  timeout: 5
}
cluster {
  name: "wireloom"
  port: 6222
  no_advertise: true
  routes: ["nats-route://n1:6222", "nats-route://n2:6222"]
  tls {
    cert_file: "/etc/n/server.pem"
    key_file: "/etc/n/server.key"
    ca_file: "/etc/n/ca.pem"
    verify: true
    timeout: 5
  }
}
operator: "eyJ.o.p"
system_account: "ASYS"
resolver {
  type: full
  dir: "/var/lib/n/claims"
  allow_delete: false
  interval: "2m"
}
resolver_preload {
  AONE: "eyJ.one"
  ASYS: "eyJ.sys"
}
"""

TRUST = Trust(operator="eyJ.o.p", system_account="ASYS", accounts={"ASYS": "eyJ.sys", "AONE": "eyJ.one"})


def test_the_private_servers_configuration_byte_for_byte() -> None:
    folder = Path("/data dir")
    files = Files(pid=folder / "nats-server.pid", ports=folder, log=folder / "nats-server.log")
    settings = ServerSettings(
        "wireloom", "127.0.0.1", -1, store=folder / "store", claims=folder / "claims", trust=TRUST, files=files
    )
    assert render(settings) == _PRIVATE


def test_a_shared_servers_configuration_byte_for_byte() -> None:
    home, store = Path("/etc/n"), Path("/var/lib/n")
    tls = Tls(home / "server.pem", home / "server.key")
    inner = Tls(tls.chain, tls.key, home / "ca.pem")
    cluster = Cluster("wireloom", 6222, ("n1:6222", "n2:6222"), inner)
    settings = ServerSettings(
        "n1",
        "0.0.0.0",  # noqa: S104
        4222,
        store / "store",
        store / "claims",
        TRUST,
        tls=tls,
        cluster=cluster,
    )
    assert render(settings) == _SHARED


class TestDeployment:
    def test_one_server_is_no_cluster_and_hosts_find_it_by_tls(self, tmp_path: Path) -> None:
        written = write_deployment(tmp_path, Deployment(servers=("nats.example.net",)))
        assert written.urls == ("tls://nats.example.net:4222",)
        text = written.configurations[0].read_text()
        assert "cluster {" not in text
        assert f'cert_file: "{tmp_path}/nats.example.net/server.pem"' in text

    def test_keys_and_authority_stay_when_it_is_written_again(self, tmp_path: Path) -> None:
        first = write_deployment(tmp_path, Deployment(servers=("n1",)))
        kept = (first.keys.read_bytes(), first.ca.read_bytes())
        again = write_deployment(tmp_path, Deployment(servers=("n1", "n2", "[fd00::3]:5222")))
        assert (again.keys.read_bytes(), again.ca.read_bytes()) == kept
        assert again.urls == ("tls://n1:4222", "tls://n2:4222", "tls://[fd00::3]:5222")
        assert '"nats-route://[fd00::3]:6222"' in again.configurations[0].read_text()

    def test_private_keys_are_for_the_owner_and_no_server_gets_the_controllers(self, tmp_path: Path) -> None:
        write_deployment(tmp_path, Deployment(servers=("n1", "n2")))
        for path in (*tmp_path.rglob("*.key"), tmp_path / "keys.json"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert {path.name for path in (tmp_path / "n1").iterdir()} == {
            *("ca.pem", "nats-server.conf", "server.key", "server.pem")
        }

    def test_servers_of_one_machine_differ_by_their_ports(self, tmp_path: Path) -> None:
        deployment = Deployment(servers=("m:4222", "m:4223"), at=Path("/etc/nats"))
        one, two = (path.read_text() for path in write_deployment(tmp_path, deployment).configurations)
        assert "  port: 6222\n" in one
        assert "  port: 6223\n" in two
        assert 'cert_file: "/etc/nats/server.pem"' in one
        assert 'store_dir: "/var/lib/wireloom-nats/m-4222/store"' in one

    @pytest.mark.parametrize("servers", [(), ("",), ("a", "a")])
    def test_servers_that_are_none_or_named_twice_are_refused(self, tmp_path: Path, servers: tuple[str, ...]) -> None:
        with pytest.raises(InvalidInput):
            write_deployment(tmp_path, Deployment(servers=servers))


class TestAuthority:
    def test_it_is_made_once_and_known_by_its_fingerprint(self, tmp_path: Path) -> None:
        first, second = Authority(tmp_path / "tls"), Authority(tmp_path / "tls")
        assert first.certificate == second.certificate
        assert fingerprint(first.certificate) == fingerprint(second.certificate)
        assert fingerprint(Authority(tmp_path / "other").certificate) != fingerprint(first.certificate)
        with pytest.raises(InvalidInput):
            fingerprint("no certificate")

    def test_a_certificate_is_made_anew_only_for_a_further_name(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path)
        before = authority.ensure_server({"h1", "10.0.0.1"}).chain.read_bytes()
        assert authority.ensure_server({"10.0.0.1"}).chain.read_bytes() == before
        after = authority.ensure_server({"h1", "10.0.0.1", "fd00::1"}).chain.read_bytes()
        assert after != before
        assert names_of(x509.load_pem_x509_certificate(after)) == {"h1", "10.0.0.1", "fd00::1"}

    def test_a_certificate_of_another_authority_or_without_its_key_is_made_anew(self, tmp_path: Path) -> None:
        authority, foreign = Authority(tmp_path / "a"), Authority(tmp_path / "b").ensure_server({"h1"})
        mine = authority.ensure_server({"h1"})
        mine.chain.write_bytes(foreign.chain.read_bytes())
        mine.key.write_bytes(foreign.key.read_bytes())
        assert authority.ensure_server({"h1"}).chain.read_bytes() != foreign.chain.read_bytes()
        before = mine.chain.read_bytes()
        mine.key.write_bytes(foreign.key.read_bytes())
        assert authority.ensure_server({"h1"}).chain.read_bytes() != before

    def test_it_began_before_it_was_made_because_clocks_differ(self, tmp_path: Path) -> None:
        made = x509.load_pem_x509_certificate(Authority(tmp_path).ensure_server({"h1"}).chain.read_bytes())
        life = made.not_valid_after_utc - made.not_valid_before_utc
        assert life.days == 367


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h1", ("h1", None)),
        ("h1:4222", ("h1", 4222)),
        ("10.0.0.1:80", ("10.0.0.1", 80)),
        ("fd00::1", ("fd00::1", None)),
        ("[fd00::1]", ("fd00::1", None)),
        ("[fd00::1]:4222", ("fd00::1", 4222)),
    ],
)
def test_an_address_is_cut_into_name_and_port(text: str, expected: tuple[str, int | None]) -> None:
    assert split_address(text) == expected


def test_a_machine_is_reached_on_loopback_at_least() -> None:
    assert {"localhost", "127.0.0.1"} <= own_names()


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


def test_the_command_prints_the_settings_of_controllers(tmp_path: Path) -> None:
    arguments = ["fabric", "config", str(tmp_path), "--server", "n1", "--server", "n2:5222", "--name", "nats.example"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert 'fabric_url = "tls://n1:4222,tls://n2:5222"' in done.stdout
    assert f'fabric_keys = "{tmp_path}/keys.json"' in done.stdout
    shown = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert shown["configurations"] == [f"{tmp_path}/{name}/nats-server.conf" for name in ("n1", "n2")]
    assert CliRunner().invoke(app, ["fabric", "config", str(tmp_path), "--server", "not a name"]).exit_code == 1
