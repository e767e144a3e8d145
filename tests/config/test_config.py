"""One TOML file, sensible defaults, every key by environment; a mistake names the file and the key."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from reconciler.config import Config, ConfigFailure, read

KEYS = [
    (section, key.name, kind)
    for section, cls in get_type_hints(Config).items()
    for key in fields(cls)
    for kind in [get_type_hints(cls)[key.name]]
]
VALUES = {str: "elsewhere", int: 7, float: 7.5}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "reconciler.toml"
    path.write_text(text)
    return path


def refused(path: Path | None, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigFailure) as caught:
        read(path, environment or {})
    return str(caught.value)


def test_nothing_said_is_all_defaults() -> None:
    config = read(None, {})
    assert config == Config()
    assert config.source.poll == 60
    assert config.web.listen == "[::1]:8470"
    assert not config.web.secret


@pytest.mark.parametrize(("section", "key", "kind"), KEYS)
def test_every_key_by_file_and_by_environment(section: str, key: str, kind: type, tmp_path: Path) -> None:
    value = VALUES[kind]
    path = written(tmp_path, f"[{section}]\n{key} = {value!r}\n")
    assert getattr(getattr(read(path, {}), section), key) == value
    other = "other" if kind is str else 8
    config = read(path, {f"RECONCILER_{section}_{key}".upper(): str(other)})
    assert getattr(getattr(config, section), key) == other
    assert type(getattr(getattr(config, section), key)) is kind


def test_the_environment_is_enough() -> None:
    config = read(
        None, {"RECONCILER_SOURCE_URL": "/srv/config.git", "RECONCILER_SOURCE_POLL": "5", "RECONCILER_X": "y"}
    )
    assert config.source.url == "/srv/config.git"
    assert config.source.poll == 5.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sauce]\nurl = 'x'\n", "reconciler.toml: there is no section [sauce]"),
        ("[source]\nulr = 'x'\n", "reconciler.toml: there is no key source.ulr; there is url, branch, poll, key"),
        ("[source]\npoll = 'often'\n", "reconciler.toml: source.poll is 'often', not a positive number"),
        ("[source]\npoll = 0\n", "source.poll is 0, not a positive number"),
        ("[source]\npoll = -1\n", "source.poll is -1, not a positive number"),
        ("[source]\npoll = nan\n", "source.poll is nan, not a positive number"),
        ("[source]\npoll = inf\n", "source.poll is inf, not a positive number"),
        ("[source]\npoll = true\n", "source.poll is True, not a positive number"),
        ("[source]\npoll = []\n", "source.poll is [], not a positive number"),
        ("[daemon]\nworkers = 1.5\n", "daemon.workers is 1.5, not a positive whole number"),
        ("[daemon]\nlease = -1\n", "daemon.lease is -1, not a positive number, or 0 for off"),
        ("[source]\nurl = 5\n", "source.url is 5, not text"),
        ("source = 5\n", "reconciler.toml: [source] is a section"),
        ("[source\n", "reconciler.toml: "),
        ("[source]\nbranch = 'status/main'\n", "source.branch is status/main, where the status is written"),
    ],
)
def test_mistakes_name_file_and_key(text: str, words: str, tmp_path: Path) -> None:
    assert words in refused(written(tmp_path, text))


def test_a_lease_of_0_seconds_is_none(tmp_path: Path) -> None:
    assert read(written(tmp_path, "[daemon]\nlease = 0\n"), {}).daemon.lease == 0
    assert read(None, {"RECONCILER_DAEMON_LEASE": "0"}).daemon.lease == 0


def test_mistakes_in_the_environment_name_the_variable() -> None:
    assert refused(None, {"RECONCILER_DAEMON_WORKERS": "1.5"}) == (
        "RECONCILER_DAEMON_WORKERS is '1.5', not a positive whole number"
    )
    misspelt = refused(None, {"RECONCILER_SOURCE_ULR": "/srv/config.git"})
    assert "RECONCILER_SOURCE_ULR in the environment is no key; there is RECONCILER_SOURCE_URL" in misspelt
    same = {"RECONCILER_SOURCE_BRANCH": "status/b", "RECONCILER_STATUS_INSTANCE": "b"}
    assert "watch another one" in refused(None, same)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refused(tmp_path / "none.toml")
    assert "cannot be read: Is a directory" in refused(tmp_path)
    path = tmp_path / "reconciler.toml"
    path.write_bytes(b"\xff\xfe")
    assert "reconciler.toml: " in refused(path)
