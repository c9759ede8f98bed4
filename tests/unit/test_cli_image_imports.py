"""``wireloom images import``: files, folders and addresses; uploads that are cut off and go on."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from pathlib import Path

import pytest
from cli_rig import wireloom
from images_rig import FakeImages, ImagesClient, job
from test_cli_images import CHOICES

from wireloom.cli.failures import INTERRUPTED
from wireloom.cli.state import CliState
from wireloom.cli.uploads import UploadRecords
from wireloom.errors import CapacityExceeded, Unavailable
from wireloom.model.images import ImportRequest, JobState, JobView

REFUSED = {"code": "image-refused", "message": "it has a backing file", "hint": "flatten it", "details": {}}
KEPT = "what has arrived is kept; the same command goes on from there\n"


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeImages:
    fake = ImagesClient()
    monkeypatch.setattr(CliState, "client", lambda _self, **_: fake)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return fake.images


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "vios.zip").write_bytes(bytes(1000))
    return str(tmp_path / "vios.zip")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "many" / "below").mkdir(parents=True)
    for name in ("a.qcow2", "bad.qcow2", "c.tar"):
        (tmp_path / "many" / name).write_bytes(name.encode())
    return tmp_path / "many"


def imports(images: FakeImages) -> list[ImportRequest]:
    return [rest[0] for name, *rest in images.asked if name == "import"]


def refuse_bad(images: FakeImages) -> None:
    """The second of the folder's files has something wrong with it."""

    def look(_request: ImportRequest) -> JobView | None:
        return job(JobState.FAILED, error=REFUSED) if images.sent[-1][1] == "bad.qcow2" else None

    images.refuse = look


# ---------------------------------------------------------------- one file


def test_a_file_is_uploaded_and_imported(images: FakeImages, file: str) -> None:
    result = wireloom("images", "import", file)
    assert (result.exit_code, result.stdout) == (0, "image vios-159.qcow2\n")
    assert "  upload 100 % of 1000 B" in result.stderr
    assert images.sent == [("1", "vios.zip", 0)]
    digest = f"sha256:{hashlib.sha256(bytes(1000)).hexdigest()}"
    assert imports(images) == [ImportRequest(upload=f"{1:032x}", sha256=digest)]  # what arrives is what was read
    assert json.loads(wireloom("images", "import", file, "--json").stdout)["images"] == ["i1"]


def test_what_is_known_of_it_goes_along(images: FakeImages, file: str) -> None:
    words = ["-n", "y.qcow2", "-d", "iosv", "--version", "15.9", "--default", "--sha256", "ab" * 32, "--no-auto-build"]
    assert wireloom("images", "import", file, *words).exit_code == 0
    assert ("begin", "vios.zip", "ab" * 32) in images.asked
    [request] = imports(images)
    assert request == ImportRequest(
        upload=f"{1:032x}",
        name="y.qcow2",
        device="iosv",
        version="15.9",
        default=True,
        sha256="ab" * 32,
        auto_build=False,
    )


def test_an_address_is_for_the_controller_to_fetch(images: FakeImages) -> None:
    assert wireloom("images", "import", "https://example.net/vios.zip", "-d", "iosv").exit_code == 0
    assert imports(images) == [ImportRequest(url="https://example.net/vios.zip", device="iosv")]
    assert images.sent == []


def test_a_medium_ends_in_a_choice(images: FakeImages, file: str) -> None:
    images.job_ = job(JobState.CHOICE, choices=CHOICES)
    result = wireloom("images", "import", file)
    assert result.exit_code == 0
    assert "n/iosv" in result.stdout
    assert "wireloom images choose j1 KEY…" in result.stderr
    assert json.loads(wireloom("images", "import", file, "--json").stdout)["state"] == "choice"


