"""Limits: sizes with units → numbers, with the platform's defaults filled in. Knows no document but their limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.kinds.documents import Staff
from reconciler.model import Limits

UNITS = {"Mi": 1 << 20, "Gi": 1 << 30}


def wanted(spec: Mapping[str, Any], staff: Staff) -> dict[str, Any]:
    return {**staff.defaults, **spec.get("limits", {})}


def memory(limits: Mapping[str, Any]) -> int:
    """Bytes; 0 when there is no limit."""
    size: str = limits.get("memory", "")
    return int(size[:-2]) * UNITS[size[-2:]] if size else 0


def limits_of(spec: Mapping[str, Any], staff: Staff) -> Limits:
    limits = wanted(spec, staff)
    return Limits(memory(limits), limits.get("processes", 0), limits.get("cpu", 0), limits.get("openFiles", 0))
