"""The reconciler's own configuration: one TOML file, every key also by environment.

In: `reconciler.toml` and variables like RECONCILER_SOURCE_URL. Out: a Config with sensible defaults, or a
ConfigFailure that names file and key. Nothing of the fleet stands here, and nothing here is a secret: only paths to
them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from reconciler.model import Trouble


class ConfigFailure(Trouble):
    """What is wrong with the configuration, and where."""


@dataclass(frozen=True, slots=True)
class SourceConfig:
    url: str = ""
    """The config repository: a path, https://, ssh:// or file://."""
    branch: str = "main"
    poll: float = 60.0
    """Seconds between looks; webhooks and the file watch are faster."""
    key: str = ""
    """Private SSH key for the repository; "" for git's own configuration."""


@dataclass(frozen=True, slots=True)
class StatusConfig:
    instance: str = "main"
    """Names this reconciler: it writes the branch status/<instance>."""


@dataclass(frozen=True, slots=True)
class SshConfig:
    key: str = "/etc/reconciler/ssh/id_ed25519"
    """Private key that the hosts let in."""


@dataclass(frozen=True, slots=True)
class SecretsConfig:
    keys: str = "/etc/reconciler/keys"
    """Directory with `<customer>.key`, the customers' age identities."""


@dataclass(frozen=True, slots=True)
class FetchConfig:
    files: str = ""
    """The directory below which file:// sources may lie; "" for nowhere."""


@dataclass(frozen=True, slots=True)
class WebConfig:
    listen: str = "[::1]:8470"
    """Address and port of webhooks, health and metrics; "" for none."""
    secret: str = ""
    """File with the webhooks' shared secret; "" refuses all webhooks."""


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    cache: str = "/var/cache/reconciler"
    """Everything below it may be deleted at any time."""
    workers: int = 32
    """Hosts that are worked on at once."""
    drift: float = 300.0
    """Seconds between looks at a host that nothing woke."""
    health: float = 60.0
    """Seconds between questions to jails that are well; where one is not, they are asked sooner."""
    lease: float = field(default=300.0, metadata={"off": True})
    """Seconds without a renewal after which another reconciler of this instance takes over; 0 for no lease."""


@dataclass(frozen=True, slots=True)
class Config:
    source: SourceConfig = field(default_factory=SourceConfig)
    status: StatusConfig = field(default_factory=StatusConfig)
    ssh: SshConfig = field(default_factory=SshConfig)
    secrets: SecretsConfig = field(default_factory=SecretsConfig)
    fetch: FetchConfig = field(default_factory=FetchConfig)
    web: WebConfig = field(default_factory=WebConfig)
    daemon: DaemonConfig = field(default_factory=DaemonConfig)


def read(path: Path | None, environment: Mapping[str, str]) -> Config:
    """Defaults, then the file, then the environment."""
    values = parsed(path) if path else {}
    unknown = set(values) - {f.name for f in fields(Config)}
    if unknown:
        raise ConfigFailure(f"{path}: there is no section [{sorted(unknown)[0]}]")
    sections = get_type_hints(Config)
    config = Config(
        **{name: section(name, kind, values.get(name, {}), path, environment) for name, kind in sections.items()}
    )
    if config.source.branch == f"status/{config.status.instance}":
        raise ConfigFailure(f"source.branch is {config.source.branch}, where the status is written: watch another one")
    return config


def parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigFailure(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigFailure(f"{path}: {error}") from None


def section(name: str, kind: Any, given: Any, path: Path | None, environment: Mapping[str, str]) -> Any:
    assert is_dataclass(kind)
    if not isinstance(given, dict):
        raise ConfigFailure(f"{path}: [{name}] is a section")
    hints = get_type_hints(kind)
    unknown = set(given) - set(hints)
    if unknown:
        raise ConfigFailure(f"{path}: there is no key {name}.{sorted(unknown)[0]}; there is {', '.join(hints)}")
    off = {key.name for key in fields(kind) if key.metadata.get("off")}
    values = {key: typed(f"{path}: {name}.{key}", value, hints[key], key in off) for key, value in given.items()}
    variables = {f"RECONCILER_{name}_{key}".upper(): key for key in hints}
    for variable in sorted(v for v in environment if v.startswith(f"RECONCILER_{name.upper()}_")):
        if variable not in variables:
            raise ConfigFailure(f"{variable} in the environment is no key; there is {', '.join(variables)}")
        key = variables[variable]
        values[key] = typed(variable, environment[variable], hints[key], key in off)
    return kind(**values)  # type: ignore[operator]


def typed(where: str, value: Any, kind: type, off: bool) -> Any:
    """The value as the type its key has; numbers may come as text from the environment. `off`: 0 switches it off."""
    try:
        if isinstance(value, bool) or (kind is str and not isinstance(value, str)):
            raise ValueError
        if kind is int and isinstance(value, float):
            raise ValueError
        number = kind(value)
        if kind is not str and not 0 < number < 10_000_000 and not (off and number == 0):
            raise ValueError
        return number
    except (ValueError, TypeError):
        wanted = f"{WANTED[kind]}, or 0 for off" if off else WANTED[kind]
        raise ConfigFailure(f"{where} is {value!r}, not {wanted}") from None


WANTED = {str: "text", int: "a positive whole number", float: "a positive number"}