def test_a_file_that_is_refused_fails_the_command(images: FakeImages, file: str) -> None:
    images.job_ = job(JobState.FAILED, error=REFUSED)
    result = wireloom("images", "import", file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: it has a backing file\nhint: flatten it\n" in result.stderr
    assert json.loads(wireloom("images", "import", file, "--json").stdout)["error"]["code"] == "image-refused"


@pytest.mark.parametrize("what", ["absent", "pipe", "empty"])
def test_what_is_no_file_is_refused_before_anything_is_sent(images: FakeImages, tmp_path: Path, what: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    result = wireloom("images", "import", str(tmp_path / what))
    assert (result.exit_code, images.asked) == (1, [])
    told = {"absent": "there is no file", "pipe": "is not a regular file", "empty": "there are no files in"}
    assert told[what] in result.stderr


# ---------------------------------------------------------------- cut off


def test_an_upload_that_is_cut_off_goes_on_with_the_same_command(images: FakeImages, file: str) -> None:
    images.fail = [Unavailable("the controller does not answer", hint="start it")]
    result = wireloom("images", "import", file)
    assert result.exit_code == 1
    assert KEPT in result.stderr
    assert imports(images) == []
    assert wireloom("images", "import", file).exit_code == 0
    assert images.sent == [("1", "vios.zip", 0), ("1", "vios.zip", 500)]
    assert wireloom("images", "import", file).exit_code == 0
    assert images.sent[2:] == [("1", "vios.zip", 0)]  # begun anew: the first one has become an image


def test_an_upload_that_goes_on_by_itself_says_so_once(images: FakeImages, file: str) -> None:
    images.cuts = [Unavailable("the controller does not answer")] * 3
    result = wireloom("images", "import", file, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["id"] == "j1"
    told = "the upload is cut off (the controller does not answer), and goes on as soon as it can"
    assert result.stderr.count(told) == 1


def test_ctrl_c_in_the_midst_keeps_what_has_arrived(
    images: FakeImages, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(upload: str, *_: object, **__: object) -> None:
        images.arrived[upload] = 600
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    with monkeypatch.context() as patch:
        patch.setattr(images, "send", interrupted)
        result = wireloom("images", "import", file)
    assert result.exit_code == INTERRUPTED
    assert KEPT in result.stderr
    assert wireloom("images", "import", file).exit_code == 0
    assert images.sent == [("1", "vios.zip", 600)]


def test_a_full_disk_is_said_and_the_rest_can_come_later(images: FakeImages, file: str) -> None:
    images.fail = [CapacityExceeded("the disk is full", hint="make room")]
    result = wireloom("images", "import", file)
    assert "error: the disk is full\nhint: make room" in result.stderr
    assert wireloom("images", "import", file).exit_code == 0
    assert [begun for _, _, begun in images.sent] == [0, 500]


def test_an_upload_that_was_forgotten_begins_anew(images: FakeImages, file: str) -> None:
    images.fail = [Unavailable("away")]
    wireloom("images", "import", file)
    images.arrived.clear()
    images.arrived["another"] = 7
    assert wireloom("images", "import", file).exit_code == 0
    assert images.sent == [("1", "vios.zip", 0), ("2", "vios.zip", 0)]


def test_an_import_that_was_not_taken_needs_no_second_upload(
    images: FakeImages, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_request: ImportRequest) -> JobView:
        raise Unavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(images, "import_file", away)
        assert wireloom("images", "import", file).exit_code == 1
    assert wireloom("images", "import", file).exit_code == 0
    assert images.sent == [("1", "vios.zip", 0), ("1", "vios.zip", 1000)]


def test_a_file_that_has_changed_or_is_expected_to_be_another_begins_anew(images: FakeImages, file: str) -> None:
    images.fail = [Unavailable("away")] * 3
    for words in ([], ["--sha256", "ab" * 32]):
        wireloom("images", "import", file, *words)
    Path(file).write_bytes(bytes(999))
    wireloom("images", "import", file)
    assert [upload for upload, _, _ in images.sent] == ["1", "2", "3"]


# ---------------------------------------------------------------- folders


def test_of_a_folder_every_file_comes_in_and_one_bad_one_does_not_hold_up_the_others(
    images: FakeImages, folder: Path
) -> None:
    refuse_bad(images)
    result = wireloom("images", "import", str(folder))
    assert result.exit_code == 1
    assert result.stdout == "image vios-159.qcow2\n" * 2
    assert [name for _, name, _ in images.sent] == ["a.qcow2", "bad.qcow2", "c.tar"]
    assert f"{folder}/bad.qcow2:\n" in result.stderr
    assert "error: it has a backing file" in result.stderr


def test_a_folder_is_one_list_of_data(images: FakeImages, folder: Path) -> None:
    refuse_bad(images)
    images.fail = [None, None, CapacityExceeded("the disk is full")]
    result = wireloom("images", "import", str(folder), "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert [Path(item["file"]).name for item in told] == ["a.qcow2", "bad.qcow2", "c.tar"]
    assert [item["job"]["state"] for item in told[:2]] == ["done", "failed"]
    assert told[2]["error"]["code"] == "capacity-exceeded"


def test_a_folder_that_comes_in_whole_is_a_success(images: FakeImages, folder: Path) -> None:
    assert wireloom("images", "import", str(folder), "--default").exit_code == 0
    assert [request.default for request in imports(images)] == [True] * 3


@pytest.mark.parametrize("words", [["-n", "x"], ["-d", "iosv"], ["--version", "1"], ["--sha256", "ab" * 32]])
def test_what_is_said_of_one_file_is_not_said_of_a_folder(images: FakeImages, folder: Path, words: list[str]) -> None:
    result = wireloom("images", "import", str(folder), *words)
    assert (result.exit_code, images.asked) == (1, [])
    assert "import one file" in result.stderr


# ---------------------------------------------------------------- what is remembered of uploads


def test_records_are_of_this_file_as_it_is_and_of_this_controller(tmp_path: Path) -> None:
    records = UploadRecords({"HOME": str(tmp_path)})
    (tmp_path / "a").write_bytes(b"one")
    records.remember("http://one", tmp_path / "a", "http://one/1")
    assert UploadRecords({"HOME": str(tmp_path)}).find("http://one", tmp_path / "a") == "http://one/1"
    assert records.find("http://two", tmp_path / "a") is None
    assert records.find("http://one", tmp_path / "a", "ab") is None
    kept = tmp_path / ".cache" / "wireloom" / "uploads.json"
    assert [path.name for path in kept.parent.iterdir()] == ["uploads.json"]
    records.forget("http://one", tmp_path / "a")
    assert json.loads(kept.read_text()) == {}


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"x": 1}', '{"x": {"at": 0}}'])
def test_records_that_cannot_be_read_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "wireloom").mkdir()
    (tmp_path / "wireloom" / "uploads.json").write_text(text)
    records = UploadRecords({"XDG_CACHE_HOME": str(tmp_path)})
    assert records.find("http://one", tmp_path / "a") is None
    records.remember("http://one", tmp_path / "a", "http://one/1")
    assert records.find("http://one", tmp_path / "a") == "http://one/1"


def test_a_place_that_cannot_be_written_costs_the_memory_alone(images: FakeImages, file: str, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert wireloom("images", "import", file).exit_code == 0
