"""A network's integers in the order in which the compiled functions read them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from negspike.spiking.counting import operations_per_spike, relays_per_change
from negspike.spiking.event import state as c
from negspike.spiking.event.buffers import assign_buffers
from negspike.spiking.event.expand import UNIT, Expanded, expand, image_weights
from negspike.spiking.event.rows import ROW_TYPES, stored_order
from negspike.spiking.event.state import LARGEST_INT32, Network
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Node, Readout, Sum, Synapses, Window

ALIGNMENT = 64
TILE_WIDTHS = (64, 32)
# A list of spikes costs about as much to go through as this many outputs cost to add.
LIST_COST = 16
# Potentials of 32 bits must have room for a step's input beside the threshold.
LARGEST_NARROW = 1 << 29
NEVER = 1 << 62


def aligned(shape: int | tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """Zeros that begin at a 64-byte boundary, as vector loads want them; the system provides them when touched."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    first = -raw.ctypes.data % ALIGNMENT
    return raw[first : first + size].view(dtype).reshape(shape)


def tile_width(outputs: int) -> int:
    """Output channels that are computed together: padding to whole tiles costs time, and narrow tiles do too."""
    return min(TILE_WIDTHS, key=lambda width: -(-outputs // width) * (width + LIST_COST))


@dataclass(eq=False)
class _Sizes:
    """How far the arrays of all nodes have been filled."""

    neurons: int = 0
    masks: int = 0
    relative: int = 0
    currents: int = 0
    pooled: int = 0


@dataclass(eq=False)
class _Arrays:
    """What the nodes arranged so far fill the network's arrays with."""

    nodes: list[list[int]] = field(default_factory=list)
    synapses: list[list[int]] = field(default_factory=list)
    links: list[list[int]] = field(default_factory=list)
    tiles: list[list[int]] = field(default_factory=list)
    direct: list[list[int]] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    maps: list[np.ndarray] = field(default_factory=list)
    scales: list[np.ndarray] = field(default_factory=list)
    image_rows: list[np.ndarray] = field(default_factory=list)
    theta: list[np.ndarray] = field(default_factory=list)
    base: list[np.ndarray] = field(default_factory=list)
    costs: list[np.ndarray] = field(default_factory=list)
    listeners: list[int] = field(default_factory=list)
    sizes: _Sizes = field(default_factory=_Sizes)


@dataclass(frozen=True, eq=False)
class Arranged:
    """The arrays, and how long those are that the engine provides: neurons, masks and so on.

    Attributes:
        network: for the compiled functions.
        sizes: of one image's state.
        buffers: elements of each buffer of what nodes emit, by name.
        listed: most entries that a position's lists of one block can have.
        parts: most items of a step.
    """

    network: Network
    sizes: _Sizes
    buffers: dict[str, int]
    listed: int
    parts: int


class _Arranger:
    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network
        self.numbers = {node.name: number for number, node in enumerate(network.nodes)}
        self.populations = {node.name: number for number, node in enumerate(network.populations)}
        self.costs, self.relays = operations_per_spike(network), relays_per_change(network)
        weights = [
            synapses.weight
            for node in network.nodes
            if not isinstance(node, MaxPool)
            for synapses in node.synapses
            if synapses.source != INPUT and synapses.weight is not None
        ]
        largest = max((int(np.abs(weight.astype(np.int64)).max(initial=0)) for weight in weights), default=0)
        self.weight_bytes = 1 if largest < 1 << 7 else 2 if largest < 1 << 15 else 3
        self.arrays = _Arrays()
        self.listed, self.parts = 0, 1

    def run(self) -> Arranged:
        for node in self.network.nodes:
            self._add(node)
        arrays = self.arrays
        nodes = np.array(arrays.nodes, np.int64)
        buffers = assign_buffers(self.network, nodes)
        theta, base = flat(arrays.theta, np.int64), flat(arrays.base, np.int64)
        start = np.clip(-base >> 16, -LARGEST_INT32, LARGEST_INT32)
        table = {"synapses": c.SYNAPSE_COLUMNS, "links": c.LINK_COLUMNS, "tiles": c.TILE_COLUMNS}
        table["direct"] = c.DIRECT_COLUMNS
        network = Network(
            nodes=nodes,
            **{name: np.array(getattr(arrays, name), np.int64).reshape(-1, size) for name, size in table.items()},
            rows=flat(arrays.rows, np.uint8).view(ROW_TYPES[self.weight_bytes]),
            maps=flat(arrays.maps, np.int32),
            scales=flat(arrays.scales, np.int64),
            image_rows=flat(arrays.image_rows, np.int64),
            theta=theta,
            base=base,
            theta_high=flat([np.minimum(theta >> 16, LARGEST_INT32)], np.int32),
            theta_low=flat([theta & 0xFFFF], np.int32),
            base_low=flat([-base & 0xFFFF], np.int32),
            start=flat([start], np.int32),
            costs=flat(arrays.costs, np.int64),
            listeners=np.array(arrays.listeners, np.int64),
            bias=self.network.readout.bias,
        )
        return Arranged(network, arrays.sizes, buffers, self.listed, self.parts)

    def _add(self, node: Node) -> None:
        arrays, sizes = self.arrays, self.arrays.sizes
        row = [-1] * c.NODE_COLUMNS
        channels, height, width = node.shape
        lanes = tile_width(channels)
        tiles = -(-channels // lanes)
        padded, positions = tiles * lanes, height * width
        row[c.CHANNELS], row[c.HEIGHT], row[c.WIDTH], row[c.LANES], row[c.TILES] = channels, height, width, lanes, tiles
        for column in (c.SYNAPSES, c.DIRECT, c.IMAGES, c.PER_TILE, c.CHANNEL_COSTS):
            row[column] = 0
        row[c.PARTS], row[c.NUMBER] = 1, self.populations.get(node.name, -1)
        row[c.FIRST_SYNAPSE], row[c.FIRST_DIRECT] = len(arrays.synapses), len(arrays.direct)
        row[c.FIRST_IMAGE], row[c.FIRST_TILE] = len(arrays.synapses), len(arrays.tiles)
        row[c.FIRST_CHANNEL] = sum(len(part) for part in arrays.theta)
        row[c.KIND] = c.POOL if isinstance(node, MaxPool) else c.SUM
        if isinstance(node, Neurons):
            row[c.KIND] = c.POPULATION if any(s.source != INPUT for s in node.synapses) else c.IMAGE_LAYER
            row[c.FIRST_NEURON], sizes.neurons = sizes.neurons, sizes.neurons + positions * padded
            row[c.LOW] = -LARGEST_INT32 if node.low is None else node.low
            row[c.HIGH] = LARGEST_INT32 if node.high is None else node.high
            arrays.theta.append(_padded(node.theta, padded, NEVER))
            arrays.base.append(_padded(node.base, padded, 0))
        if row[c.KIND] == c.POPULATION:
            row[c.FIRST_MASK], sizes.masks = sizes.masks, sizes.masks + positions * tiles
        self._add_costs(node, row)
        if isinstance(node, MaxPool):
            source = self.network.shapes[node.source]
            row[c.SYNAPSES] = 1
            arrays.synapses.append(self._window(node.source, node.window))
            row[c.POOLED] = sizes.pooled
            sizes.pooled += channels * (source[1] * source[2] + positions)
        else:
            self._add_synapses(node, row)
        arrays.nodes.append(row)

    def _add_costs(self, node: Node, row: list[int]) -> None:
        costs = {0: self.relays[node.name]} if isinstance(node, Sum) else self.costs.get(node.name, {})
        costs = {number: cost for number, cost in costs.items() if cost.any()}
        row[c.FIRST_LISTENER], row[c.LISTENERS] = len(self.arrays.listeners), len(costs)
        self.arrays.listeners += costs
        if not costs:
            return
        row[c.COSTS] = sum(part.size for part in self.arrays.costs)
        row[c.CHANNEL_COSTS] = int(any(len(cost) > 1 for cost in costs.values()))
        channels = node.shape[0] if row[c.CHANNEL_COSTS] else 1
        for cost in costs.values():
            self.arrays.costs.append(np.broadcast_to(cost, (channels, *cost.shape[1:])).transpose(1, 2, 0).ravel())

    def _window(self, source: str, window: Window) -> list[int]:
        (top, _), (left, _) = window.padding
        return [
            *(self.numbers.get(source, -1), *window.kernel, *window.stride, top, left, *window.dilation),
            *(0, 0, -1, -1),
        ]

    def _add_synapses(self, node: Neurons | Sum | Readout, row: list[int]) -> None:
        padded, positions = row[c.TILES] * row[c.LANES], row[c.HEIGHT] * row[c.WIDTH]
        weighted: list[Synapses] = []
        for synapses in node.synapses:
            if synapses.source == INPUT:
                row[c.IMAGES] += 1
                line = self._window(INPUT, synapses.window)
                line[c.FIRST_WEIGHT] = sum(part.size for part in self.arrays.image_rows)
                self.arrays.image_rows.append(image_weights(synapses, self.network.input_shape[0], row[c.CHANNELS]))
                self.arrays.synapses.append(line)
            elif self._is_direct(synapses):
                row[c.DIRECT] += 1
                self._add_direct(synapses, row)
            else:
                weighted.append(synapses)
        row[c.FIRST_SYNAPSE] = len(self.arrays.synapses)
        if row[c.IMAGES] and row[c.KIND] != c.IMAGE_LAYER:
            row[c.CURRENT], self.arrays.sizes.currents = (
                self.arrays.sizes.currents,
                self.arrays.sizes.currents + positions * padded,
            )
        if row[c.KIND] != c.IMAGE_LAYER:
            self._add_weighted(node, weighted, row)

    def _is_direct(self, synapses: Synapses) -> bool:
        """Whether it is added neuron by neuron: a sum's changes, or spikes at the same place and channel."""
        if isinstance(self.network.node(synapses.source), Sum):
            return True
        plain = synapses.channels is None and synapses.targets is None and synapses.weight is None
        return plain and synapses.window.is_point

    def _add_direct(self, synapses: Synapses, row: list[int]) -> None:
        arrays, padded = self.arrays, row[c.TILES] * row[c.LANES]
        scale = np.zeros(padded, np.int64)
        targets = np.arange(synapses.outputs) if synapses.targets is None else synapses.targets
        scale[targets] = synapses.scale
        first_map = -1
        if synapses.channels is not None or synapses.targets is not None:
            first_map = sum(len(part) for part in arrays.maps)
            names = np.full(padded, -1, np.int32)
            names[targets] = np.arange(synapses.outputs) if synapses.channels is None else synapses.channels
            arrays.maps.append(names)
        first_scale = sum(len(part) for part in arrays.scales)
        from_sum = int(isinstance(self.network.node(synapses.source), Sum))
        arrays.direct.append([self.numbers[synapses.source], from_sum, *synapses.window.stride, first_scale, first_map])
        arrays.scales.append(scale)

    def _add_weighted(self, node: Neurons | Sum | Readout, weighted: list[Synapses], row: list[int]) -> None:
        arrays = self.arrays
        tiles, lanes = row[c.TILES], row[c.LANES]
        expanded = [part for s in weighted for part in expand(s, self.network.shapes[s.source][0], tiles, lanes)]
        scales: list[np.ndarray] = []
        row[c.SYNAPSES], row[c.PER_TILE] = len(expanded), int(any(not one.alike for one in expanded))
        used = np.zeros(tiles, np.int64)
        for one in expanded:
            part = next((i for i, scale in enumerate(scales) if np.array_equal(scale, one.scale)), len(scales))
            if part == len(scales):
                scales.append(one.scale)
            line = self._window(one.source, one.window)
            line[c.SHARED], line[c.PART], line[c.FIRST_LINK] = int(one.shared), part, len(arrays.links)
            arrays.synapses.append(line)
            for tile in range(tiles):
                arrays.links.append([int(used[tile]), one.rows[tile].shape[1], self._add_map(one, tile)])
                used[tile] += one.rows[tile].shape[0] * one.rows[tile].shape[1]
        scales = scales or [np.full(tiles * lanes, UNIT)]
        row[c.PARTS], row[c.SCALES] = len(scales), sum(len(part) for part in arrays.scales)
        arrays.scales += scales
        self.parts = max(self.parts, len(scales))
        taps = sum(int(np.prod(s.window.kernel)) * self.network.shapes[s.source][0] for s in expanded)
        self.listed = max(self.listed, taps)
        if row[c.KIND] == c.POPULATION:
            assert isinstance(node, Neurons)
            narrow = self._narrow(node, row, scales)
            if narrow.any() and row[c.DIRECT]:
                size = row[c.HEIGHT] * row[c.WIDTH] * tiles * lanes
                row[c.RELATIVE], arrays.sizes.relative = arrays.sizes.relative, arrays.sizes.relative + size
        else:
            narrow = np.zeros(tiles, bool)
        self._add_tiles(node, row, expanded, narrow)

    def _add_map(self, one: Expanded, tile: int) -> int:
        names = one.maps[tile]
        if names is None:
            return -1
        first = sum(len(part) for part in self.arrays.maps)
        self.arrays.maps.append(names)
        return first

    def _narrow(self, node: Neurons, row: list[int], scales: list[np.ndarray]) -> np.ndarray:
        """Which tiles' potentials have 32 bits: weights in units of 2^16, unweighted spikes worth one threshold."""
        tiles, lanes = row[c.TILES], row[c.LANES]
        theta = _padded(node.theta, tiles * lanes, 0)
        far = np.maximum(theta, np.abs(_padded(node.base, tiles * lanes, 0)))
        fits = far >> 16 < LARGEST_NARROW
        if self.weight_bytes == 3 or len(scales) > 1 or row[c.CURRENT] >= 0:
            fits[:] = False
        fits &= scales[0] == UNIT
        for line in self.arrays.direct[row[c.FIRST_DIRECT] :]:
            first = line[c.DIRECT_SCALE]
            scale = flat(self.arrays.scales, np.int64)[first : first + tiles * lanes]
            fits &= (scale == theta) & (not line[c.FROM_SUM])
        fits[len(node.theta) :] = True
        narrow: np.ndarray = fits.reshape(tiles, lanes).all(1)
        return narrow

    def _add_tiles(
        self, node: Neurons | Sum | Readout, row: list[int], expanded: list[Expanded], narrow: np.ndarray
    ) -> None:
        arrays, lanes = self.arrays, row[c.LANES]
        first = sum(part.size for part in arrays.rows)
        pieces = []
        for tile in range(row[c.TILES]):
            own = [one.rows[tile].reshape(-1, lanes) for one in expanded]
            matrix = np.concatenate([*own, np.zeros((1, lanes), np.int32)])
            reach = step = 0
            if isinstance(node, Neurons):
                part = slice(tile * lanes, (tile + 1) * lanes)
                step = (int(node.theta[part].max()) >> 16) + 1
                reach = max(int(np.abs(node.base[part]).max()) >> 16, step) + 2
            pieces.append(row_bytes(matrix, self.weight_bytes))
            line = [first, len(matrix) - 1, int(not narrow[tile]), int(np.abs(matrix.astype(np.int64)).max())]
            arrays.tiles.append([*line, reach, step])
            first += pieces[-1].size
        joined = np.concatenate(pieces)
        arrays.rows.append(np.pad(joined, (0, -joined.size % ALIGNMENT)))


def arrange(network: SpikingNetwork) -> Arranged:
    """The network's integers in the order in which the compiled functions read them."""
    return _Arranger(network).run()


def flat(parts: list[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    """One array of several, beginning at a boundary."""
    result = aligned(sum(part.size for part in parts), dtype)
    np.concatenate([*(part.ravel() for part in parts), result[:0]], out=result, casting="unsafe")
    return result


def _padded(values: np.ndarray, size: int, fill: int) -> np.ndarray:
    result = np.full(size, fill, np.int64)
    result[: len(values)] = values
    return result


def row_bytes(weights: np.ndarray, weight_bytes: int) -> np.ndarray:
    """Bytes of int32 weights (..., outputs): 8 or 16 bits each, or a row's upper 16 bits first and then its lower 8."""
    width, parts = weights.shape[-1], []
    if weight_bytes > 1:
        high = (weights >> 8 * (weight_bytes - 2)).astype(np.int16)[..., stored_order(width, 16)]
        parts.append(np.ascontiguousarray(high).view(np.uint8))
    if weight_bytes != 2:
        parts.append((weights & 0xFF).astype(np.uint8)[..., stored_order(width, 8)])
    return np.concatenate(parts, axis=-1).ravel()
