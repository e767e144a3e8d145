"""Stub."""

from .world import World, page


def test_the_sample_answers(world: World) -> None:
    assert "ACME" in page(world.address("a", "acme--www"))
    assert "blog" in page(world.address("b", "uirig--blog"))
    world.converge()


def test_spare(spare) -> None:
    w = spare("b")
    w.converge()
    assert "running" in w["b"].run(f"curl -sg 'http://[{w.address('b', 'uirig--www')}]/'").stdout
