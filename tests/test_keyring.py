"""The choice among keys: by weight and chance, and never one that forbids the model."""

import contextlib
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llm_passthrough.errors import Refusal
from llm_passthrough.keyring import Key, KeyRing
from llm_passthrough.policy import NAMELESS, Named
from pydantic import SecretStr

MEND = "set OPENAI_API_KEY, or add a key under providers.openai.keys"


def key(
    name: str = "k",
    weight: float = 1.0,
    models: tuple[str, ...] = ("*",),
    blacklisted: tuple[str, ...] = (),
) -> Key:
    secret = SecretStr("sk-SECRET")
    return Key(name, "openai", secret, weight, models=models, blacklisted=blacklisted)


def ring(*keys: Key) -> KeyRing:
    return KeyRing("openai", keys, MEND)


def wanted(model: str | None) -> Named:
    return NAMELESS if model is None else Named((model,))


def picked(keys: KeyRing, model: str | None = None, pinned: str | None = None) -> Counter[str]:
    chance = random.Random(7)
    return Counter(keys.pick(wanted(model), pinned, chance).name for _ in range(2000))


@pytest.mark.parametrize(
    ("models", "blacklisted", "model", "allowed"),
    [
        pytest.param(("*",), (), "gpt-4o", True, id="all"),
        pytest.param(("gpt-4o",), (), "gpt-4o", True, id="by its name"),
        pytest.param(("gpt-4o",), (), "gpt-4o-mini", False, id="not what begins alike"),
        pytest.param(("gpt-*", "o?"), (), "o3", True, id="a glob"),
        pytest.param(("gpt-4[op]",), (), "gpt-4p", True, id="a set"),
        pytest.param((), (), "gpt-4o", False, id="none"),
        pytest.param(("*",), ("gpt-4o",), "gpt-4o", False, id="the black list wins"),
        pytest.param(("gpt-4o",), ("gpt-*",), "gpt-4o", False, id="even over a name"),
        pytest.param(("*",), ("gpt-4o",), "gpt-4o-mini", True, id="only what it names"),
        pytest.param(("*",), ("gpt-4o",), "GPT-4O", False, id="forbidden in any case"),
        pytest.param(("*",), ("Gpt-4*",), "gpt-4o", False, id="a pattern in any case"),
        pytest.param(("GPT-4o",), (), "gpt-4O", True, id="allowed in any case"),
        pytest.param(("*",), ("gemini-pro",), "models/gemini-pro", False, id="behind models/"),
        pytest.param(("*",), ("m",), "publishers/google/models/m", False, id="in a resource"),
        pytest.param(("gemini-pro",), (), "x/gemini-pro", False, id="allowed in full only"),
        pytest.param(("openai/*",), (), "openai/gpt-4o", True, id="a slash in a name"),
        pytest.param(("gpt-4o",), ("*",), None, True, id="no model: any key"),
        pytest.param((), (), None, True, id="no model: even so"),
        pytest.param(("*",), (), "", True, id="an empty name is a name"),
    ],
)
def test_a_key_allows_some_models(
    models: tuple[str, ...], blacklisted: tuple[str, ...], model: str | None, allowed: bool
) -> None:
    assert key(models=models, blacklisted=blacklisted).allows(wanted(model)) is allowed


@pytest.mark.parametrize(
    ("keys", "asks"),
    [
        (ring(key(), key()), False),
        (ring(key(), key(models=("a",))), True),
        (ring(key(blacklisted=("a",))), True),
        (ring(key(models=("a", "*"))), True),
        (ring(), False),
    ],
)
def test_a_body_is_read_only_where_the_choice_depends_on_the_model(
    keys: KeyRing, asks: bool
) -> None:
    assert keys.asks_model is asks


def test_keys_are_chosen_by_their_weight() -> None:
    counts = picked(ring(key("a", 3.0), key("b", 1.0)))
    assert 2.5 < counts["a"] / counts["b"] < 3.5


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        pytest.param(ring(key("a", 0.0), key("b")), {"b"}, id="0 beside others: never"),
        pytest.param(ring(key("a", 0.0)), {"a"}, id="0 alone: it is the only one"),
        pytest.param(ring(key("a", 0.0), key("b", 0.0)), {"a", "b"}, id="all 0: all alike"),
        pytest.param(ring(key("a", 1e-300), key("b", 0.0)), {"a"}, id="the smallest weight"),
        pytest.param(ring(key("a", 1e6), key("b", 1e6)), {"a", "b"}, id="the largest weight"),
    ],
)
def test_a_weight_may_be_nothing(keys: KeyRing, names: set[str]) -> None:
    assert set(picked(keys)) == names


def test_only_keys_that_allow_the_model_share_the_requests() -> None:
    keys = ring(key("a", 9.0, ("o*",)), key("b", models=("gpt-*",)), key("c", blacklisted=("o3",)))
    assert set(picked(keys, "gpt-4o")) == {"b", "c"}
    assert set(picked(keys, "o3")) == {"a"}
    assert set(picked(keys, None)) == {"a", "b", "c"}


