"""The line that says how a host stands."""

from __future__ import annotations

from reconciler.model import Report
from reconciler.render.plans import summary

from .pieces import change


def test_one_change_is_one_and_two_are_two() -> None:
    one, two = change("create a"), change("create b")
    assert summary(Report("a", "", pending=(one,))) == "1 change pending"
    assert summary(Report("a", "", done=(one, two))) == "2 changes done"
    assert summary(Report("a", "")) == "as it should be"
