"""Settings: sources in order, every mistake at once, and children that see the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from wireloom.errors import InvalidInput
from wireloom.paths import Paths
from wireloom.settings import Settings, load_settings


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "wireloom.toml"
    file.write_text('data_dir = "/srv/a"\nlisten_port = 1000\nhost = "file"\n')
    return file


def test_later_sources_win(config: Path) -> None:
    environment = {"WIRELOOM_LISTEN_PORT": "2000", "WIRELOOM_HOST": "env"}
    settings = load_settings(config=config, environment=environment, overrides={"host": "flag", "listen_port": None})
    assert (str(settings.data_dir), settings.listen_port, settings.host) == ("/srv/a", 2000, "flag")


def test_the_environment_can_name_the_file(config: Path) -> None:
    assert load_settings(environment={"WIRELOOM_CONFIG": str(config)}).host == "file"


def test_every_mistake_is_reported_at_once_with_its_source(tmp_path: Path) -> None:
    file = tmp_path / "wireloom.toml"
    file.write_text('hots = "x"\nmanagement_subnet = "10.0.0.0/31"\n')
    with pytest.raises(InvalidInput) as caught:
        load_settings(config=file, environment={"WIRELOOM_LISTEN_PORT": "many"})
    problems = caught.value.details["problems"]
    assert len(problems) == 3
    assert any("hots" in text and "did you mean host?" in text and str(file) in text for text in problems)
    assert any("listen_port (from the environment)" in text for text in problems)


@pytest.mark.parametrize("content", ["= broken", "\xff"])
def test_an_unreadable_file_is_an_error_with_its_name(tmp_path: Path, content: str) -> None:
    file = tmp_path / "wireloom.toml"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidInput, match=r"wireloom\.toml"):
        load_settings(config=file, environment={})


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no settings file"):
        load_settings(config=tmp_path / "absent.toml", environment={})


def test_a_child_sees_the_same_settings(config: Path) -> None:
    settings = load_settings(
        config=config, environment={}, overrides={"fabric_password": "s3cret", "allow_privileged": True}
    )
    environment = settings.to_environment()
    again = load_settings(environment=environment)
    assert again == settings
    assert again.fabric_password.get_secret_value() == "s3cret"


def test_secrets_do_not_show_in_text() -> None:
    assert "s3cret" not in repr(load_settings(environment={"WIRELOOM_FABRIC_PASSWORD": "s3cret"}))


@pytest.mark.parametrize("name", ["Upper", "two words", "a.b", "-a", "a" * 64])
def test_a_host_name_must_fit_the_fabric(name: str) -> None:
    with pytest.raises(InvalidInput):
        load_settings(environment={"WIRELOOM_HOST": name})


def test_the_gateway_is_the_first_address_of_the_subnet() -> None:
    assert Settings(management_subnet="10.9.0.0/24").management_gateway == "10.9.0.1"


def test_paths_follow_the_settings_file_and_the_environment(config: Path) -> None:
    paths = Paths.from_environment({"WIRELOOM_CONFIG": str(config), "WIRELOOM_RUN_DIR": "/tmp/run"})  # noqa: S108
    assert paths == Paths(data_dir=Path("/srv/a"), run_dir=Path("/tmp/run"))  # noqa: S108
    assert paths.token_file == Path("/srv/a/token")
