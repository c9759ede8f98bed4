"""``wireloom images`` over a client that answers from memory: what is asked, printed, and how commands exit."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from cli_rig import wireloom
from images_rig import DIGEST, KNOWN, FakeImages, ImagesClient, job
from typer.testing import CliRunner

from wireloom.cli.commands import image_progress
from wireloom.cli.main import app
from wireloom.cli.state import CliState
from wireloom.errors import Conflict, Unavailable
from wireloom.model.images import (
    AdoptRequest,
    Choice,
    EngineImageView,
    ImageState,
    ImageUpdate,
    JobChoices,
    JobStage,
    JobState,
    Offer,
    PullRequest,
    SaveRequest,
    ServedDevice,
    UploadView,
)

CHOICES = JobChoices(
    title="a medium",
    offers=(
        Offer(key="n/iosv", kind="device", title="IOSv", device="iosv"),
        Offer(key="n/box", kind="device", title="Box"),
        Offer(key="i/iosv", kind="image", title="IOSv 15.9", device="iosv", size=3 << 20, exists="i1"),
        Offer(key="i/bad", kind="image", title="Bad", problem="its file is missing"),
    ),
    warnings=("one definition was not understood",),
)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ImagesClient:
    fake = ImagesClient()
    monkeypatch.setattr(CliState, "client", lambda _self, **_: fake)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("wireloom.cli.commands.image_progress._PAUSE_S", 0)
    return fake


@pytest.fixture
def images(client: ImagesClient) -> FakeImages:
    return client.images


def asked(images: FakeImages, verb: str) -> tuple[Any, ...]:
    """What ``verb`` was asked for, the one time that it was."""
    [found] = [rest for name, *rest in images.asked if name == verb]
    return tuple(found)


# ---------------------------------------------------------------- what there is


def test_images_are_a_table_and_data(images: FakeImages) -> None:
    head, known, guessed = wireloom("images", "ls").stdout.splitlines()
    assert head.split()[:5] == ["IMAGE", "PROVIDER", "DEVICE", "VERSION", "SIZE"]
    assert "iosv (default), iosvl2" in known
    assert "3.0 MiB" in known
    assert "h1, h2 (fetching 25 %)" in known
    assert "frr? (60%)" in guessed
    assert [item["id"] for item in json.loads(wireloom("images", "ls", "--json").stdout)] == ["i1", "i2"]
    images.known = []
    empty = wireloom("images", "ls")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert "wireloom images import FILE" in empty.stderr
    assert wireloom("images", "ls", "--json").stdout == "[]\n"


def test_an_image_is_shown_by_name_or_id(images: FakeImages) -> None:
    shown = wireloom("images", "show", "vios-159.qcow2").stdout
    for words in ("2.0 GiB for the guest", DIGEST, "unpacked from zip; converted", "node demo/r1, device iosv"):
        assert words in shown
    assert wireloom("images", "show", "i1").stdout == shown
    assert json.loads(wireloom("images", "show", "i1", "--json").stdout) == KNOWN.model_dump(mode="json")


def test_what_an_image_may_be_is_told_with_reasons_and_how_to_confirm_it(images: FakeImages) -> None:
    result = wireloom("images", "show", "vendor/box:1")
    assert "its labels say so" in result.stdout
    assert "wireloom images set vendor/box:1 --device frr" in result.stderr
    assert "needs" in result.stdout


def test_a_damaged_image_says_what_is_wrong(images: FakeImages) -> None:
    problem = Unavailable("a bit is wrong").to_wire()
    images.known = [KNOWN.model_copy(update={"state": ImageState.DAMAGED, "problem": problem})]
    result = wireloom("images", "show", "i1")
    assert "damaged" in result.stdout
    assert "a bit is wrong" in result.stderr


@pytest.mark.parametrize(
    ("word", "hint"), [("vios-15.qcow2", "did you mean vios-159.qcow2"), ("zzz", "wireloom images ls")]
)
@pytest.mark.parametrize("verb", ["show", "set", "rm", "push", "unpush", "verify", "extract"])
def test_an_image_that_is_not_there_comes_with_names_that_look_alike(
    images: FakeImages, verb: str, word: str, hint: str
) -> None:
    more = ["--version", "1"] if verb == "set" else []
    result = wireloom("images", verb, word, *more)
    assert (result.exit_code, result.stdout) == (1, "")
    assert hint in result.stderr
    assert json.loads(wireloom("images", verb, word, *more, "--json").stdout)["error"]["code"] == "not-found"


def test_what_hosts_have_is_listed(images: FakeImages) -> None:
    images.engine_images = [
        EngineImageView(host="h1", provider="docker", name="alpine:3", content=DIGEST, size=5 << 20),
        EngineImageView(host="h1", provider="libvirt", name="x.qcow2", content=DIGEST, size=1, library="i1"),
    ]
    rows = [line.split() for line in wireloom("images", "host", "h1").stdout.splitlines()[1:]]
    assert rows == [
        ["h1", "docker", "alpine:3", "abababababab", "5.0", "MiB", "no"],
        ["h1", "libvirt", "x.qcow2", "abababababab", "1", "B", "yes"],
    ]
    assert asked(images, "engine") == ("h1",)
    assert json.loads(wireloom("images", "host", "--json").stdout)[1]["library"] == "i1"


# ---------------------------------------------------------------- verbs on images


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (["--version", "2"], ImageUpdate(version="2")),
        (["--device", "frr"], ImageUpdate(devices=(ServedDevice(device="frr"),))),
        (
            ["--device", "iosv", "-d", "frr"],
            ImageUpdate(devices=(ServedDevice(device="iosv", default=True), ServedDevice(device="frr"))),
        ),
        (
            ["--no-default"],
            ImageUpdate(devices=(ServedDevice(device="iosv"), ServedDevice(device="iosvl2"))),
        ),
        (["-d", "frr", "--default"], ImageUpdate(devices=(ServedDevice(device="frr", default=True),))),
    ],
)
def test_what_an_image_is_for_is_said(images: FakeImages, words: list[str], change: ImageUpdate) -> None:
    assert wireloom("images", "set", "vios-159.qcow2", *words).exit_code == 0
    assert asked(images, "update") == ("i1", change)


def test_setting_nothing_or_the_default_of_no_device_is_refused(images: FakeImages) -> None:
    for words in (["i1"], ["i2", "--default"]):
        result = wireloom("images", "set", *words)
        assert result.exit_code == 1
        assert "--device" in result.stderr
    assert "update" not in [name for name, *_ in images.asked]


def test_an_image_is_taken_away_and_who_still_has_it_is_told(images: FakeImages) -> None:
    result = wireloom("images", "rm", "vios-159.qcow2")
    assert (result.exit_code, result.stdout) == (0, "vios-159.qcow2 goes as soon as it is off h1, h2\n")
    assert asked(images, "delete") == ("i1",)
    assert json.loads(wireloom("images", "rm", "i1", "--json").stdout)["id"] == "i1"


def test_an_image_that_is_used_is_not_taken_away(client: ImagesClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_image_id: str) -> None:
        raise Conflict("image vios-159.qcow2 is used by node r1 of lab demo", hint="destroy it first")

    monkeypatch.setattr(client.images, "delete", refuse)
    result = wireloom("images", "rm", "vios-159.qcow2", "--yes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "used by node r1 of lab demo\nhint: destroy it first" in result.stderr


def test_hosts_are_told_to_fetch(images: FakeImages) -> None:
    assert wireloom("images", "push", "i1", "h1", "h2").stdout == "vios-159.qcow2: h1, h2 (fetching 25 %)\n"
    assert asked(images, "push") == ("i1", ("h1", "h2"))
    assert json.loads(wireloom("images", "push", "i1", "--json").stdout)["name"] == "vios-159.qcow2"


def test_files_that_are_no_images_yet_are_listed_and_removed(
    images: FakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = wireloom("images", "uploads")
    assert (empty.exit_code, empty.stdout) == (0, "")
    until = time.time() + 3 * 86_400 + 60
    images.uploads_ = [
        UploadView(id="u1", file="vios.qcow2", size=2048, offset=2048, created_at=1, expires_at=until),
        UploadView(id="u2", file="big.iso", size=2048, offset=512, created_at=1, expires_at=until),
        UploadView(id="u3", file="pulled.tar", size=None, offset=512, job="j1", created_at=1, expires_at=until),
    ]
    rows = wireloom("images", "uploads").stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["u1", "u2", "u3"]
    assert "whole, not imported; goes in 3 days" in rows[0]
    assert "25 %" in rows[1]
    assert "job j1" in rows[2]
    assert [item["offset"] for item in json.loads(wireloom("images", "uploads", "--json").stdout)] == [2048, 512, 512]
    dropped: list[str] = []

    async def discard(upload: str) -> None:
        dropped.append(upload)

    monkeypatch.setattr(images, "discard_upload", discard, raising=False)
    assert wireloom("images", "discard", "u1").stdout == "vios.qcow2 is removed\n"
    assert dropped == ["u1"]
    missing = wireloom("images", "discard", "u9")
    assert missing.exit_code == 1
    assert "wireloom images uploads" in missing.stderr


def test_a_push_is_taken_back(images: FakeImages) -> None:
    assert wireloom("images", "unpush", "i1", "h2").stdout == "vios-159.qcow2: pushed to h2 no more\n"
    assert asked(images, "unpush") == ("i1", ("h2",))
    assert wireloom("images", "unpush", "i1").stdout == "vios-159.qcow2: pushed to no host any more\n"


def test_files_that_nothing_needs_go_or_are_only_named(images: FakeImages) -> None:
    result = wireloom("images", "collect", "--dry-run")
    assert (result.stdout, result.stderr) == (f"{DIGEST}\n", "1 file, 2.0 KiB, not removed\n")
    assert wireloom("images", "collect").stderr == "1 file, 2.0 KiB\n"
    assert json.loads(wireloom("images", "collect", "--json").stdout) == {"removed": [DIGEST], "size": 2048}
    assert [rest for name, *rest in images.asked if name == "collect"] == [[True], [False], [False]]


# ---------------------------------------------------------------- bringing in from hosts


def test_a_reference_is_pulled_and_the_password_comes_by_standard_input(images: FakeImages) -> None:
    words = ["images", "pull", "vendor/x:1", "--host", "h1", "-u", "me", "--password-stdin", "-d", "frr", "--default"]
    result = CliRunner().invoke(app, words, input="hunter2\n")
    assert (result.exit_code, result.stdout) == (0, "image vios-159.qcow2\n")
    request = PullRequest(
        reference="vendor/x:1",
        host="h1",
        username="me",
        password="hunter2",  # noqa: S106
        device="frr",
        default=True,
    )
    assert asked(images, "pull") == (request,)


def test_a_password_is_asked_for_on_the_other_stream(images: FakeImages) -> None:
    result = CliRunner().invoke(app, ["images", "pull", "vendor/x:1", "-u", "me", "--json"], input="hunter2\n")
    assert json.loads(result.stdout)["id"] == "j1"
    assert asked(images, "pull")[0].password == "hunter2"  # noqa: S105
    assert "hunter2" not in result.output


def test_a_password_without_a_user_is_refused(images: FakeImages) -> None:
    assert "--username" in wireloom("images", "pull", "vendor/x:1", "--password-stdin").stderr
    assert images.asked == []


@pytest.mark.parametrize(
    ("image", "more", "provider"),
    [("vendor/x:1", [], "docker"), ("x.qcow2", [], "libvirt"), ("x.qcow2", ["--provider", "docker"], "docker")],
)
def test_what_a_host_has_is_adopted(images: FakeImages, image: str, more: list[str], provider: str) -> None:
    assert wireloom("images", "adopt", "h1", image, "-n", "y", *more).exit_code == 0
    assert asked(images, "adopt") == (AdoptRequest(host="h1", provider=provider, image=image, name="y"),)


def test_a_node_is_saved_and_a_disk_is_taken_out(images: FakeImages) -> None:
    assert wireloom("images", "save", "demo", "r1", "golden", "--default").exit_code == 0
    assert asked(images, "save") == (SaveRequest(lab="demo", node="r1", name="golden", default=True),)
    assert wireloom("images", "extract", "vendor/box:1", "--name", "y.qcow2").exit_code == 0
    assert asked(images, "extract") == ("i2", "y.qcow2")
    assert wireloom("images", "verify", "i1").exit_code == 0
    assert asked(images, "verify") == ("i1",)


# ---------------------------------------------------------------- work


def test_work_is_listed_and_shown(images: FakeImages) -> None:
    images.job_ = job(JobState.RUNNING, stage=JobStage.CONVERT, done=1, total=4, report=("began", "converts"))
    [row] = wireloom("images", "jobs").stdout.splitlines()[1:]
    assert "import vios.zip" in row
    assert "convert 25 %" in row
    assert row.endswith("converts")
    shown = wireloom("images", "job", "j1").stdout
    assert "running" in shown
    assert "  began\n  converts\n" in shown
    assert json.loads(wireloom("images", "jobs", "--json").stdout)[0]["stage"] == "convert"
    assert json.loads(wireloom("images", "job", "j1", "--json").stdout)["done"] == 1


def test_what_there_is_to_choose_from_is_told_and_is_no_failure(images: FakeImages) -> None:
    images.job_ = job(JobState.CHOICE, choices=CHOICES)
    result = wireloom("images", "verify", "i1")
    rows = result.stdout.splitlines()
    assert (result.exit_code, len(rows)) == (0, 5)
    assert "a new one" in rows[2]
    assert "is here already" in rows[3]
    assert "its file is missing" in rows[4]
    assert "one definition was not understood" in result.stderr
    assert "wireloom images choose j1 KEY…" in result.stderr
    assert "wireloom images choose j1 …" in wireloom("images", "jobs").stdout
    assert "n/iosv" in wireloom("images", "job", "j1").stdout
    assert json.loads(wireloom("images", "verify", "i1", "--json").stdout)["choices"]["offers"][0]["key"] == "n/iosv"


def test_a_choice_is_made_by_keys_or_as_a_whole(images: FakeImages) -> None:
    images.job_ = job(images=("i1",), devices=("box",), report=("copied",))
    result = wireloom("images", "choose", "j1", "n/iosv", "i/iosv")
    assert (result.exit_code, result.stdout) == (0, "image vios-159.qcow2\ndevice box\n")
    assert "  copied\n" in result.stderr
    assert asked(images, "choose") == ("j1", Choice(keys=("n/iosv", "i/iosv")))
    images.asked.clear()
    assert wireloom("images", "choose", "j1", "--everything").exit_code == 0
    assert asked(images, "choose") == ("j1", Choice(everything=True))


@pytest.mark.parametrize("words", [[], ["n/iosv", "--everything"]])
def test_a_choice_of_nothing_or_of_both_is_refused(images: FakeImages, words: list[str]) -> None:
    result = wireloom("images", "choose", "j1", *words)
    assert result.exit_code == 1
    assert "--everything" in result.stderr
    assert images.asked == []


def test_work_is_followed_to_its_end(images: FakeImages) -> None:
    images.job_ = job(JobState.WAITING)
    images.ends = [
        job(JobState.RUNNING, stage=JobStage.DIGEST, done=1 << 20, total=2 << 20),
        job(images=("i1",), stage=JobStage.STORE),
    ]
    result = wireloom("images", "verify", "i1")
    assert (result.exit_code, result.stdout) == (0, "image vios-159.qcow2\n")
    assert "digest 50 % of 2.0 MiB" in result.stderr


def test_on_a_terminal_there_is_a_bar_for_each_thing_and_what_is_over_is_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with image_progress.shown() as tell:
        tell("upload", 0, 4 << 20)
        tell("upload", 1 << 20, 4 << 20)
        tell("store", 0, 0)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    upload, store = (shown.rpartition(what)[2] for what in ("upload", "store"))
    assert "4.0/4.0 MiB" in upload
    assert "0/? bytes" in store


def test_work_is_not_waited_for_when_that_is_said(images: FakeImages) -> None:
    images.job_ = job(JobState.WAITING)
    assert wireloom("images", "verify", "i1", "--no-wait").stdout == "job j1\n"
    assert json.loads(wireloom("images", "verify", "i1", "--no-wait", "--json").stdout)["state"] == "waiting"


def test_a_controller_that_restarts_is_outlasted(client: ImagesClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client.images.job_ = job(JobState.WAITING)
    away = [Unavailable("no controller")] * 3

    async def sometimes(_job_id: str) -> Any:
        if away:
            raise away.pop()
        return job(images=("i1",))

    monkeypatch.setattr(client.images, "job", sometimes)
    assert wireloom("images", "verify", "i1").exit_code == 0


def test_a_controller_that_stays_away_ends_the_waiting(client: ImagesClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client.images.job_ = job(JobState.WAITING)

    async def never(_job_id: str) -> Any:
        raise Unavailable("no controller")

    monkeypatch.setattr(client.images, "job", never)
    monkeypatch.setattr("wireloom.cli.commands.image_progress._AWAY_S", 0)
    result = wireloom("images", "verify", "i1")
    assert result.exit_code == 1
    assert "no controller" in result.stderr


@pytest.mark.parametrize(("code", "again"), [("image-refused", False), ("unavailable", True)])
def test_work_that_failed_says_why_and_what_to_do(images: FakeImages, code: str, again: bool) -> None:
    error = {"code": code, "message": "it has a backing file", "hint": "flatten it", "details": {"reason": "x"}}
    images.job_ = job(JobState.FAILED, error=error)
    result = wireloom("images", "retry", "j1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: it has a backing file\nhint: flatten it\n" in result.stderr
    assert "wireloom images log j1" in result.stderr
    assert ("wireloom images retry j1" in result.stderr) == again
    again_as_data = json.loads(wireloom("images", "retry", "j1", "--json").stdout)
    assert (again_as_data["error"]["code"], again_as_data["error"]["details"]) == (code, {"reason": "x"})


def test_work_that_was_cancelled_is_no_success(images: FakeImages) -> None:
    images.job_ = job(JobState.CANCELLED)
    result = wireloom("images", "retry", "j1")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "import vios.zip: cancelled\n")
    assert wireloom("images", "cancel", "j1").exit_code == 0
    assert json.loads(wireloom("images", "cancel", "j1", "--json").stdout)["state"] == "cancelled"


def test_a_log_is_printed_as_it_is(images: FakeImages) -> None:
    assert wireloom("images", "log", "j1", "-f").stdout == "12:00 it began\n"
    assert asked(images, "log") == ("j1", True)


# ---------------------------------------------------------------- secrets


def test_secrets_are_named_kept_and_forgotten(images: FakeImages, tmp_path: Path) -> None:
    (tmp_path / "iourc").write_bytes(b"\xfflicence")
    assert "no secret was given" in wireloom("images", "secret", "ls").stderr
    images.names = ["iol-licence"]
    assert wireloom("images", "secret", "ls").stdout == "SECRET\niol-licence\n"
    assert json.loads(wireloom("images", "secret", "ls", "--json").stdout) == ["iol-licence"]
    assert wireloom("images", "secret", "set", "iol-licence", str(tmp_path / "iourc")).exit_code == 0
    assert asked(images, "put_secret") == ("iol-licence", b"\xfflicence")
    images.asked.clear()
    assert CliRunner().invoke(app, ["images", "secret", "set", "x", "-"], input=b"typed").exit_code == 0
    assert asked(images, "put_secret") == ("x", b"typed")
    assert wireloom("images", "secret", "rm", "x", "--yes").exit_code == 0
    assert asked(images, "delete_secret") == ("x",)
    assert "cannot read" in wireloom("images", "secret", "set", "x", str(tmp_path / "absent")).stderr


# ---------------------------------------------------------------- names


def test_images_and_jobs_are_completed(images: FakeImages) -> None:
    def completed(words: str, position: int) -> list[str]:
        told = {"_WIRELOOM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
        return CliRunner().invoke(app, [], env=told, prog_name="wireloom").stdout.split()

    assert completed("wireloom images show vi", 3) == ["vios-159.qcow2"]
    assert completed("wireloom images job ", 3) == ["j1"]
