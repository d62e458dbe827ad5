"""Synapses as rows of weights of a tile: groups, maps of channels and missing weights are written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from negspike.spiking.nodes import Synapses, Window

# Where a synapse adds nothing to a channel, any scale would do: most have this one.
UNIT = 1 << 16


@dataclass(frozen=True, eq=False)
class Expanded:
    """One synapse that no channel of the source enters twice.

    Attributes:
        source, window: as in :class:`~negspike.spiking.nodes.Synapses`.
        shared: whether all taps have the same rows.
        scale: int64 a channel of all tiles.
        rows: for each tile (taps, inputs, lanes) int32; one tap where they are shared.
        maps: for each tile, from the source's channels to those inputs, -1 for none; None where they are the same.
        alike: whether all tiles have the same inputs, so that one list of spikes serves them all.
    """

    source: str
    window: Window
    shared: bool
    scale: np.ndarray
    rows: list[np.ndarray]
    maps: list[np.ndarray | None]
    alike: bool


def written_out(synapses: Synapses) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
    """Weights (O, I / groups, kernel height, kernel width), groups, channels and targets, none of them missing."""
    weight, groups = synapses.weight, synapses.groups
    if weight is None:
        weight, groups = np.ones((synapses.outputs, 1, 1, 1), np.int32), synapses.outputs
    channels = np.arange(synapses.inputs) if synapses.channels is None else synapses.channels
    targets = np.arange(synapses.outputs) if synapses.targets is None else synapses.targets
    return weight, groups, channels, targets


def image_weights(synapses: Synapses, inputs: int, channels: int) -> np.ndarray:
    """(taps, inputs, channels) int64, weights times scale of synapses from the image."""
    weight, groups, names, targets = written_out(synapses)
    kernel = synapses.window.kernel
    result = np.zeros((kernel[0] * kernel[1], inputs, channels), np.int64)
    scaled = weight.astype(np.int64) * synapses.scale[:, None, None, None]
    scaled = np.broadcast_to(scaled, (*weight.shape[:2], *kernel)).reshape(*weight.shape[:2], -1)
    size, add_at = len(weight) // groups, cast(Any, np.add.at)
    for output in range(len(weight)):
        first = output // size * weight.shape[1]
        add_at(result, (slice(None), names[first : first + weight.shape[1]], targets[output]), scaled[output].T)
    return result


def expand(synapses: Synapses, source_channels: int, tiles: int, lanes: int) -> list[Expanded]:
    """The rows of each tile; several where a channel of the source is several inputs."""
    weight, groups, channels, targets = written_out(synapses)
    output_of = np.full(tiles * lanes, -1)
    output_of[targets] = np.arange(synapses.outputs)
    scale = np.full(tiles * lanes, UNIT, np.int64)
    scale[targets] = synapses.scale
    result = []
    for inputs in _occurrences(channels):
        pairs = [_tile(weight, groups, output_of[tile * lanes : (tile + 1) * lanes], inputs) for tile in range(tiles)]
        names = [channels[used] for used, _ in pairs]
        everything = np.arange(source_channels)
        maps = [None if np.array_equal(own, everything) else _inverse(own, source_channels) for own in names]
        result.append(
            Expanded(
                source=synapses.source,
                window=synapses.window,
                shared=synapses.shares_taps,
                scale=scale,
                rows=[rows for _, rows in pairs],
                maps=maps,
                alike=all(np.array_equal(own, names[0]) for own in names),
            )
        )
    return result


def _occurrences(channels: np.ndarray) -> list[np.ndarray]:
    """Inputs, divided so that no channel occurs twice in a part."""
    order = np.argsort(channels, kind="stable")
    ranks = np.zeros(len(channels), np.int64)
    ordered = channels[order]
    ranks[order] = np.arange(len(channels)) - np.searchsorted(ordered, ordered)
    return [np.flatnonzero(ranks == rank) for rank in range(ranks.max(initial=0) + 1)]


def _inverse(channels: np.ndarray, source_channels: int) -> np.ndarray:
    names = np.full(source_channels, -1, np.int32)
    names[channels] = np.arange(len(channels))
    return names


def _tile(weight: np.ndarray, groups: int, outputs: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of some inputs, those that a tile's outputs have weights for, and their rows, (taps, inputs, lanes) int32."""
    taps = weight.shape[2] * weight.shape[3]
    lanes = np.flatnonzero(outputs >= 0)
    group_of_lane = outputs[lanes] // (len(weight) // groups)
    group_of_input = inputs // weight.shape[1]
    present = np.isin(group_of_input, group_of_lane)
    used, group_of_input = inputs[present], group_of_input[present]
    rows = np.zeros((taps, len(used), len(outputs)), np.int32)
    for group in np.unique(group_of_lane):
        columns, places = lanes[group_of_lane == group], np.flatnonzero(group_of_input == group)
        part = weight[outputs[columns]][:, used[places] - group * weight.shape[1]]
        part = part.reshape(len(columns), len(places), taps)
        rows[:, places[:, None], columns[None, :]] = part.transpose(2, 1, 0)
    return used, rows
