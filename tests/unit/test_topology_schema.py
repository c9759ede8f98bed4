"""The published JSON Schema agrees with the reader, and generated files are fresh."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wireloom.planning.topology.schema import topology_schema
from wireloom.planning.topology.settings import check_settings
from wireloom.yamlfile import read_yaml

REPOSITORY = Path(__file__).parents[2]


def findings(text: str) -> list[str]:
    root = read_yaml(text, file="f").root
    assert root is not None
    return [f"{path}: {message}" for path, message, _, _ in check_settings(topology_schema(), root.data())]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "examples").glob("*.yml")), ids=lambda path: path.name)
def test_the_examples_fit_the_schema(path: Path) -> None:
    assert findings(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "node",
    [
        "",
        "{device: frr, memory: 512, cpu: 0.5, mgmt: false, spare-ports: 3}",
        "{device: frr, memory: 2GiB, env: [A=1], depends-on: [b], position: [1, 2], binds: ['/a:/b:ro']}",
        "{env: {A: 1}, depends-on: {b: ready}, position: {x: 1, y: 2}, binds: [{source: /a, target: /b}]}",
        "{host-labels: {rack: b}, apart: x, apart-preferred: [x, y]}",
        "{startup-config: r.cfg, exec: [ls], labels: {a: b}, settings: {tty: true}, host: h, restart: never}",
    ],
)
def test_what_the_reader_takes_fits_the_schema(node: str) -> None:
    assert (
        findings(f"name: x\nnodes:\n  a: {node}\nlinks:\n- [a:eth1, b:eth1]\n- {{endpoints: [a:e, b:e], mtu: 68}}\n")
        == []
    )


@pytest.mark.parametrize(
    "text",
    [
        "nodes: {a: }",
        "name: x\nnodes: {a: {devise: frr}}",
        "name: x\nnodes: {a: {memory: lots}}",
        "name: x\nnodes: {a: {restart: maybe}}",
        "name: x\nnodes: {a: }\nlinks: [[a:b]]",
        "name: x\nnodes: {a: }\nlinks: [[a, b]]",
        "name: x\nnodes: {a: }\nlinks: [{endpoints: [a:b, c:d], mtu: 1}]",
        "name: x y\nnodes: {a: }",
    ],
)
def test_what_the_reader_refuses_does_not_fit(text: str) -> None:
    assert findings(text) != []


def test_every_key_says_what_it_is_for() -> None:
    schema = topology_schema()
    for name, body in [("the file", schema), *schema["$defs"].items()]:
        for key, value in body["properties"].items():
            assert value.get("description") or name == "PositionFields", f"{name}: {key}"


def test_generated_files_are_fresh() -> None:
    command = [sys.executable, str(REPOSITORY / "scripts" / "generate_schema.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