def test_a_model_that_nobody_could_read_gets_keys_for_all_models_alone() -> None:
    keys = ring(key("a", 9.0, ("o*",)), key("b"), key("c", blacklisted=("o3",)))
    chance = random.Random(1)
    unknown = Named(("o1",), "nobody can tell")
    assert {keys.pick(unknown, None, chance).name for _ in range(20)} == {"b"}
    with pytest.raises(Refusal, match="nobody can tell") as caught:
        keys.pick(unknown, "a", chance)
    assert caught.value.code == "no_key"


def test_a_key_has_to_allow_each_model_that_is_named() -> None:
    keys = ring(key("a", models=("gpt-*",)), key("b", models=("gpt-*", "o3")))
    chance = random.Random(1)
    assert {keys.pick(Named(("gpt-4o", "o3")), None, chance).name for _ in range(20)} == {"b"}


def test_a_request_may_pin_a_key_by_its_name() -> None:
    assert set(picked(ring(key("a", 99.0), key("b", 0.0)), pinned="b")) == {"b"}


@pytest.mark.parametrize(
    ("preferred", "names"),
    [
        pytest.param("b", {"b"}, id="one that is there, whatever its weight"),
        pytest.param("c", {"a"}, id="one that may not serve the model"),
        pytest.param("gone", {"a"}, id="one that is not there"),
        pytest.param("", {"a"}, id="none"),
    ],
)
def test_a_preferred_key_is_taken_where_it_may_be(preferred: str, names: set[str]) -> None:
    keys = ring(key("a"), key("b", 0.0), key("c", models=("other",)))
    chance = random.Random(7)
    got = {keys.pick(wanted("gpt-4o"), None, chance, preferred=preferred).name for _ in range(50)}
    assert got == names


def test_a_preferred_key_is_taken_while_it_rests() -> None:
    keys = ring(key("a"), key("b"))
    keys.heard(keys.keys[1], 401, {}, 0.0, 0.0)
    assert keys.pick(wanted("gpt-4o"), None, random.Random(1), 1.0, preferred="b").name == "b"


@pytest.mark.parametrize(
    ("keys", "model", "pinned", "message"),
    [
        pytest.param(ring(), None, None, f"no key for openai: {MEND}", id="no key at all"),
        pytest.param(ring(), "gpt-4o", "a", f"no key for openai: {MEND}", id="nor to pin"),
        pytest.param(
            ring(key("a", models=("b",)), key("c", models=("d",))),
            "gpt-SECRET",
            None,
            "no key of openai allows this model; see `models` of its keys (a, c)",
            id="no key for the model",
        ),
        pytest.param(
            ring(key("a"), key("b", models=("c",))),
            "gpt-SECRET",
            "b",
            "no key of openai allows this model; see `models` of its keys (a, b)",
            id="a pinned key does not allow what it forbids",
        ),
        pytest.param(
            ring(key("a")),
            None,
            "sk-SECRET",
            "openai has no key of the name in x-passthrough-key; keys: a",
            id="no key of that name",
        ),
    ],
)
def test_without_a_fitting_key_the_mend_is_named_and_nothing_is_echoed(
    keys: KeyRing, model: str | None, pinned: str | None, message: str
) -> None:
    with pytest.raises(Refusal) as caught:
        keys.pick(wanted(model), pinned, random.Random(1))
    assert (caught.value.code, caught.value.status) == ("no_key", 503)
    assert caught.value.message == message


def test_a_key_is_shown_without_its_secret() -> None:
    assert "SECRET" not in repr(ring(key()))


NAMES = st.text("abAB-/.", min_size=1, max_size=6)
PATTERNS = st.lists(st.text("abAB-/.*?", min_size=1, max_size=4), max_size=3).map(tuple)
KEYS = st.lists(
    st.builds(key, st.just("k"), st.floats(0, 1e6), PATTERNS, PATTERNS), min_size=1, max_size=5
)


@given(KEYS, NAMES, st.integers())
def test_whatever_chance_says_a_forbidden_model_never_gets_a_key(
    keys: list[Key], model: str, seed: int
) -> None:
    named = ring(*(key(str(i), k.weight, k.models, k.blacklisted) for i, k in enumerate(keys)))
    fit = {k.name for k in named.keys if k.allows(wanted(model))}
    for pinned in (None, *(k.name for k in named.keys)):
        expected = fit & {pinned} if pinned else fit
        chosen = None
        with contextlib.suppress(Refusal):
            chosen = named.pick(wanted(model), pinned, random.Random(seed)).name
        assert chosen in expected if expected else chosen is None


# -- rest, sessions --------------------------------------------------------------------------------

