"""The commands over a client that answers from memory: what they print, where, and how they exit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_rig import LAB, NODE, TOPOLOGY, FakeClient, operation, wireloom
from typer.testing import CliRunner

from wireloom import __version__
from wireloom.agent.probes import Finding, Level
from wireloom.cli.main import app
from wireloom.cli.state import CliState
from wireloom.errors import NotFound, TopologyInvalid, Unavailable
from wireloom.model.post_boot import BootRecord, CommandRecord
from wireloom.model.state import Readiness
from wireloom.model.views import (
    ChangeView,
    PlanView,
)
from wireloom.processes import ProcessId
from wireloom.records import write_record


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()
    monkeypatch.setattr(CliState, "client", lambda _self, **_: fake)
    return fake


@pytest.fixture
def topology(tmp_path: Path) -> str:
    (tmp_path / "r1.cfg").write_text("hostname r1\n")
    file = tmp_path / "demo.yml"
    file.write_text(TOPOLOGY)
    return str(file)


def test_version_and_help_need_nothing_else() -> None:
    assert wireloom("--version").stdout == f"wireloom {__version__}\n"
    assert json.loads(wireloom("version", "--json").stdout) == {"version": __version__}
    assert "Topologies:" in wireloom("--help").stdout


@pytest.mark.parametrize(
    "arguments", [["unknown"], ["inspect"], ["exec", "demo", "r1"], ["deploy", "f", "--wait", "x"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert wireloom(*arguments).exit_code == 2


def test_data_is_on_stdout_and_advice_on_stderr(client: FakeClient) -> None:
    client.error = Unavailable("no controller", hint="start one")
    result = wireloom("labs")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: no controller\nhint: start one\n"


def test_with_json_an_error_is_data_too(client: FakeClient) -> None:
    client.error = NotFound("no lab x")
    result = wireloom("inspect", "x", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == "not-found"


def test_labs_lists_and_gives_json(client: FakeClient) -> None:
    assert "demo  running" in wireloom("labs").stdout
    assert json.loads(wireloom("labs", "--json").stdout)[0]["lab"] == "demo"


def test_inspect_gives_the_published_structure(client: FakeClient) -> None:
    document = json.loads(wireloom("inspect", "demo", "--json").stdout)
    assert document["lab"] == "demo"
    wanted = {"name", "device", "provider", "host", "image", "state", "ready", "mgmt_ipv4", "error"}
    assert wanted <= set(document["nodes"][0])
    assert {"a", "b", "state", "mtu"} <= set(document["links"][0])
    assert (document["nodes"][0]["state"], document["links"][0]["state"]) == ("running", "up")


def test_inspect_shows_errors_of_nodes_with_their_hints(client: FakeClient) -> None:
    error = {"code": "image-missing", "message": "no image", "hint": "build it"}
    failed = NODE.model_copy(update={"error": error})
    client.view = LAB.model_copy(update={"nodes": (failed,)})
    assert "error: r1: no image\nhint: build it" in wireloom("inspect", "demo").stderr


def test_deploy_sends_the_files_that_the_topology_names(client: FakeClient, topology: str) -> None:
    result = wireloom("deploy", topology)
    assert result.exit_code == 0, result.output
    assert client.request is not None
    assert client.request.files == {"r1.cfg": "hostname r1\n"}
    assert client.request.source == topology


def test_deploy_gives_the_lab_and_its_operation_as_json(client: FakeClient, topology: str) -> None:
    document = json.loads(wireloom("deploy", topology, "--wait", "ready", "--json").stdout)
    assert (document["lab"], document["operation"]["state"]) == ("demo", "done")


def test_deploy_fails_per_node_with_hints(client: FakeClient, topology: str) -> None:
    error = {"code": "image-missing", "message": "no image", "hint": "build it", "node": "r1"}
    client.outcome = operation("deploy", "running", state="failed", errors=[error])
    result = wireloom("deploy", topology)
    assert result.exit_code == 1
    assert "error: r1: no image\nhint: build it" in result.stderr


@pytest.mark.parametrize(("goal", "code"), [("running", 0), ("configured", 1)])
def test_deploy_tells_of_a_command_after_boot_that_failed(
    client: FakeClient, topology: str, goal: str, code: int
) -> None:
    error = {"code": "guest-failed", "message": "post-boot command failed with exit code 1: ip link", "hint": "denied"}
    client.view = LAB.model_copy(update={"nodes": (NODE.model_copy(update={"error": error}),)})
    result = wireloom("deploy", topology, "--wait", goal)
    assert result.exit_code == code
    told = f"error: r1: {error['message']}\nhint: denied\nmore: `wireloom inspect demo r1`\n"
    assert (result.stderr, result.stderr.count("error:")) == (told, 1)
    assert result.stdout == ("" if code else "lab demo: 1 nodes, 1 ready, 1 with an error\n")


def test_mistakes_in_a_topology_are_shown_in_its_source(client: FakeClient, topology: str) -> None:
    found = {"file": topology, "line": 3, "column": 3, "message": "odd", "suggestion": "even"}
    client.error = TopologyInvalid("1 mistake", details={"diagnostics": [found]})
    result = wireloom("plan", topology)
    assert result.exit_code == 1
    assert f"{topology}:3:3: odd\n    3 |   r1: {{device: frr, startup-config: r1.cfg}}\n" in result.stderr
    again = json.loads(wireloom("plan", topology, "--json").stdout)
    assert again["error"]["details"]["diagnostics"] == [found]


@pytest.mark.parametrize(
    ("changes", "problems", "code"), [(0, 0, 0), (1, 0, 2), (1, 1, 1), (0, 1, 1)], ids=["none", "some", "both", "bad"]
)
def test_plan_tells_by_its_exit_code(client: FakeClient, topology: str, changes: int, problems: int, code: int) -> None:
    change = ChangeView(kind="node", name="r1", action="add", reasons=("not there",), host="h1")
    problem = {"code": "capacity-exceeded", "message": "too big", "node": "r1"}
    client.plan_view = PlanView(lab="demo", changes=(change,) * changes, problems=(problem,) * problems)
    result = wireloom("plan", topology)
    assert result.exit_code == code
    assert ("+ add node r1 on h1\n    because not there\n" in result.stdout) == bool(changes)


def test_a_missing_topology_is_an_error_not_a_crash(client: FakeClient, tmp_path: Path) -> None:
    result = wireloom("deploy", str(tmp_path / "absent.yml"))
    assert (result.exit_code, client.asked) == (1, [])
    assert "no file" in result.stderr


def test_a_pipe_as_topology_is_refused(client: FakeClient) -> None:
    assert "not a regular file" in wireloom("deploy", "/dev/zero").stderr


def test_validate_needs_no_controller(topology: str) -> None:
    result = wireloom("validate", topology, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["nodes"] == 1


def test_validate_counts_links_to_segments_and_names_these() -> None:
    example = str(Path(__file__).parents[2] / "examples" / "branch-office.yml")
    result = wireloom("validate", example)
    assert result.stdout.endswith("lab branch-office with 5 nodes and 6 links; segments: lan, internet\n")
    summary = json.loads(wireloom("validate", example, "--json").stdout)
    assert (summary["links"], summary["segments"]) == (6, ["lan", "internet"])


def test_the_topology_of_a_lab_can_be_saved(client: FakeClient) -> None:
    assert wireloom("topology", "demo").stdout == TOPOLOGY
    assert json.loads(wireloom("topology", "demo", "--json").stdout)["topology"] == TOPOLOGY


def test_stop_names_nodes_or_takes_all(client: FakeClient) -> None:
    assert wireloom("stop", "demo", "r1").exit_code == 0
    assert wireloom("stop", "demo", "--no-wait").exit_code == 0
    assert [asked for asked in client.asked if asked[0] == "stop"] == [("stop", "demo", ("r1",)), ("stop", "demo", ())]


def test_an_operation_ends_with_its_verb_and_the_nodes_that_it_was_given_for(client: FakeClient) -> None:
    client.outcome = operation("restart", "running", nodes=["r1", "r2"])
    assert wireloom("restart", "demo", "r1", "r2").stdout == "restart demo r1, r2: done\n"
    assert wireloom("restart", "demo", "r1", "r2", "--no-wait").stderr == "restart demo r1, r2: taken as operation op\n"
    client.outcome = operation("restart", "running")
    assert wireloom("restart", "demo").stdout == "restart demo: done\n"


def test_failures_of_other_nodes_are_none_of_an_operation(client: FakeClient) -> None:
    broken = NODE.model_copy(update={"name": "r2", "state": "failed"})
    client.view = LAB.model_copy(update={"nodes": (NODE, broken)})
    client.outcome = operation("restart", "running", nodes=["r1"])
    assert wireloom("restart", "demo", "r1").exit_code == 0
    client.outcome = operation("restart", "running", nodes=["r2"])
    assert wireloom("restart", "demo", "r2").exit_code == 1


def test_wipe_needs_a_node(client: FakeClient) -> None:
    assert wireloom("wipe", "demo").exit_code == 2
    assert wireloom("wipe", "demo", "r1").exit_code == 0


def test_an_operation_can_be_left_alone(client: FakeClient) -> None:
    result = wireloom("destroy", "demo", "--no-wait", "--json")
    assert json.loads(result.stdout)["id"] == "op"
    assert client.asked == [("destroy", "demo")]


def test_link_add_takes_ends_and_mtu(client: FakeClient) -> None:
    assert wireloom("link", "add", "demo", "r1:eth1", "r2:eth1", "--mtu", "9000").exit_code == 0
    assert client.asked[0] == ("add", "demo", "r1:eth1", "r2:eth1", {"mtu": 9000})


def test_exec_passes_output_and_exit_code_through(client: FakeClient) -> None:
    client.exec_view = client.exec_view.model_copy(update={"exit_code": 7})
    result = wireloom("exec", "demo", "r1", "--", "vtysh", "-c", "show ip ospf")
    assert (result.exit_code, result.stdout, result.stderr) == (7, "out\n", "err\n")
    assert client.asked == [("exec", "demo", "r1", ("vtysh", "-c", "show ip ospf"), 60)]


def test_exec_says_which_channel_answered_when_it_was_not_the_first(client: FakeClient) -> None:
    tried = {"tried": {"ssh": "connection refused"}, "skipped": {"exec": "none here"}, "channel": "serial"}
    client.exec_view = client.exec_view.model_copy(update=tried)
    result = wireloom("exec", "demo", "r1", "--", "show", "version")
    assert result.stderr == "answered over serial (ssh: connection refused)\nerr\n"
    verbose = wireloom("exec", "-v", "demo", "r1", "--", "show", "version")
    assert "answered over serial (exec: none here; ssh: connection refused)" in verbose.stderr
    document = json.loads(wireloom("exec", "--json", "demo", "r1", "--", "show", "version").stdout)
    assert (document["tried"], document["skipped"]) == (tried["tried"], tried["skipped"])


def test_inspect_of_a_node_shows_what_it_waits_for_and_what_its_post_boot_commands_did(client: FakeClient) -> None:
    waits = client.view.nodes[0].model_copy(update={"ready": Readiness.NO, "message": "waits for 'login:' in its log"})
    client.view = client.view.model_copy(update={"nodes": (waits, *client.view.nodes[1:])})
    failed = {"code": "guest-failed", "message": "it failed", "hint": ""}
    run = CommandRecord(
        command="ip a", channel="ssh", exit_code=2, output="no such thing\n", started_at=1, error=failed
    )
    client.boot_records = [BootRecord(boot=1, runtime_id="x", commands=(run,))]
    shown = wireloom("inspect", "demo", waits.name).stdout
    for text in ("waits for 'login:' in its log", "not finished", "ip a", "failed: it failed", "no such thing"):
        assert text in shown
    document = json.loads(wireloom("inspect", "demo", waits.name, "--json").stdout)
    assert document["post_boot"][0]["commands"][0]["exit_code"] == 2
    assert document["status"]["message"] == "waits for 'login:' in its log"


def test_inspect_of_a_node_names_what_it_has_not_taken_over_from_its_device_yet(client: FakeClient) -> None:
    client.pending = ("memory: 256 → 512",)
    assert "`wireloom deploy` changes it: memory: 256 → 512" in wireloom("inspect", "demo", "r1").stderr


def test_exec_exits_with_1_when_the_node_cannot_be_reached(client: FakeClient) -> None:
    client.error = Unavailable("no channel", hint="is it running?")
    assert wireloom("exec", "demo", "r1", "--", "true").exit_code == 1


def test_logs_are_copied_byte_for_byte(client: FakeClient) -> None:
    assert wireloom("logs", "demo", "r1").stdout_bytes == b"boot \xff\n"


@pytest.mark.parametrize(
    ("options", "boot"), [((), 0), (("--previous",), 1), (("-b", "-1"), 1), (("--boot=-3",), 3), (("--boot", "0"), 0)]
)
def test_logs_of_earlier_boots_are_asked_for(client: FakeClient, options: tuple[str, ...], boot: int) -> None:
    assert wireloom("logs", "demo", "r1", *options).exit_code == 0
    assert client.asked == [("log", "demo", "r1", False, boot)]


def test_logs_count_boots_as_the_option_takes_them(client: FakeClient) -> None:
    lines = wireloom("logs", "demo", "r1", "--list").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["0", "-1"]
    assert [line.split()[-1] for line in lines[1:]] == ["1m30s", "2h00m"]
    assert [boot["number"] for boot in json.loads(wireloom("logs", "demo", "r1", "--json").stdout)] == [0, -1]


def test_events_show_history(client: FakeClient) -> None:
    assert "demo/r1" in wireloom("events", "demo").stdout
    assert json.loads(wireloom("events", "--json").stdout)[0]["kind"] == "node.ready"


def test_following_events_tells_each_once_and_one_a_line(client: FakeClient) -> None:
    lines = wireloom("events", "--follow", "--json").stdout.splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["node.ready", "node.exited"]


def test_hosts_show_providers_stale_loops_and_problems(client: FakeClient) -> None:
    result = wireloom("hosts")
    assert "docker, libvirt (tcg), other (away)" in result.stdout
    assert "resync stale" in result.stderr
    assert "reconcile begins" in result.stderr  # no age of what has not succeeded yet
    assert "h1: other: no answer" in result.stderr


@pytest.fixture
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("DATA", "RUN", "LOG"):
        monkeypatch.setenv(f"WIRELOOM_{name}_DIR", str(tmp_path))
    return tmp_path


def test_status_tells_processes_hosts_and_labs(client: FakeClient, own_folders: Path) -> None:
    own = ProcessId.of(os.getpid())
    assert own is not None
    child = {**own.model_dump(), "started_at": 1.0, "restarts": 2}
    record = {**own.model_dump(), "started_at": 1.0, "children": {"agent": child}}
    write_record(own_folders / "up.json", record)
    result = wireloom("status")
    assert f"agent: pid {own.pid}" in result.stdout
    assert "restarted 2 times" in result.stdout
    assert "installation abc, fabric connected" in result.stdout
    document = json.loads(wireloom("status", "--json").stdout)
    assert (document["processes"]["children"]["agent"]["restarts"], document["lab_list"][0]["lab"]) == (2, "demo")


def test_status_tells_processes_even_when_the_controller_is_silent(client: FakeClient, own_folders: Path) -> None:
    client.error = Unavailable("no answer")
    result = wireloom("status")
    assert result.exit_code == 1
    assert "does not run on this machine" in result.stderr


@pytest.mark.parametrize("command", [("devices",), ("devices", "list"), ("devices", "list", "--family", "Routers")])
def test_devices_are_listed(client: FakeClient, command: tuple[str, ...]) -> None:
    assert "frr     Router" in wireloom(*command).stdout


@pytest.mark.parametrize(
    ("option", "word", "advice"), [("--provider", "dokcer", "did you mean 'docker'?"), ("--family", "x", "known are: ")]
)
def test_what_no_device_has_is_refused_rather_than_an_empty_list(
    client: FakeClient, option: str, word: str, advice: str
) -> None:
    result = wireloom("devices", option, word)
    assert (result.exit_code, advice in result.stderr) == (1, True)


@pytest.mark.parametrize(("level", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_doctor_fails_only_for_failed_checks(monkeypatch: pytest.MonkeyPatch, level: str, code: int) -> None:
    found = Finding(name="disk", level=Level(level), finding="1 GiB", meaning="disks grow", advice="make room")
    monkeypatch.setattr("wireloom.doctor.examine", lambda _settings: [found])
    result = wireloom("doctor")
    assert result.exit_code == code
    assert ("make room" in result.stdout) == (level != "ok")
    assert json.loads(wireloom("doctor", "--json").stdout)[0]["level"] == level


def test_down_without_anything_running_is_fine(own_folders: Path) -> None:
    assert wireloom("down").exit_code == 0


def test_names_are_completed_and_an_absent_controller_is_silence(client: FakeClient) -> None:
    runner = CliRunner()
    words = {"_WIRELOOM_COMPLETE": "complete_bash", "COMP_WORDS": "wireloom exec demo ", "COMP_CWORD": "3"}
    assert runner.invoke(app, [], env=words, prog_name="wireloom").stdout.split() == ["r1"]
    client.error = Unavailable("no controller")
    assert runner.invoke(app, [], env=words, prog_name="wireloom").stdout.split() == []


def test_a_command_starts_without_what_it_does_not_need() -> None:
    """Each of these takes as long to load as all the rest."""
    heavy = {"pydantic", "ruamel", "httpx", "rich.table", "websockets"}
    probe = f"import sys, wireloom.cli.main; print(sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
