"""Random streams that are addressed, not consumed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloray.rng import StreamKey

KEY = StreamKey(1, "next-layer", "latent", 3)
ADDRESSES = st.builds(
    StreamKey,
    seed=st.integers(0, 2**64 - 1),
    component=st.text("abc/0", max_size=6),
    purpose=st.sampled_from(["latent", "noise", "shuffle"]),
    block=st.integers(0, 2**63),
    attempt=st.integers(0, 2**63),
)


def draw(key: StreamKey, count: int = 4) -> list[float]:
    return key.generator().random(count).tolist()


@pytest.mark.parametrize(
    ("key", "uniform", "seed64"),
    [
        (StreamKey(0, "", ""), [0.8907664871071148, 0.43021896083774025], 8045361435346215660),
        (KEY, [0.4254240415654843, 0.6724995079276427], 6051427057060473486),
        (KEY.at(3, 1), [0.16864484959047, 0.07468079545917783], 5141970810913397183),
        (
            StreamKey(2**64 - 1, "layer/44", "noise", 10**9),
            [0.9554741286130881, 0.36553722540992684],
            3052499249443464558,
        ),
    ],
)
def test_the_numbers_of_a_stream_never_change(key, uniform, seed64):
    """Every shower that was ever generated hangs on these values."""
    assert draw(key, len(uniform)) == uniform
    assert key.seed64() == seed64


def test_normal_numbers_never_change():
    assert KEY.generator().standard_normal(2).tolist() == [0.9545218856136153, -0.6497513385716202]


def test_streams_can_be_opened_in_any_order_any_number_of_times():
    keys = [KEY.at(block, attempt) for block in range(5) for attempt in range(3)]
    forward = {key: draw(key) for key in keys}
    backward = {key: draw(key) for key in reversed(keys)}
    assert forward == backward
    generator = KEY.generator()
    generator.random(1000)
    assert draw(KEY) == forward[KEY.at(3)]


@given(ADDRESSES, st.lists(ADDRESSES, min_size=1, max_size=4), st.integers(0, 9))
def test_a_generator_can_be_put_at_the_start_of_any_stream(first, others, used):
    generator = first.generator()
    for key in (*others, first):
        generator.standard_normal(used)
        generator.random(used, np.float32)
        key.rewind(generator)
        assert generator.random(3, np.float32).tolist() == key.generator().random(3, np.float32).tolist()
    first.rewind(generator, used)
    expected = first.generator().random(8 * used + 3, np.float32)[-3:]
    assert generator.random(3, np.float32).tolist() == expected.tolist()


@given(ADDRESSES, ADDRESSES)
def test_different_addresses_give_different_streams(one, other):
    if one == other:
        assert draw(one) == draw(other)
        assert one.seed64() == other.seed64()
    else:
        assert not set(draw(one)) & set(draw(other))
        assert one.seed64() != other.seed64()


@given(ADDRESSES)
def test_seeds_for_torch_are_63_bits(key):
    assert 0 <= key.seed64() < 2**63


@pytest.mark.parametrize(
    "other",
    [
        KEY.at(4),
        KEY.at(3, 1),
        KEY.named("first-layer", "latent"),
        KEY.named("next-layer", "noise"),
        StreamKey(2, "next-layer", "latent", 3),
        StreamKey(1, "next-layerl", "atent", 3),
        StreamKey(1, "", "next-layerlatent", 3),
        StreamKey(1, "next-layer", "latent", 0, 3),
    ],
)
def test_each_word_of_the_address_counts(other):
    assert draw(other) != draw(KEY)
    assert other.seed64() != KEY.seed64()


def test_blocks_do_not_run_into_each_other():
    """Block and attempt are the high words of the counter: 2**128 numbers lie between two blocks."""
    first = KEY.at(0).generator()
    state = first.bit_generator.state["state"]["counter"]
    assert state.tolist() == [0, 0, 0, 0]
    assert KEY.at(7, 5).generator().bit_generator.state["state"]["counter"].tolist() == [0, 0, 5, 7]
    long = set(first.integers(0, 2**63, 20_000).tolist())
    assert not long & set(KEY.at(1).generator().integers(0, 2**63, 20_000).tolist())
    assert not long & set(KEY.at(0, 1).generator().integers(0, 2**63, 20_000).tolist())


def test_addresses_are_values():
    assert KEY.at(5, 2) == StreamKey(1, "next-layer", "latent", 5, 2)
    assert KEY.named("a", "b") == StreamKey(1, "a", "b", 3)
    assert len({KEY, KEY.at(3), KEY.at(4)}) == 2
    assert draw(StreamKey(np.int64(1), "next-layer", "latent", 3)) == draw(KEY)