NAMED = ("a", "b", "c", "d", "e")
RINGS = st.lists(
    st.tuples(st.floats(0, 1e6), PATTERNS, PATTERNS, st.sampled_from([None, 0.5, 5.0, 50.0])),
    min_size=1,
    max_size=len(NAMED),
)
SESSIONS = st.none() | st.text(max_size=8)


def resting(rows: list[tuple[float, tuple[str, ...], tuple[str, ...], float | None]]) -> KeyRing:
    """A ring some of whose keys rest from 0 on, for the seconds of their row."""
    keys = ring(*(key(n, *row[:3]) for n, row in zip(NAMED, rows, strict=False)))
    for one, row in zip(keys.keys, rows, strict=True):
        if row[3] is not None:
            keys.heard(one, 429, {"retry-after": str(row[3])}, 0.0, 0.0)
    return keys


@given(RINGS, NAMES, st.integers(), SESSIONS, st.sampled_from([0.0, 1.0, 10.0, 100.0]))
def test_a_resting_key_is_chosen_only_when_all_rest_and_then_the_first_to_be_ready(
    rows: list[tuple[float, tuple[str, ...], tuple[str, ...], float | None]],
    model: str,
    seed: int,
    session: str | None,
    now: float,
) -> None:
    keys = resting(rows)
    fit = [one for one in keys.keys if one.allows(wanted(model))]
    if not fit:
        with pytest.raises(Refusal):
            keys.pick(wanted(model), None, random.Random(seed), now, session)
        return
    chosen = keys.pick(wanted(model), None, random.Random(seed), now, session)
    ready = [one for one in fit if not keys.rests(one, now)]
    if ready:
        assert chosen in ready
        assert chosen.weight > 0 or not any(one.weight for one in ready)
    else:
        assert chosen in fit
        assert keys.states[chosen.name].until == min(keys.states[one.name].until for one in fit)
    assert keys.another(chosen, wanted(model), now) is any(one is not chosen for one in ready)


@settings(max_examples=12)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=4).filter(any), st.booleans())
def test_requests_and_sessions_are_shared_out_by_weight(weights: list[int], sessions: bool) -> None:
    keys = ring(*(key(n, float(w)) for n, w in zip(NAMED, weights, strict=False)))
    chance, count = random.Random(7), 3000
    found = Counter(
        keys.pick(NAMELESS, None, chance, 0.0, f"session-{i}" if sessions else None).name
        for i in range(count)
    )
    for one in keys.keys:
        share = one.weight / sum(weights)
        assert abs(found[one.name] / count - share) < 0.05
        assert one.weight or not found[one.name]


@given(st.text(max_size=12), st.integers(2, 5), st.integers(0, 4), st.integers())
def test_a_session_keeps_its_key_leaves_it_while_it_rests_and_comes_back(
    session: str, count: int, other: int, seed: int
) -> None:
    keys = ring(*(key(n) for n in NAMED[:count]))

    def pick(now: float) -> Key:
        return keys.pick(NAMELESS, None, random.Random(seed + int(now)), now, session)

    mine = pick(0)
    assert {pick(now).name for now in range(5)} == {mine.name}
    # The rest of another key is nothing to it.
    if (one := keys.keys[other % count]) is not mine:
        keys.failed(one, 0.0)
        assert pick(0.5) is mine
    keys.heard(mine, 429, {"retry-after": "30"}, 10.0, 0.0)
    second = pick(11)
    assert second is not mine
    assert {pick(now).name for now in range(12, 40)} == {second.name}
    assert pick(40) is mine


def test_a_resting_key_can_be_pinned_still() -> None:
    keys = ring(key("a"), key("b"))
    keys.heard(keys.keys[0], 401, {}, 0.0, 0.0)
    assert keys.pick(NAMELESS, "a", random.Random(1), 1.0).name == "a"
    assert keys.pick(NAMELESS, None, random.Random(1), 1.0).name == "b"


def test_a_short_rest_does_not_shorten_a_long_one() -> None:
    keys = ring(key("a"))
    (only,) = keys.keys
    keys.heard(only, 401, {}, 0.0, 0.0)
    keys.heard(only, 500, {}, 1.0, 0.0)
    assert keys.describe(only, 1.0) == "rests 599 s: answered 401"
    keys.extend(only, 5.0)
    assert keys.describe(only, 1.0) == "rests 599 s: answered 401"
    assert keys.describe(only, 600.0) == "ready"


def test_pauses_grow_until_a_good_answer() -> None:
    keys = ring(key("a"))
    (only,) = keys.keys
    now, told = 0.0, []
    for _ in range(4):
        keys.failed(only, now)
        told.append(keys.describe(only, now))
        now = keys.states["a"].until
    assert told == [f"rests {seconds} s: could not be reached" for seconds in (1, 2, 4, 8)]
    keys.good(only, now)
    keys.extend(only, now + 100)  # it does not rest any more
    assert keys.describe(only, now) == "ready"
    keys.tokenless(only, now)
    assert keys.describe(only, now) == "rests 1 s: no token"
