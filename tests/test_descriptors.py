"""File descriptors: as many as may be had, and the connections that they are enough for."""

import resource

import pytest
from llm_passthrough import descriptors

INFINITE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "room"),
    [
        pytest.param(1024, 4096, 4096, 2024, id="the soft limit is raised"),
        pytest.param(1024, INFINITE, 65_536, 32_744, id="not beyond all measure"),
        pytest.param(64, 64, None, 8, id="there are few"),
        pytest.param(10, 10, None, 4, id="there are too few"),
        pytest.param(INFINITE, INFINITE, None, None, id="nothing limits them"),
    ],
)
def test_connections_have_room_where_there_are_descriptors(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: int | None, room: int | None
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: asked.append(limits))
    assert descriptors.connections() == room
    assert asked == ([] if raised is None else [(raised, hard)])


def test_a_system_that_lets_nothing_be_raised_or_has_no_limit_is_lived_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuses(which: int, limits: tuple[int, int]) -> None:
        raise ValueError

    monkeypatch.setattr(resource, "getrlimit", lambda which: (248, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuses)
    assert descriptors.connections() == 100
    monkeypatch.setattr(descriptors, "resource", None)
    assert descriptors.connections() is None
