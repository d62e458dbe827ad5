"""What the compiled functions share: columns of tables, and tuples of arrays.

Every node but the image is cut into tiles, ``LANES`` neighbouring channels at one position, filled up to whole ones.
Flat arrays hold all nodes' values one after the other; a node's row in the table of nodes says where its own begin.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Time steps of a block: a step is a bit of a 64-bit word.
BLOCK = 64
# Lists of input spikes are built for a few positions at a time, which every tile of output channels then reads.
LIST_ENTRIES = 1 << 18
LIST_POSITIONS = 256
# A 32-bit potential may get this far. One more than it would be a wrap-around.
LARGEST_INT32 = (1 << 31) - 1

# Kinds of nodes. An image layer is a population that listens to the image alone; a readout is a sum.
IMAGE_LAYER, POPULATION, POOL, SUM = range(4)

# Columns of the table of nodes.
KIND, CHANNELS, HEIGHT, WIDTH, LANES, TILES, LOW, HIGH, NUMBER, PARTS, PER_TILE, CHANNEL_COSTS = range(12)
# The node's rows in other tables: how many, and which is the first.
SYNAPSES, FIRST_SYNAPSE, DIRECT, FIRST_DIRECT, IMAGES, FIRST_IMAGE, FIRST_TILE = range(12, 19)
# Where the node begins in the arrays of channels, of neurons, and of masks (a mask is the word of a tile at a position:
# [tile][position]); of scales, of unweighted counts, of currents from the image, of costs, of a pool's counts. -1 is
# for none.
FIRST_CHANNEL, FIRST_NEURON, FIRST_MASK, SCALES, RELATIVE, CURRENT, COSTS, POOLED = range(19, 27)
# Where what it emits begins in buffers that nodes use in turn.
WORDS, ENTRIES, RUNS, ACTIVE, ROWS, FIRED, CHANGES = range(27, 34)
# How many layers its spikes cost something in, and where their numbers begin; their costs follow each other.
LISTENERS, FIRST_LISTENER = range(34, 36)
NODE_COLUMNS = 36

# Columns of the table of synapses (and of windows of max pools, and of synapses from the image).
SOURCE, KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_Y, STRIDE_X, TOP, LEFT, DILATION_Y, DILATION_X, SHARED = range(10)
# Which of the node's scales it has; its row in the table of links for the node's first tile; first weight of the image.
PART, FIRST_LINK, FIRST_WEIGHT = range(10, 13)
SYNAPSE_COLUMNS = 13

# Columns of the table of links, of a synapse and a tile: its first row of weights, how many a tap has, and where the
# map from the source's channels to them begins (-1: all in order).
FIRST_ROW, TAP_ROWS, MAP = range(3)
LINK_COLUMNS = 3

# Columns of the table of tiles: first byte of its weights, how many rows they have without the row of zeros, whether it
# needs 64-bit potentials; largest absolute weight; largest absolute 32-bit potential that start and threshold alone can
# cause; what an unweighted spike adds at most.
FIRST_BYTE, TILE_ROWS, WIDE, LARGEST, REACH, LARGEST_STEP = range(6)
TILE_COLUMNS = 6

# Columns of the table of what is added without weights, neuron by neuron (after SOURCE): whether it is a sum, strides,
# where its scales begin, where the map from channels to the source's channels begins (-1: as they are).
FROM_SUM, DIRECT_STRIDE_Y, DIRECT_STRIDE_X, DIRECT_SCALE, DIRECT_MAP = range(1, 6)
DIRECT_COLUMNS = 6


class Network(NamedTuple):
    """A network as the functions read it.

    Attributes:
        nodes, synapses, links, tiles, direct: int64 tables, with the columns above.
        rows: all tiles' weights, [tile][synapse][tap][input][output of the tile] and a row of zeros after each tile:
            int8 or int16; or uint8, three bytes a weight, each row the upper 16 bits of its weights and then the lower
            8. A row's outputs are in the order of :func:`negspike.spiking.event.rows.stored_order`.
        maps: int32 a channel, number of a row or channel, -1 for none.
        scales: int64 a channel of each part of a node.
        image_rows: int64, weights of synapses from the image, [synapse][tap][input][channel], scales included.
        theta, base: int64 a channel; theta_high, theta_low, base_low, start: int32, the 32-bit potential's constants.
        costs: int64 a position, or a position and channel: synaptic operations of a spike in each layer that listens,
            relays of a sum's change.
        listeners: int64, numbers of these layers.
        bias: (classes,) int64.
    """

    nodes: np.ndarray
    synapses: np.ndarray
    links: np.ndarray
    tiles: np.ndarray
    direct: np.ndarray
    rows: np.ndarray
    maps: np.ndarray
    scales: np.ndarray
    image_rows: np.ndarray
    theta: np.ndarray
    base: np.ndarray
    theta_high: np.ndarray
    theta_low: np.ndarray
    base_low: np.ndarray
    start: np.ndarray
    costs: np.ndarray
    listeners: np.ndarray
    bias: np.ndarray


class State(NamedTuple):
    """One image's neurons.

    Attributes:
        potential: int32 a neuron, upper part of the residual; residual: int64 a neuron, where tiles are wide.
        relative: int32 a neuron with unweighted spikes in 32 bits, net count less net spikes received that way.
        above, below: uint64 a mask, counts above the lowest and below the highest.
        pending: uint8 a mask, look again without any input.
        currents: int64 a neuron of nodes that listen to the image and to something else.
        pooled: int32, counts of a max pool's source at the start of a block, and then its own.
        bits: :data:`negspike.spiking.event.vectors.BITS`.
    """

    potential: np.ndarray
    residual: np.ndarray
    relative: np.ndarray
    above: np.ndarray
    below: np.ndarray
    pending: np.ndarray
    currents: np.ndarray
    pooled: np.ndarray
    bits: np.ndarray


class Lists(NamedTuple):
    """Input spikes of some positions, by position, step and part.

    Attributes:
        entries: numbers of a tile's rows of weights; positive spikes of a step first, then its negative ones. uint16
            where that is enough for every node, else int32.
        first: int64 a position, its first item in the arrays that follow.
        step, part, begin, positive, negative: int64 an item: its step, which scale, where its entries begin, and how
            many there are, filled up with rows of zeros to a multiple of ROWS_AT_ONCE.
    """

    entries: np.ndarray
    first: np.ndarray
    step: np.ndarray
    part: np.ndarray
    begin: np.ndarray
    positive: np.ndarray
    negative: np.ndarray


class Emitted(NamedTuple):
    """What nodes emit in a block: as words of tiles, and as numbers of channels, counted on from column to column.

    Those of one sign, row and step stand together, from left to right: a window's share of a row is one run.

    Attributes:
        up, down: uint64, words of the spikes, [row][step][column][tile]; only where ``fired`` has the step.
        fired: uint64 a mask, the steps in which the tile emits at the position.
        active: uint64 a position, the steps in which it has spikes; rows: uint64 a row, the same.
        ups, downs: positive and negative spikes, of the type of lists' entries.
        first_up, first_down: int32, where those of a row, step and column begin, from the node's first on:
            [row][step][column], with one column more, where they end; only for steps in which the row has spikes.
        changes: int64, what a sum emits, [position][step][channel]; only where ``fired`` has the step.
    """

    up: np.ndarray
    down: np.ndarray
    fired: np.ndarray
    active: np.ndarray
    rows: np.ndarray
    ups: np.ndarray
    downs: np.ndarray
    first_up: np.ndarray
    first_down: np.ndarray
    changes: np.ndarray


class Scratch(NamedTuple):
    """What is needed for a moment, as large as the largest node needs it.

    Attributes:
        currents: int64, inverse: float64 a channel.
        taps: int64 a tap, window: int32 a tap and channel, touched: uint8 a channel of a max pool.
        emits: uint8 a node, whether it emits anything in this block.
        ups, downs: int64 a step of a block.
    """

    currents: np.ndarray
    inverse: np.ndarray
    taps: np.ndarray
    window: np.ndarray
    touched: np.ndarray
    emits: np.ndarray
    ups: np.ndarray
    downs: np.ndarray


class Work(NamedTuple):
    """The arrays that one thread works in."""

    state: State
    lists: Lists
    emitted: Emitted
    scratch: Scratch


class Results(NamedTuple):
    """Numbers of some images, as in :class:`negspike.spiking.recording.Recording`, zero at first.

    Attributes:
        counts: (N, neurons) int32.
        predictions, relays: (N, T) int64.
        layer_sops: (N, T, L) int64.
        positive, negative: (N, T, P) int64.
        logits: (N, classes) int64.
        reached: (P,) int64, bounds on the absolute 32-bit potentials of each population, raised where they grow.
    """

    counts: np.ndarray
    predictions: np.ndarray
    layer_sops: np.ndarray
    relays: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    logits: np.ndarray
    reached: np.ndarray


class Block(NamedTuple):
    """So many time steps from ``start`` on."""

    start: int
    duration: int
