"""A pretended host that several stories begin with: a first apply on it takes ten seconds of processor."""

from __future__ import annotations

import pytest

from .village import Village


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Village:
    """A host as it should be. Copy it before anything is changed."""
    village = Village(tmp_path_factory.mktemp("standing") / "village")
    village.converge()
    again = village.look()
    assert again.ready, [change.words for change in again.pending]
    return village
