"""A few hundred spoilt requests: our gateway takes them, a naive one is found guilty.

`scripts/fuzz --seed N --cases N` tries more.
"""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from live.fuzzgateways import naive, ours
from live.fuzzing import hunt
from live.mutations import BASES, CLIENT, MUTATIONS, Case, case
from live.shrinking import shrunk

SEED = 20260


def test_no_spoilt_request_moves_a_key_or_breaks_the_gateway(tmp_path: Path) -> None:
    with ours(tmp_path) as ground:
        found = hunt(ground, SEED, 300)
    assert found is None, str(found)


def test_a_gateway_that_rewrites_by_prefix_is_found_guilty(tmp_path: Path) -> None:
    """So the fuzzer finds what it is there to find: a key that gets where it should not, or
    somebody evil who is dialled; and it shows the least that does it."""
    with naive(tmp_path) as ground:
        guilty = hunt(ground, SEED, 300)
    assert guilty is not None
    assert f"seed {SEED}" in str(guilty)
    assert len(guilty.request) < 200


def test_the_same_seed_gives_the_same_requests() -> None:
    def made(seed: int) -> list[bytes]:
        chance = random.Random(seed)
        return [case(chance).message().data() for _ in range(50)]

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_every_mutation_can_be_done_to_every_request() -> None:
    for base in range(len(BASES)):
        plain = Case(base, ()).message().data()
        assert plain.count(b"\r\n\r\n") == 1
        for name in MUTATIONS:
            for seed in range(5):
                Case(base, ((name, seed),)).message().data()


@pytest.mark.parametrize("then", [("coding", 1), ("smuggled", 1)], ids=["in a chunk", "behind"])
def test_a_credential_is_never_put_into_a_body(then: tuple[str, int]) -> None:
    """A client's body goes where he sends it: that would be no leak."""
    for seed in range(40):
        data = Case(0, (("chunks", seed), then)).message().data()
        assert CLIENT not in data.partition(b"\r\n\r\n")[2]


def test_what_does_not_matter_is_cut_away() -> None:
    steps = (("host", 1), ("odd_in_path", 2), ("version", 3))
    guilty = Case(0, steps)
    small = shrunk(guilty, lambda other: b"Authorization: Bearer" in other.message().data())
    assert small.steps == ()
    assert len(small.message().data()) < len(replace(guilty, steps=()).message().data()) / 2
