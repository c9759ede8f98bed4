"""What is shipped to run Wireloom elsewhere: systemd units, the Compose file, how bootstrap makes a host."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from wireloom.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
UNITS = sorted((REPOSITORY / "deployment" / "systemd").glob("*.service"))
COMPOSE = REPOSITORY / "deployment" / "compose"

PRELUDE = """
set -euo pipefail
REPOSITORY={repository} BUILD={folder}/build VENV={folder}/venv DATA={folder}/data STATE={folder}/data/bootstrap
RUN={folder}/run LOGS={folder}/log LOCK={folder}/lock COMMAND_LINK={folder}/bin/wireloom
mkdir -p "$BUILD/log" "$VENV/bin" {folder}/units {folder}/bin
PATH={folder}/bin:$PATH
for part in steps packages python engines agent; do . "$REPOSITORY/scripts/lib/$part.sh"; done
UNITS={folder}/units
has_systemd() {{ true; }}
systemctl() {{ echo "systemctl $*" >>{folder}/asked; }}
step() {{ shift; "$@" </dev/null; }}
note() {{ echo "note: $*"; }}
install_packages() {{ :; }}; install_python() {{ :; }}; start_engines() {{ :; }}; link_command() {{ :; }}
cat >"$VENV/bin/wireloom" <<'TEXT'
#!/bin/sh
echo "wireloom $*" >>{folder}/asked
read -r token && echo "token $token" >>{folder}/asked
mkdir -p {folder}/data/agent && : >{folder}/data/agent/join.json && : >{folder}/data/agent/login.json
TEXT
printf '#!/bin/sh\\necho h1\\n' >"$VENV/bin/python"
chmod +x "$VENV/bin/wireloom" "$VENV/bin/python"
"""


def bash(folder: Path, script: str, *, stdin: str = "") -> subprocess.CompletedProcess[str]:
    prelude = PRELUDE.format(repository=REPOSITORY, folder=folder)
    command = ["bash", "-c", prelude + script]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def asked(folder: Path) -> list[str]:
    return (folder / "asked").read_text().splitlines()


# -------------------------------------------------------------------- systemd


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        # The program is where bootstrap puts it, which is not so on every machine that runs this.
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text)
    files = [str(tmp_path / unit.name) for unit in UNITS]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, timeout=60, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "wireloom" in line]
    assert ours == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_started_again_for_ever_and_takes_no_node_with_it(unit: Path) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(unit.read_text())
    service = parser["Service"]
    assert service["Restart"] == "always"
    assert parser["Unit"]["StartLimitIntervalSec"] == "0"
    assert service["KillMode"] == ("mixed" if unit.name == "wireloom-controller.service" else "process")
    assert service["ExecStart"].startswith("/usr/local/bin/wireloom ")


# -------------------------------------------------------------------- bootstrap agent


def test_a_host_joins_with_its_token_on_no_command_line_and_systemd_runs_its_agent(tmp_path: Path) -> None:
    done = bash(tmp_path, "join_and_run --join wl1.secret https://c:7430")
    assert done.returncode == 0, done.stderr
    assert asked(tmp_path)[:2] == ["wireloom agent --join - --join-only https://c:7430", "token wl1.secret"]
    assert "systemctl enable wireloom-agent.service" in asked(tmp_path)
    unit = (tmp_path / "units" / "wireloom-agent.service").read_text()
    assert f"ExecStart={tmp_path}/venv/bin/wireloom agent" in unit


def test_the_token_may_come_on_standard_input_or_in_the_environment(tmp_path: Path) -> None:
    assert bash(tmp_path, "join_and_run --join - https://c:7430", stdin="wl1.piped\n").returncode == 0
    assert "token wl1.piped" in asked(tmp_path)
    assert bash(tmp_path, "WIRELOOM_JOIN_TOKEN=wl1.hidden; join_and_run https://c:7430").returncode == 0
    assert "token wl1.hidden" in asked(tmp_path)


@pytest.mark.parametrize(
    "arguments", ["", "--join", "--join wl1.x", "--bogus", "--join wl1.x https://a https://b"], ids=repr
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(tmp_path: Path, arguments: str) -> None:
    done = bash(tmp_path, f"join_and_run {arguments}")
    assert done.returncode == 2
    assert done.stderr.startswith("bootstrap: ")
    assert not (tmp_path / "asked").exists()


def test_a_second_time_without_a_token_it_goes_on_with_what_it_has(tmp_path: Path) -> None:
    bash(tmp_path, "join_and_run --join wl1.secret https://c:7430")
    done = bash(tmp_path, "join_and_run")
    assert done.returncode == 0, done.stderr
    assert "note: joined before" in done.stdout
    assert sum(line.startswith("wireloom") for line in asked(tmp_path)) == 1


def test_a_unit_of_somebody_elses_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "units").mkdir()
    foreign = tmp_path / "units" / "wireloom-agent.service"
    foreign.write_text("mine\n")
    assert bash(tmp_path, "join_and_run --join wl1.secret https://c:7430").returncode == 0
    assert foreign.read_text() == "mine\n"


def test_down_takes_units_and_login_back(tmp_path: Path) -> None:
    bash(tmp_path, "join_and_run --join wl1.secret https://c:7430")
    done = bash(tmp_path, "remove_units; leave_installation; remove_units")
    assert done.returncode == 0, done.stderr
    assert "systemctl disable --now wireloom-agent.service" in asked(tmp_path)
    assert list((tmp_path / "units").iterdir()) == []
    assert list((tmp_path / "data" / "agent").iterdir()) == []


# -------------------------------------------------------------------- Compose


def compose() -> dict[str, dict[str, dict[str, object]]]:
    document = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    assert isinstance(document, dict)
    return document


def test_every_service_tells_whether_it_is_well_and_waits_for_those_that_it_needs() -> None:
    services = compose()["services"]
    assert services.keys() == {"controller", "database", "fabric"}
    for service in services.values():
        assert service["healthcheck"]
        assert service["restart"] == "unless-stopped"
    waits = services["controller"]["depends_on"]
    assert waits == {name: {"condition": "service_healthy"} for name in ("database", "fabric")}


def test_the_compose_file_names_what_it_declares_and_settings_that_there_are() -> None:
    document = compose()
    for service in document["services"].values():
        assert set(service.get("secrets", ())) <= document["secrets"].keys()
        named = [str(volume).partition(":")[0] for volume in service.get("volumes", ())]
        assert {name for name in named if not name.startswith(".")} <= document["volumes"].keys()
    environment = document["services"]["controller"]["environment"]
    assert isinstance(environment, dict)
    assert {name.removeprefix("WIRELOOM_").lower() for name in environment} <= Settings.model_fields.keys()


def test_no_secret_is_in_the_compose_file_or_the_image() -> None:
    text = (COMPOSE / "compose.yaml").read_text() + (COMPOSE / "Dockerfile").read_text()
    assert re.findall(r"(?i)(?:password|secret|token|key)\s*[:=]\s*[\"']?[a-z0-9]{6,}", text) == []
    kept = (REPOSITORY / ".dockerignore").read_text().split()
    assert "*" in kept
    assert "!deployment" not in kept


def test_what_the_compose_file_needs_is_prepared_once(tmp_path: Path) -> None:
    folder = tmp_path / "compose"
    shutil.copytree(COMPOSE, folder, ignore=shutil.ignore_patterns("state", ".env"))
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    for _ in range(2):
        subprocess.run(["./prepare", "c.example.net"], cwd=folder, env=environment, check=True, capture_output=True)
    assert (folder / ".env").read_text() == "WIRELOOM_NAME=c.example.net\n"
    secrets = {Path(item["file"]) for item in compose()["secrets"].values() if isinstance(item["file"], str)}
    for secret in secrets:
        assert (folder / secret).stat().st_mode & 0o077 == 0
    assert (folder / "state" / "fabric" / "c.example.net" / "nats-server.conf").exists()
