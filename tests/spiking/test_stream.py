"""Streaming: after any changes, a silent network is where a fresh run of the current image ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import OneLine
from graphs import Graph, examples, graphs
from hypothesis import given
from hypothesis import strategies as st
from test_golden import network_of

import negspike
from negspike.errors import InputError

Vgg = tuple[negspike.SpikingNetwork, np.ndarray]
VGG = Path(__file__).parents[1] / "golden/vgg_k1.npz"


@pytest.fixture(scope="module")
def vgg() -> Vgg:
    with np.load(VGG, allow_pickle=False) as stored:
        golden = {name: stored[name] for name in stored.files}
    return network_of(golden, 24), golden["images"]


@examples(25)
@given(graphs(images=4), st.data())
def test_a_silent_stream_is_where_a_fresh_run_ends(graph: Graph, data: st.DataObject) -> None:
    """Images one after the other, each for some steps or until silent, and back again to one seen before."""
    stream = negspike.Stream(graph.network)
    shown = data.draw(st.lists(st.integers(0, len(graph.images) - 1), min_size=1, max_size=4), label="images")
    for number in shown:
        stream.feed(graph.images[number], timesteps=data.draw(st.integers(1, 5), label="steps"))
    last = graph.images[shown[-1:]]
    log, fresh = stream.feed(last), negspike.simulate(graph.network, last, engine="event")
    if log.silent[0] < 0 or fresh.silent[0] < 0:
        return
    for name, counts in fresh.counts.items():
        np.testing.assert_array_equal(log.counts[name], counts, err_msg=name)
    np.testing.assert_array_equal(log.logits, fresh.logits)
    assert log.predictions == fresh.predictions
    again = stream.feed(last)
    assert again.silent[0] == 0 and again.spikes.max() == again.sops.max() == 0


def test_small_changes_cost_little_and_streams_run_side_by_side(
    vgg: tuple[negspike.SpikingNetwork, np.ndarray],
) -> None:
    network, images = vgg
    changed = images.copy()
    changed[:, :, 3, 3] += 0.25
    streams = negspike.Stream(network)
    first = streams.feed(torch.from_numpy(images))
    second, fresh = streams.feed(changed), negspike.simulate(network, changed)
    assert (second.silent >= 0).all() and (fresh.silent >= 0).all()
    for name, counts in fresh.counts.items():
        np.testing.assert_array_equal(second.counts[name], counts)
    assert 0 < second.sops[:, -1].sum() < fresh.sops[:, -1].sum() / 2
    # the operations of both frames, where each is simulated on its own
    assert (first.sops[:, -1] == negspike.simulate(network, images).sops[:, -1]).all()


def test_refused(vgg: Vgg) -> None:
    network, images = vgg
    stream = negspike.Stream(network)
    with OneLine(InputError, "images have shape"):
        stream.feed(np.zeros((1, 3, 3)))
    with OneLine(InputError, "timesteps is 0"):
        stream.feed(images[0], timesteps=0)
    stream.feed(images[:2])
    with OneLine(InputError, "1 images for 2 streams"):
        stream.feed(images[0])
    with pytest.raises(InputError, match="not finite"):
        stream.feed(np.full_like(images[:2], np.nan))
