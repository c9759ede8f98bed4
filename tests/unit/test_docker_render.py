"""Create bodies of containers, and the facts that go into them and come out of inspections."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from wireloom.errors import InvalidInput
from wireloom.model.identity import Identity
from wireloom.model.runtime import RuntimeSpec
from wireloom.model.slice import Bind
from wireloom.providers.docker.gate import gate_script
from wireloom.providers.docker.hijack import FrameDecoder
from wireloom.providers.docker.inspection import engine_time, engine_timestamp, query
from wireloom.providers.docker.render import ImageConfig, guest_command, render_create
from wireloom.providers.docker.settings import DockerSettings
from wireloom.providers.docker.uploads import is_saved_image

GOLDEN = Path(__file__).parent / "golden" / "docker"

IDENTITY = Identity(installation="site", lab_id="0f1e2d3c4b5a", lab="ring", node_id="a1b2c3d4e5f6", node="r1")
IMAGE = ImageConfig(digest="sha256:1", entrypoint=("/usr/bin/tini", "--"), command=("frr", "start"), env=("PATH=/bin",))

PLAIN = RuntimeSpec(
    identity=IDENTITY,
    incarnation=1,
    spec_hash="0123456789abcdef",
    hostname="r1",
    image="wireloom/frr:latest",
    folder=Path("/var/lib/wireloom/nodes/a1b2c3d4e5f6"),
)
RICH = PLAIN.model_copy(
    update={
        "incarnation": 3,
        "cpu": 1.5,
        "memory_mb": 512,
        "env": {"ROLE": "edge", "with.dot": "it's set"},
        "binds": (Bind(source="/srv/a:b", target="/data", read_only=True), Bind(source="/srv/c", target="/c")),
        "dns_servers": ("172.30.128.1",),
        "dns_search": ("ring.wl", "wl"),
    }
)
RICH_SETTINGS = {
    "command": ["frr", "debug"],
    "user": "101:101",
    "tty": False,
    "open_stdin": False,
    "cap_add": ["NET_ADMIN", "SYS_ADMIN"],
    "privileged": True,
    "sysctls": {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.disable_ipv6": "1"},
    "devices": ["/dev/net/tun", "/dev/null:/dev/zilch:r"],
    "tmpfs": {"/run": "size=64m"},
    "shm_size_mb": 128,
}


def golden(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return found


@pytest.mark.parametrize(
    ("name", "spec", "settings"),
    [("plain", PLAIN, {}), ("rich", RICH, RICH_SETTINGS)],
)
def test_the_create_body_is_the_golden_one(name: str, spec: RuntimeSpec, settings: dict[str, Any]) -> None:
    body = render_create(spec, DockerSettings.parse(settings), IMAGE)
    assert json.loads(json.dumps(body)) == golden(name)


@pytest.mark.parametrize(
    ("settings", "image", "command"),
    [
        ({}, IMAGE, ["/usr/bin/tini", "--", "frr", "start"]),
        ({"command": ["sh"]}, IMAGE, ["/usr/bin/tini", "--", "sh"]),
        ({"entrypoint": ["/init"]}, IMAGE, ["/init"]),
        ({"entrypoint": ["/init"], "command": ["x"]}, IMAGE, ["/init", "x"]),
        ({"entrypoint": [], "command": ["x"]}, IMAGE, ["x"]),
        ({"command": ["x"]}, ImageConfig(), ["x"]),
    ],
)
def test_settings_replace_what_the_image_starts_as_the_engine_would(
    settings: dict[str, Any], image: ImageConfig, command: list[str]
) -> None:
    assert guest_command(DockerSettings.parse(settings), image) == command


def test_an_image_without_a_program_is_refused_with_advice() -> None:
    with pytest.raises(InvalidInput) as caught:
        guest_command(DockerSettings(), ImageConfig())
    assert "command" in caught.value.hint


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        DockerSettings.parse({"previleged": True, "cap_add": "NET_ADMIN", "shm_size_mb": 0})
    problems = " ".join(caught.value.details["problems"])
    assert all(name in problems for name in ("previleged", "cap_add", "shm_size_mb"))


@pytest.mark.parametrize(
    ("settings", "may"),
    [
        ({}, False),
        ({"cap_add": ["NET_ADMIN"]}, False),
        ({"cap_add": ["sys_admin"]}, True),
        ({"cap_add": ["ALL"]}, True),
        ({"privileged": True}, True),
    ],
)
def test_a_guest_that_could_write_through_the_gate_mount_is_known(settings: dict[str, Any], may: bool) -> None:
    assert DockerSettings.parse(settings).may_remount is may


@pytest.fixture
def gate_run(tmp_path: Path) -> Any:
    """Run the gate's script on this host, with its paths bent into ``tmp_path`` and its gate open."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    (tmp_path / "gate").write_text("\n")
    (tmp_path / "busybox").symlink_to(busybox)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sleep").write_text('#!/bin/sh\necho "own sleep: $0 $*"\n')
    (tools / "sleep").chmod(0o755)

    def run(*argv: str, unusual: list[str] | None = None, env: dict[str, str] | None = None) -> tuple[int, str, str]:
        script = gate_script(unusual or []).replace("/.wireloom", str(tmp_path))
        done = subprocess.run(
            [busybox, "sh", "-c", script, "gate", *argv],
            env={"PATH": f"{tools}:/nowhere", **(env or {})},
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_the_gate_starts_the_images_program_and_not_an_applet_of_that_name(gate_run: Any) -> None:
    code, out, _ = gate_run("sleep", "a b", "*")
    assert code == 0
    assert out.startswith("own sleep: ")
    assert out.endswith("/tools/sleep a b *\n")


def test_the_gate_reports_a_program_that_is_not_there(gate_run: Any) -> None:
    code, _, err = gate_run("wget")
    assert code == 127
    assert "wget" in err


def test_the_gate_hands_the_environment_on_unchanged(gate_run: Any) -> None:
    given = {"A": "1 2", "B": "*"}
    code, out, _ = gate_run("/usr/bin/env", env=given, unusual=["'x.y=it'\"'\"'s'"])
    assert code == 0
    found = dict(line.partition("=")[::2] for line in out.splitlines())
    assert found.pop("PATH").endswith(":/nowhere")
    assert found == given | {"x.y": "it's"}


def test_frames_cut_at_every_byte_come_out_whole() -> None:
    stream = b"\x01\0\0\0\0\0\0\x03out" + b"\x02\0\0\0\0\0\0\x00" + b"\x02\0\0\0\0\0\0\x02er"
    for cut in range(len(stream) + 1):
        decoder = FrameDecoder()
        found = [*decoder.feed(stream[:cut]), *decoder.feed(stream[cut:])]
        assert found == [(1, b"out"), (2, b""), (2, b"er")]


@pytest.mark.parametrize(
    ("text", "stamp", "seconds"),
    [
        ("0001-01-01T00:00:00Z", None, None),
        ("1970-01-01T00:01:00Z", "60.0", 60.0),
        ("1970-01-01T00:01:00.000000009Z", "60.000000009", pytest.approx(60, abs=1e-6)),
    ],
)
def test_engine_times_keep_their_nanoseconds(text: str, stamp: str | None, seconds: float | None) -> None:
    assert engine_timestamp(text) == stamp
    assert engine_time(text) == seconds


def test_query_parameters_are_written_as_the_engine_takes_them() -> None:
    assert query(all=True, follow=False, filters={"label": ["a=b"]}, since="1.5") == {
        "all": "1",
        "follow": "0",
        "filters": '{"label": ["a=b"]}',
        "since": "1.5",
    }


@pytest.mark.parametrize(
    ("members", "saved"),
    [
        (["manifest.json"], True),
        (["f" * 64 + "/layer.tar"], True),
        (["blobs/sha256/x"], True),
        (["./bin/sh", "./manifest.json"], False),
        (["etc/passwd"], False),
    ],
)
def test_image_archives_are_told_from_file_trees(tmp_path: Path, members: list[str], saved: bool) -> None:
    for member in members:
        (tmp_path / member).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / member).write_text("x")
    archive = tmp_path / "image.tar"
    subprocess.run(["tar", "-C", tmp_path, "-czf", archive, *members], check=True, timeout=10)
    assert is_saved_image(archive) is saved
