"""`dataclass` for the values that there are hundreds of thousands of: what a document says and becomes.

Frozen is what mypy holds them to; when the program runs they are plain. `__init__` of a frozen class sets fields by
`object.__setattr__`: that makes it five times as slow (1.0 and 0.2 µs for six fields), and of loading and resolving
10,000 jails it is 15 %. Nothing else differs: `slots`, equality, `hash`, `replace`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses

    def dataclass(*, frozen: bool, slots: bool, order: bool = False):
        assert frozen
        return dataclasses.dataclass(slots=slots, order=order, unsafe_hash=True)
