"""Commands on the database: what they do, print and refuse, on a database of SQLite."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from wireloom.cli.main import app
from wireloom.controller.store import Store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATA_DIR", "RUN_DIR", "LOG_DIR"):
        monkeypatch.setenv(f"WIRELOOM_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("WIRELOOM_CONFIG", "")
    return tmp_path


def wireloom(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def fill(url: str) -> str:
    async def work() -> str:
        store = await Store.open(url)
        installation = await store.installation()
        await store.close()
        return installation

    return asyncio.run(work())


def sqlite(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"


def test_a_backup_goes_out_and_comes_back_with_its_keys(folder: Path) -> None:
    installation = fill(sqlite(folder / "data_dir" / "wireloom.sqlite"))
    keys = folder / "data_dir" / "fabric" / "keys.json"
    keys.parent.mkdir()
    keys.write_text("secret")
    done = wireloom("db", "backup", "--with-keys", str(folder / "all.zip"), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["files"] == ["fabric/keys.json"]
    assert stat.S_IMODE((folder / "all.zip").stat().st_mode) == 0o600

    keys.unlink()
    other = sqlite(folder / "other.sqlite")
    done = wireloom("db", "restore", "--with-keys", "--database", other, str(folder / "all.zip"))
    assert done.exit_code == 0, done.output
    assert keys.read_text() == "secret"
    assert fill(other) == installation


def test_what_is_not_in_a_backup_is_said(folder: Path) -> None:
    fill(sqlite(folder / "data_dir" / "wireloom.sqlite"))
    said = wireloom("db", "backup", str(folder / "all.zip")).output
    for word in ("keys.json", "fabric/tls", "images"):
        assert word in said


def test_a_filled_database_is_filled_again_only_by_force(folder: Path) -> None:
    fill(sqlite(folder / "data_dir" / "wireloom.sqlite"))
    fill(sqlite(folder / "other.sqlite"))
    words = ("db", "copy", "--to", sqlite(folder / "other.sqlite"))
    refused = wireloom(*words)
    assert (refused.exit_code, "not empty" in refused.output) == (1, True)
    assert wireloom(*words, "--force", "--yes").exit_code == 0


def test_an_upgrade_says_from_where_to_where(folder: Path) -> None:
    assert "none -> " in wireloom("db", "upgrade").output
    assert "up to date" in wireloom("db", "upgrade").output


def test_a_url_of_nothing_is_refused_with_an_example(folder: Path) -> None:
    refused = wireloom("db", "copy", "--to", "campus", "--running")
    assert refused.exit_code == 1
    assert "postgresql+asyncpg://" in refused.output
