"""Where our things are on a Linux host, beyond what every host has."""

from __future__ import annotations

UNITS = "/etc/systemd/system"


def tunnel_unit(tunnel: str) -> str:
    return f"reconciler-tunnel-{tunnel}.service"


def unit(jail: str) -> str:
    return f"reconciler-jail-{jail}.service"
