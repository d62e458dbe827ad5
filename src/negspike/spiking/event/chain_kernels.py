"""The compiled part of the event-driven engine: Numba functions, and the vector operations inside them as LLVM.

Layers are simulated one after the other, each for a block of time steps at once. That is the same as step after step,
layer after layer, since within a step a layer needs no more than the spikes of the layer before it; and it keeps the
potentials of a tile, a few dozen neighbouring output channels of one position, in registers and first-level cache
while all their input of a block passes by.

Functions that Numba compiles are typed by what they are called with. Everything stands in one file, so that Numba's
cache notices every change.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from negspike.spiking.event.compiled import compiled, kept

# Time steps of a block: a step is a bit of a 64-bit word.
BLOCK = 64
# Lists of input spikes are built for a few positions at a time, which every tile of output channels then reads.
LIST_ENTRIES = 1 << 18
LIST_POSITIONS = 256
# So many rows of weights are added before the loop over them goes on; lists are filled up with rows of zeros.
ROWS_AT_ONCE = 4
# Integers of a list that are copied at a time.
COPIED = 32
# A 32-bit potential may get this far. One more than it would be a wrap-around.
LARGEST_INT32 = (1 << 31) - 1

# Columns of the table of layers.
INPUTS, IN_HEIGHT, IN_WIDTH, OUTPUTS, OUT_HEIGHT, OUT_WIDTH, KERNEL_HEIGHT, KERNEL_WIDTH = range(8)
STRIDE, TOP, LEFT, SHIFT, WIDTH, TILES, ROW_BYTES = range(8, 15)
# Where the layer begins in the arrays of all layers' weights (bytes), channels, tiles, positions, neurons and masks
# (a mask is the word of a tile at a position).
FIRST_BYTE, FIRST_CHANNEL, FIRST_TILE, FIRST_POSITION, FIRST_NEURON, FIRST_MASK = range(15, 21)
COLUMNS = 21
# Low bytes of 24-bit weights are summed in 16 bits: this many cannot leave them.
MOST_LOW_BYTES = 257

I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_ZERO, _THREE = ir.Constant(I32, 0), ir.Constant(I64, 3)
# For each byte the indices of the bits that are set, lowest first, then zeros.
BITS = np.array([([bit for bit in range(8) if byte >> bit & 1] + [0] * 8)[:8] for byte in range(256)], np.uint8)


# --- vectors --------------------------------------------------------------------------------------------------------


def _load(builder: Any, address: Any, bits: int, width: int, align: int) -> Any:
    vector = ir.VectorType(ir.IntType(bits), width)
    return builder.load(builder.inttoptr(address, vector.as_pointer()), align=align)


def _store(builder: Any, value: Any, address: Any, align: int) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=align)


def _constant(width: int, value: int, bits: int) -> Any:
    kind = ir.IntType(bits)
    return ir.Constant(ir.VectorType(kind, width), [ir.Constant(kind, value)] * width)


def _to_mask(builder: Any, lanes: Any, width: int) -> Any:
    """<width x i1> to an unsigned 64-bit word."""
    word = builder.bitcast(lanes, ir.IntType(width))
    return word if width == 64 else builder.zext(word, I64)


def _to_lanes(builder: Any, mask: Any, width: int) -> Any:
    word = mask if width == 64 else builder.trunc(mask, ir.IntType(width))
    return builder.bitcast(word, ir.VectorType(I1, width))


def _pair_bits() -> int:
    """Bits of the vectors in which this processor adds pairs of 16-bit numbers to 32 bits; 0 if it does not."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    available = features.split(",")
    return 512 if "+avx512bw" in available else 256 if "+avx2" in available else 0


PAIR_BITS = _pair_bits()


def stored_order(width: int, bits: int) -> np.ndarray:
    """Where each of the ``width`` integers of a row, of 16 or 8 bits, comes from.

    The instruction that adds a pair wants its two numbers side by side, so two rows are interleaved first. x86 does
    that in groups of 128 bits, lower halves and upper halves apart; with this order the sums are in that of the
    outputs.
    """
    if not PAIR_BITS:
        return np.arange(width)
    vector = min(PAIR_BITS // bits, width)
    half = 64 // bits
    order = np.arange(width).reshape(-1, 2, vector // (2 * half), half)
    return order.transpose(0, 2, 1, 3).ravel()


def _interleave(first: np.ndarray) -> list[int]:
    """For a shuffle of two vectors: their elements side by side, those of the first being ``first``."""
    return [int(index) for number in first for index in (number, number + 2 * len(first))]


def _load_row(builder: Any, address: Any, bits: int, width: int, row_bytes: int, offset: int) -> Any:
    """``width`` integers of ``bits`` that stand ``offset`` bytes behind an address in a row."""
    place = builder.add(address, ir.Constant(I64, offset)) if offset else address
    return _load(builder, place, bits, width, math.gcd(64, row_bytes, offset))


def _add_pair(builder: Any, rows: tuple[Any, Any], bits: int, width: int, row_bytes: int, offset: int) -> Any:
    """The sum of two rows, twice as wide: of signed 16-bit integers, or of unsigned 8-bit ones.

    Args:
        rows: addresses of two rows.
        bits, width: of what is read of each.
        row_bytes: of a whole row.
        offset: bytes in a row before what is read.
    """
    if not PAIR_BITS:
        kind, extend = ir.VectorType(ir.IntType(2 * bits), width), builder.sext if bits == 16 else builder.zext
        return builder.add(*(extend(_load_row(builder, row, bits, width, row_bytes, offset), kind) for row in rows))
    size = min(PAIR_BITS // bits, width)
    name = {(16, 512): "avx512.pmaddw.d.512", (16, 256): "avx2.pmadd.wd"}
    name |= {(8, 512): "avx512.pmaddubs.w.512", (8, 256): "avx2.pmadd.ub.sw"}
    vector, wider = ir.VectorType(ir.IntType(bits), size), ir.VectorType(ir.IntType(2 * bits), size // 2)
    multiply_add = builder.module.declare_intrinsic(
        f"llvm.x86.{name[bits, size * bits]}", (), ir.FunctionType(wider, [vector, vector])
    )
    halves = np.arange(size).reshape(-1, 2, 64 // bits)
    sums = []
    for begin in range(0, width, size):
        place = offset + begin * bits // 8
        both = [_load_row(builder, row, bits, size, row_bytes, place) for row in rows]
        for half in (0, 1):
            order = _interleave(halves[:, half].ravel())
            mask = ir.Constant(ir.VectorType(I32, size), order)
            # times one; of bytes, the first operand is unsigned and the second signed
            sums.append(builder.call(multiply_add, [builder.shuffle_vector(*both, mask), _constant(size, 1, bits)]))
    while len(sums) > 1:
        sums = [_join(builder, *sums[number : number + 2]) for number in range(0, len(sums), 2)]
    return sums[0]


def _join(builder: Any, first: Any, second: Any) -> Any:
    """Two vectors as one."""
    mask = list(range(2 * first.type.count))
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(I32, len(mask)), mask))


def _add_rows(
    builder: Any, total: Any, weights: Any, entries: Any, count: Any, width: int, split: bool, subtract: bool
) -> Any:
    """Add (or subtract) the rows of weights that ``count`` integers name to a vector kept in registers.

    ``entries`` is a pointer to the integers, ``count`` is a multiple of ROWS_AT_ONCE. ``split`` rows hold the upper 16
    bits of all weights and then the lower 8, which are summed apart, in 16 bits.
    """
    i32, i16 = ir.VectorType(I32, width), ir.VectorType(ir.IntType(16), width)
    row_bytes = (3 if split else 2) * width
    before = builder.block
    loop, after = builder.append_basic_block("rows"), builder.append_basic_block("rows_done")
    builder.cbranch(builder.icmp_signed(">", count, ir.Constant(I64, 0)), loop, after)
    builder.position_at_end(loop)
    index = builder.phi(I64)
    index.add_incoming(ir.Constant(I64, 0), before)
    running = [(builder.phi(i32), ir.Constant(i32, None) if split else total)]
    if split:
        running.append((builder.phi(i16), ir.Constant(i16, None)))
    first = builder.gep(entries, [index])
    add = builder.sub if subtract and not split else builder.add
    sums = [value for value, _ in running]

    def row(number: int) -> Any:
        entry = builder.zext(builder.load(builder.gep(first, [ir.Constant(I64, number)])), I64)
        return builder.add(weights, builder.mul(entry, ir.Constant(I64, row_bytes)))

    for number in range(0, ROWS_AT_ONCE, 2):
        pair = row(number), row(number + 1)
        parts = [_add_pair(builder, pair, 16, width, row_bytes, 0)]
        if split:
            parts.append(_add_pair(builder, pair, 8, width, row_bytes, 2 * width))
        sums = [add(value, part) for value, part in zip(sums, parts, strict=True)]
    following = builder.add(index, ir.Constant(I64, ROWS_AT_ONCE))
    index.add_incoming(following, loop)
    for (value, start), new in zip(running, sums, strict=True):
        value.add_incoming(start, before)
        value.add_incoming(new, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    results = []
    for (_, start), new in zip(running, sums, strict=True):
        result = builder.phi(new.type)
        result.add_incoming(start, before)
        result.add_incoming(new, loop)
        results.append(result)
    if not split:
        return results[0]
    high, low = results
    both = builder.add(builder.shl(high, _constant(width, 8, 32)), builder.zext(low, i32))
    return builder.sub(total, both) if subtract else builder.add(total, both)


def _masks(context: Any, builder: Any, signature: Any, words: list[Any]) -> Any:
    return context.make_tuple(builder, signature.return_type, words)


def make_accumulate(width: int, wide: bool) -> Any:
    """``accumulate(state, rows, first, entries, begin, positive, negative, theta)``.

    ``rows`` is the array of all weights, ``first`` the byte at which the tile's begin, ``entries`` an array of numbers
    of its rows; ``state`` and ``theta`` are addresses, ``positive`` and ``negative`` are counts, multiples of
    ROWS_AT_ONCE. Adds the rows of the ``positive`` entries from ``begin`` on to the ``width`` potentials at ``state``
    and subtracts those of the ``negative`` entries that follow them. Returns two masks: neurons that may have reached
    their threshold, and those whose potential is below zero.
    """

    @intrinsic
    def accumulate(typingctx, state, rows, first, entries, begin, positive, negative, theta):
        split = rows.dtype == types.uint8

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            state, rows, first, entries, begin, positive, negative, theta = arguments
            data = context.make_array(signature.args[1])(context, builder, rows).data
            tile = builder.add(builder.ptrtoint(data, I64), first)
            total = _constant(width, 0, 32) if wide else _load(builder, state, 32, width, 64)
            names = builder.gep(context.make_array(signature.args[3])(context, builder, entries).data, [begin])
            total = _add_rows(builder, total, tile, names, positive, width, split, subtract=False)
            rest = builder.gep(names, [positive])
            total = _add_rows(builder, total, tile, rest, negative, width, split, subtract=True)
            if wide:
                extended = builder.sext(total, ir.VectorType(I64, width))
                before = _load(builder, state, 64, width, 64)
                total = builder.add(before, builder.shl(extended, _constant(width, 16, 64)))
            _store(builder, total, state, 64)
            size = 64 if wide else 32
            up = builder.icmp_signed(">=", total, _load(builder, theta, size, width, 64))
            below = builder.icmp_signed("<", total, _constant(width, 0, size))
            return _masks(context, builder, signature, [_to_mask(builder, lanes, width) for lanes in (up, below)])

        return types.UniTuple(types.uint64, 2)(types.int64, rows, types.int64, entries, *[types.int64] * 4), codegen

    return accumulate


def _make_fire(width: int, wide: bool) -> Any:
    """``fire(state, count, theta, theta_low, base_low, up, down)``: addresses, and the masks of candidates.

    Emits at most one spike a neuron, updates potentials and counts, and returns four masks: positive spikes, negative
    spikes, neurons whose count is above zero, and neurons that may have to fire again in the next step.

    A 32-bit potential is the upper part of the residual z * 2^16 - base - n * theta. The lower 16 bits follow from
    the count alone: they are those of -base - n * theta.
    """

    @intrinsic
    def fire(typingctx, state, count, theta, theta_low, base_low, up, down):
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            state, count, theta, theta_low, base_low, up, down = arguments
            size = 64 if wide else 32
            vector = ir.VectorType(ir.IntType(size), width)
            zero = ir.Constant(vector, None)
            up, down = (_to_lanes(builder, mask, width) for mask in (up, down))
            potential = _load(builder, state, size, width, 64)
            threshold = _load(builder, theta, size, width, 64)
            counts = _load(builder, count, 32, width, 64)
            one = _constant(width, 1, 32)
            subtracted, added = builder.sub(potential, threshold), builder.add(potential, threshold)
            if not wide:
                low_threshold = _load(builder, theta_low, 32, width, 64)
                mask, sign = _constant(width, 0xFFFF, 32), _constant(width, 31, 32)
                low = builder.sub(_load(builder, base_low, 32, width, 64), builder.mul(counts, low_threshold))
                low = builder.and_(low, mask)
                # -1 where the lower 16 bits borrow from the upper ones, or carry into them
                borrow = builder.ashr(builder.sub(low, low_threshold), sign)
                carry = builder.ashr(builder.sub(builder.sub(mask, low), low_threshold), sign)
                subtracted, added = builder.add(subtracted, borrow), builder.sub(added, carry)
                up = builder.and_(up, builder.icmp_signed(">=", subtracted, zero))
            potential = builder.select(up, subtracted, builder.select(down, added, potential))
            counts = builder.select(up, builder.add(counts, one), counts)
            counts = builder.select(down, builder.sub(counts, one), counts)
            _store(builder, potential, state, 64)
            _store(builder, counts, count, 64)
            above_zero = builder.icmp_signed(">", counts, _constant(width, 0, 32))
            again = builder.and_(builder.icmp_signed("<", potential, zero), above_zero)
            again = builder.or_(again, builder.icmp_signed(">=", potential, threshold))
            words = [_to_mask(builder, lanes, width) for lanes in (up, down, above_zero, again)]
            return _masks(context, builder, signature, words)

        return types.UniTuple(types.uint64, 4)(*[types.int64] * 5, types.uint64, types.uint64), codegen

    return fire


def _make_start(width: int, wide: bool) -> Any:
    """``start(state, values)``: addresses. Sets ``width`` potentials to values, wide ones to negative values."""

    @intrinsic
    def start(typingctx, state, values):
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            state, values = arguments
            first = _load(builder, values, 64 if wide else 32, width, 64)
            _store(builder, builder.neg(first) if wide else first, state, 64)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return start


def _make_exceeds(width: int) -> Any:
    """``exceeds(address, value)``: mask of the ``width`` int32 at an address that are larger than a value."""

    @intrinsic
    def exceeds(typingctx, address, value):
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address, value = arguments
            values = _broadcast(builder, builder.trunc(value, I32), width)
            return _to_mask(builder, builder.icmp_signed(">", _load(builder, address, 32, width, 64), values), width)

        return types.uint64(types.int64, types.int64), codegen

    return exceeds


_exceeds_32, _exceeds_64 = _make_exceeds(32), _make_exceeds(64)


@intrinsic
def spread(typingctx, target, at, word, first, table):
    """Write ``first`` plus the index of every bit of ``word`` that is set, lowest first, to an array from ``at`` on.

    Eight bits at a time, without a branch: ``table`` is the address of :data:`BITS`. Up to 8 numbers that follow are
    overwritten.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, word, first, table = arguments
        place, number = _place(context, builder, signature.args[0], array, at)
        vector = ir.VectorType(number, 8)
        firsts = _broadcast(builder, builder.trunc(first, number), 8)
        for byte in range(8):
            bits = builder.and_(builder.lshr(word, ir.Constant(I64, 8 * byte)), ir.Constant(I64, 0xFF))
            indices = builder.zext(_load(builder, builder.add(table, builder.shl(bits, _THREE)), 8, 8, 8), vector)
            indices = builder.add(indices, _constant(8, 8 * byte, number.width))
            _store(builder, builder.add(indices, firsts), builder.ptrtoint(place, I64), number.width // 8)
            place = builder.gep(place, [builder.ctpop(bits)])
        return context.get_dummy_value()

    return types.void(target, types.int64, types.uint64, *[types.int64] * 2), codegen


@intrinsic
def copy_shifted(typingctx, target, at, source, begin, count, shift):
    """Copy ``count`` integers from array to array and add ``shift`` to each; both ends may be overrun by COPIED - 1."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, at, source, begin, count, shift = arguments
        to, number = _place(context, builder, signature.args[0], target, at)
        origin, _ = _place(context, builder, signature.args[2], source, begin)
        size = number.width // 8
        shifts = _broadcast(builder, builder.trunc(shift, number), COPIED)
        before = builder.block
        loop, after = builder.append_basic_block("copy"), builder.append_basic_block("copied")
        builder.branch(loop)
        builder.position_at_end(loop)
        index = builder.phi(I64)
        index.add_incoming(ir.Constant(I64, 0), before)
        addresses = [builder.ptrtoint(builder.gep(pointer, [index]), I64) for pointer in (origin, to)]
        values = _load(builder, addresses[0], number.width, COPIED, size)
        _store(builder, builder.add(values, shifts), addresses[1], size)
        following = builder.add(index, ir.Constant(I64, COPIED))
        index.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(target, types.int64, source, *[types.int64] * 3), codegen


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> tuple[Any, Any]:
    """Pointer to an element of a one-dimensional array, and the element's type."""
    place = builder.gep(context.make_array(kind)(context, builder, array).data, [index])
    return place, context.get_data_type(kind.dtype)


def _broadcast(builder: Any, value: Any, width: int) -> Any:
    vector = ir.VectorType(value.type, width)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _ZERO)
    return builder.shuffle_vector(one, one, _constant(width, 0, 32))


def _make_prefetch(write: bool, locality: int) -> Any:
    """``prefetch(address)``: have a cache line fetched that is needed soon; any address will do."""

    @intrinsic
    def prefetch(typingctx, address):
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
            kind = ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32])
            function = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
            builder.call(function, [pointer, *(ir.Constant(I32, value) for value in (int(write), locality, 1))])
            return context.get_dummy_value()

        return types.void(types.int64), codegen

    return prefetch


CACHE_LINE = 64
_fetch_state, _fetch_weights = _make_prefetch(True, 3), _make_prefetch(False, 2)  # into the first, the second level


@intrinsic
def population(typingctx, word):
    """Number of bits that are set."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), codegen


@intrinsic
def lowest(typingctx, word):
    """Index of the lowest bit that is set, of a word that is not zero."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(I1, 1))

    return types.int64(types.uint64), codegen


# --- what the functions share ---------------------------------------------------------------------------------------


class Weights(NamedTuple):
    """A network as the functions read it; L layers, flat arrays of all layers one after the other.

    Attributes:
        layers: (L, COLUMNS) int64.
        rows: all layers' weights, [tile][kernel row][kernel column][input][output of the tile] and a row of zeros after
            each tile: int16; or uint8, three bytes a weight, each row the upper 16 bits of its weights and then the
            lower 8. A row's outputs are in :func:`stored_order`.
        image_rows: (kernel rows * columns * inputs, outputs) int64, weights of the first layer.
        theta, base: int64 a channel; theta_high, theta_low, base_low, start: int32, the 32-bit potential's constants.
        wide: uint8 a tile, whether it needs 64-bit residuals.
        largest: int64 a tile, largest absolute weight.
        reach: int64 a tile, largest absolute 32-bit potential that start and threshold alone can cause.
        costs: int64 a position, synaptic operations of a spike.
        classifier: (features, classes) int64, features in the order of neurons: position, then channel.
    """

    layers: np.ndarray
    rows: np.ndarray
    image_rows: np.ndarray
    theta: np.ndarray
    base: np.ndarray
    theta_high: np.ndarray
    theta_low: np.ndarray
    base_low: np.ndarray
    start: np.ndarray
    wide: np.ndarray
    largest: np.ndarray
    reach: np.ndarray
    costs: np.ndarray
    classifier: np.ndarray


class State(NamedTuple):
    """One image's neurons, all layers; and what one layer does in one block.

    Attributes:
        potential: int32 a neuron, upper part of the residual; residual: int64 a neuron, where tiles are wide.
        above: uint64 a mask, neurons with a count above zero; pending: uint8 a mask, look again without any input.
        up, down: uint64, what a layer emits in a block, all zero between layers: [row][step][column][tile].
        bits: :data:`BITS`.
    """

    potential: np.ndarray
    residual: np.ndarray
    above: np.ndarray
    pending: np.ndarray
    up: np.ndarray
    down: np.ndarray
    bits: np.ndarray


class ListedWindow(NamedTuple):
    """Input spikes of some positions, by position and step.

    Attributes:
        entries: numbers of a tile's rows of weights; positive spikes of a step first, then its negative ones. uint16
            where that is enough for every layer, else int32.
        first: int64 a position, its first step in the arrays that follow.
        step, begin, positive, negative: int64 a step: number, where its entries begin, and how many there are, filled
            up with rows of zeros to a multiple of ROWS_AT_ONCE.
    """

    entries: np.ndarray
    first: np.ndarray
    step: np.ndarray
    begin: np.ndarray
    positive: np.ndarray
    negative: np.ndarray


class Spikes(NamedTuple):
    """Spikes that a layer emitted in a block, as numbers of channels, counted on from column to column of a row.

    Those of one sign, row and step stand together, from left to right: a window's share of a row is one run.

    Attributes:
        up, down: positive and negative spikes, of the type of a window's entries.
        first_up, first_down: int32, where those of a row, step and column begin: [row][step][column], with one column
            more, where they end; only for steps in which the row has spikes.
        active: uint64 a position, the steps in which it has spikes; rows: uint64 a row, the same.
    """

    up: np.ndarray
    down: np.ndarray
    first_up: np.ndarray
    first_down: np.ndarray
    active: np.ndarray
    rows: np.ndarray


# --- one layer ------------------------------------------------------------------------------------------------------


def _make_run_tile(width: int, wide: bool) -> Any:
    accumulate, fire, begin_at = make_accumulate(width, wide), _make_fire(width, wide), _make_start(width, wide)
    size = 8 if wide else 4

    @compiled
    def run_tile(layer, tile, first, positions, start, duration, weights, state, counts, window, active):
        """Simulate a tile at some positions for one block; returns a bound on its potentials.

        The bound is negative where it could not be kept within 32 bits.
        """
        channels = layer[TILES] * width
        outputs = layer[OUT_HEIGHT] * layer[OUT_WIDTH]
        channel = layer[FIRST_CHANNEL] + tile * width
        number = layer[FIRST_TILE] + tile
        tile_bytes = (tile_rows(layer) + 1) * layer[ROW_BYTES]
        rows = layer[FIRST_BYTE] + tile * tile_bytes
        following = np.int64(weights.rows.ctypes.data) + rows + tile_bytes
        steps = window.first[positions]
        listed = window.begin[steps - 1] + window.positive[steps - 1] + window.negative[steps - 1] if steps > 0 else 0
        # Fetching all of a tile's weights pays where most of them are needed.
        lines = -(-tile_bytes // (CACHE_LINE * positions)) if listed >= tile_rows(layer) else 0
        theta_low = np.int64(weights.theta_low.ctypes.data) + 4 * channel
        base_low = np.int64(weights.base_low.ctypes.data) + 4 * channel
        if wide:
            theta = np.int64(weights.theta.ctypes.data) + 8 * channel
            origin = np.int64(weights.base.ctypes.data) + 8 * channel
            states = np.int64(state.residual.ctypes.data)
        else:
            theta = np.int64(weights.theta_high.ctypes.data) + 4 * channel
            origin = np.int64(weights.start.ctypes.data) + 4 * channel
            states = np.int64(state.potential.ctypes.data)
        largest = weights.largest[number]
        flush = min(LARGEST_INT32 // max(largest, 1), MOST_LOW_BYTES) & -ROWS_AT_ONCE
        step = layer[OUT_WIDTH] * layer[TILES]
        furthest = np.int64(0)
        for place in range(positions):
            position = first + place
            neuron = layer[FIRST_NEURON] + position * channels + tile * width
            here, count = states + size * neuron, np.int64(counts.ctypes.data) + 4 * neuron
            mask = layer[FIRST_MASK] + tile * outputs + position
            again = state.pending[mask] != 0
            index, last = window.first[place], window.first[place + 1]
            if index == last and not again:
                continue
            # What the next position needs is fetched during this one, and the next tile's weights bit by bit.
            for line in range(size * width // CACHE_LINE):
                _fetch_state(here + size * channels + CACHE_LINE * line)
            for line in range(4 * width // CACHE_LINE):
                _fetch_state(count + 4 * channels + CACHE_LINE * line)
            for line in range(lines):
                _fetch_weights(following + CACHE_LINE * line)
            following += CACHE_LINE * lines
            above = state.above[mask]
            row, column = divmod(position, layer[OUT_WIDTH])
            word = (row * BLOCK * layer[OUT_WIDTH] + column) * layer[TILES] + tile
            bound = weights.reach[number]
            if start == 0:
                # Here, where they are needed next, and not for all neurons beforehand: they would leave the cache.
                begin_at(here, origin)
            elif not wide:
                bound = max(bound, furthest_potential(state.potential, neuron, width))
            t = np.int64(-1)
            while True:
                begin = positive = negative = np.int64(0)
                if again:
                    t += 1
                    if t >= duration:
                        break
                elif index == last:
                    break
                else:
                    t = window.step[index]
                if index < last and window.step[index] == t:
                    begin, positive, negative = window.begin[index], window.positive[index], window.negative[index]
                    index += 1
                if wide:
                    # Weights are summed in 32 bits, as many at a time as cannot leave them.
                    while positive + negative > flush:
                        now = min(positive, flush)
                        less = min(negative, flush - now) if now == positive else np.int64(0)
                        accumulate(here, weights.rows, rows, window.entries, begin, now, less, theta)
                        begin += now + less
                        positive -= now
                        negative -= less
                else:
                    bound += (positive + negative) * largest
                    if bound > LARGEST_INT32:
                        bound = max(weights.reach[number], furthest_potential(state.potential, neuron, width))
                        bound += (positive + negative) * largest
                        if bound > LARGEST_INT32:
                            return np.int64(-1)
                up, below = accumulate(here, weights.rows, rows, window.entries, begin, positive, negative, theta)
                down = below & above
                again = False
                if up | down != 0:
                    up, down, above, look = fire(here, count, theta, theta_low, base_low, up, down)
                    again = look != 0
                    if up | down != 0:
                        state.up[word + t * step], state.down[word + t * step] = up, down
                        active[position] |= np.uint64(1) << np.uint64(t)
            state.above[mask] = above
            state.pending[mask] = again
            if not wide:
                furthest = max(furthest, bound)
        return furthest

    return run_tile


@compiled
def tile_rows(layer):
    """Inputs of a neuron: rows of weights of a tile, without its row of zeros."""
    return layer[INPUTS] * layer[KERNEL_HEIGHT] * layer[KERNEL_WIDTH]


@compiled
def fill_up(entries, begin, used, zeros):
    """Fill a list up to a multiple of ROWS_AT_ONCE with a row of zeros; returns where it ends."""
    for number in range(ROWS_AT_ONCE):
        entries[used + number] = zeros
    return begin + (used - begin + ROWS_AT_ONCE - 1) // ROWS_AT_ONCE * ROWS_AT_ONCE


@compiled
def furthest_potential(potential, first, width):
    """Largest absolute potential of a tile."""
    largest = np.int64(0)
    for value in potential[first : first + width]:
        largest = max(largest, abs(np.int64(value)))
    return largest


_narrow_32, _narrow_64 = (_make_run_tile(width, False) for width in (32, 64))
_wide_32, _wide_64 = (_make_run_tile(width, True) for width in (32, 64))


@compiled
def run_tile(layer, tile, first, positions, start, duration, weights, state, counts, window, active):
    """The function for the width of the layer's tiles and the potentials that the tile needs."""
    arguments = (layer, tile, first, positions, start, duration, weights, state, counts, window, active)
    if weights.wide[layer[FIRST_TILE] + tile]:
        return _wide_64(*arguments) if layer[WIDTH] == 64 else _wide_32(*arguments)
    return _narrow_64(*arguments) if layer[WIDTH] == 64 else _narrow_32(*arguments)


@compiled
def run_layer(layer, start, duration, weights, state, counts, window, spikes, active):
    """Simulate a layer for one block, given its input spikes; marks the steps at which its positions are ``active``.

    Returns a bound on the potentials, negative if one could have left 32 bits.
    """
    positions = layer[OUT_HEIGHT] * layer[OUT_WIDTH]
    in_width = layer[IN_WIDTH]
    zeros = tile_rows(layer)
    done, furthest = np.int64(0), np.int64(0)
    while done < positions:
        used, steps, place = np.int64(0), np.int64(0), np.int64(0)
        while done + place < positions and used < LIST_ENTRIES and place < LIST_POSITIONS:
            row, column = divmod(done + place, layer[OUT_WIDTH])
            top, left = row * layer[STRIDE] - layer[TOP], column * layer[STRIDE] - layer[LEFT]
            bottom = min(top + layer[KERNEL_HEIGHT], layer[IN_HEIGHT])
            near, far = max(left, 0), min(left + layer[KERNEL_WIDTH], in_width)
            busy = np.uint64(0)
            for y in range(max(top, 0), bottom):
                for x in range(near, far):
                    busy |= spikes.active[y * in_width + x]
            window.first[place] = steps
            while busy != 0:
                t = lowest(busy)
                busy &= busy - np.uint64(1)
                window.step[steps], window.begin[steps] = t, used
                for y in range(max(top, 0), bottom):
                    if spikes.rows[y] >> np.uint64(t) & np.uint64(1) != 0:
                        shift = ((y - top) * layer[KERNEL_WIDTH] - left) * layer[INPUTS]
                        run = (y * BLOCK + t) * (in_width + 1)
                        begin, end = np.int64(spikes.first_up[run + near]), np.int64(spikes.first_up[run + far])
                        copy_shifted(window.entries, used, spikes.up, begin, end - begin, shift)
                        used += end - begin
                used = fill_up(window.entries, window.begin[steps], used, zeros)
                window.positive[steps] = used - window.begin[steps]
                for y in range(max(top, 0), bottom):
                    if spikes.rows[y] >> np.uint64(t) & np.uint64(1) != 0:
                        shift = ((y - top) * layer[KERNEL_WIDTH] - left) * layer[INPUTS]
                        run = (y * BLOCK + t) * (in_width + 1)
                        begin, end = np.int64(spikes.first_down[run + near]), np.int64(spikes.first_down[run + far])
                        copy_shifted(window.entries, used, spikes.down, begin, end - begin, shift)
                        used += end - begin
                used = fill_up(window.entries, window.begin[steps], used, zeros)
                window.negative[steps] = used - window.begin[steps] - window.positive[steps]
                steps += 1
            place += 1
        window.first[place] = steps
        for tile in range(layer[TILES]):
            bound = run_tile(layer, tile, done, place, start, duration, weights, state, counts, window, active)
            if bound < 0:
                return bound
            furthest = max(furthest, bound)
        done += place
    return furthest


@compiled
def collect(layer, costs, state, spikes, positive, negative, sops):
    """List what a layer emitted in a block by row, step and column, add it up by step, and clear it.

    Returns the spikes, with larger arrays where they need them.
    """
    height, width, tiles = layer[OUT_HEIGHT], layer[OUT_WIDTH], layer[TILES]
    up, down, table = spikes.up, spikes.down, np.int64(state.bits.ctypes.data)
    ups, downs = np.int64(0), np.int64(0)
    most = width * tiles * layer[WIDTH] + COPIED
    for y in range(height):
        busy = np.uint64(0)
        for x in range(width):
            busy |= spikes.active[y * width + x]
        spikes.rows[y] = busy
        while busy != 0:
            t = lowest(busy)
            busy &= busy - np.uint64(1)
            up, down = with_room(up, ups, most), with_room(down, downs, most)
            run = (y * BLOCK + t) * (width + 1)
            for x in range(width):
                spikes.first_up[run + x], spikes.first_down[run + x] = ups, downs
                if spikes.active[y * width + x] >> np.uint64(t) & np.uint64(1) == 0:
                    continue
                before_up, before_down = ups, downs
                for tile in range(tiles):
                    place = ((y * BLOCK + t) * width + x) * tiles + tile
                    channel = x * layer[OUTPUTS] + tile * layer[WIDTH]
                    word = state.up[place]
                    if word != 0:
                        spread(up, ups, word, channel, table)
                        ups += population(word)
                        state.up[place] = 0
                    word = state.down[place]
                    if word != 0:
                        spread(down, downs, word, channel, table)
                        downs += population(word)
                        state.down[place] = 0
                positive[t] += ups - before_up
                negative[t] += downs - before_down
                sops[t] += costs[layer[FIRST_POSITION] + y * width + x] * (ups - before_up + downs - before_down)
            spikes.first_up[run + width], spikes.first_down[run + width] = ups, downs
    return Spikes(up, down, spikes.first_up, spikes.first_down, spikes.active, spikes.rows)


@compiled
def with_room(entries, used, most):
    """The entries, in a longer array if there is no room for ``most`` more."""
    if used + most <= len(entries):
        return entries
    longer = np.empty(2 * (used + most), entries.dtype)
    longer[:used] = entries[:used]
    return longer


@compiled
def image_counts(layer, image, weights, timesteps, settled):
    """Net counts at which the first layer's neurons come to rest, as all their input is there from the start.

    They emit a positive spike in each of as many steps, from the first on, and never a negative one.
    """
    outputs, channels = layer[OUTPUTS], layer[TILES] * layer[WIDTH]
    current = np.empty(outputs, np.int64)
    theta, base = weights.theta[:outputs], weights.base[:outputs]
    inverse = 1.0 / theta
    for position in range(layer[OUT_HEIGHT] * layer[OUT_WIDTH]):
        row, column = divmod(position, layer[OUT_WIDTH])
        top, left = row * layer[STRIDE] - layer[TOP], column * layer[STRIDE] - layer[LEFT]
        current[:] = 0
        for y in range(max(top, 0), min(top + layer[KERNEL_HEIGHT], layer[IN_HEIGHT])):
            for x in range(max(left, 0), min(left + layer[KERNEL_WIDTH], layer[IN_WIDTH])):
                for channel in range(layer[INPUTS]):
                    pixel = image[channel, y, x]
                    if pixel != 0:
                        tap = ((y - top) * layer[KERNEL_WIDTH] + x - left) * layer[INPUTS] + channel
                        for output in range(outputs):
                            current[output] += weights.image_rows[tap, output] * pixel
        here = settled[position * channels : position * channels + outputs]
        for output in range(outputs):
            residual = (current[output] << layer[SHIFT]) - base[output]
            # A quotient of floats is off by less than one, up to 2^50; the integers put it right.
            quotient = min(max(residual * inverse[output], 0.0), timesteps + 1.0)
            count = np.int64(quotient)
            rest = residual - count * theta[output]
            count += np.int64(rest >= theta[output]) - np.int64(rest < 0)
            here[output] = min(max(count, 0), timesteps)


@compiled
def run_first_layer(layer, start, duration, state, settled, active):
    """The first layer's spikes of a block: a neuron fires in the first ``settled`` steps."""
    width, tiles, columns = layer[WIDTH], layer[TILES], layer[OUT_WIDTH]
    address = np.int64(settled.ctypes.data)
    for position in range(layer[OUT_HEIGHT] * columns):
        row, column = divmod(position, columns)
        for tile in range(tiles):
            neurons = address + 4 * (position * tiles + tile) * width
            for t in range(duration):
                step = start + t
                word = _exceeds_64(neurons, step) if width == 64 else _exceeds_32(neurons, step)
                if word == 0:
                    break
                state.up[((row * BLOCK + t) * columns + column) * tiles + tile] = word
                active[position] |= np.uint64(1) << np.uint64(t)


@compiled
def classify(layer, duration, spikes, classifier, logits, predictions):
    """Follow the logits through a block, and write the class with the largest one, lowest index first, a step."""
    classes, columns = len(logits), layer[OUT_WIDTH]
    for t in range(duration):
        for row in range(layer[OUT_HEIGHT]):
            if spikes.rows[row] >> np.uint64(t) & np.uint64(1) == 0:
                continue
            run, first = (row * BLOCK + t) * (columns + 1), row * columns * layer[OUTPUTS]
            for entry in spikes.up[spikes.first_up[run] : spikes.first_up[run + columns]]:
                for number in range(classes):
                    logits[number] += classifier[first + entry, number]
            for entry in spikes.down[spikes.first_down[run] : spikes.first_down[run + columns]]:
                for number in range(classes):
                    logits[number] -= classifier[first + entry, number]
        best = 0
        for number in range(1, classes):
            if logits[number] > logits[best]:
                best = number
        predictions[t] = best


# --- whole images ---------------------------------------------------------------------------------------------------


@compiled
def any_set(flags, first, stop):
    """Whether one of the flags from ``first`` to ``stop`` is not zero."""
    for index in range(first, stop):  # noqa: SIM110, Numba does not compile generators
        if flags[index] != 0:
            return True
    return False


@compiled
def simulate_image(
    image,
    timesteps,
    weights,
    state,
    window,
    settled,
    spikes,
    emitted,
    counts,
    predictions,
    positive,
    negative,
    sops,
    reached,
):
    """Simulate one image; returns the layer that left 32 bits or -1, and the two sets of spikes."""
    layers = weights.layers
    last = len(layers) - 1
    # Every neuron is looked at in the first step, input or not.
    state.above[:] = 0
    state.pending[:] = 1
    image_counts(layers[0], image, weights, timesteps, settled)
    logits = np.zeros(weights.classifier.shape[1], np.int64)
    ups, downs = np.zeros(BLOCK, np.int64), np.zeros(BLOCK, np.int64)
    for start in range(0, timesteps, BLOCK):
        duration = min(BLOCK, timesteps - start)
        arriving = False
        for number in range(last + 1):
            layer = layers[number]
            positions = layer[OUT_HEIGHT] * layer[OUT_WIDTH]
            masks = positions * layer[TILES]
            spikes, emitted = emitted, spikes
            emitted.active[:positions] = 0
            if number == 0:
                run_first_layer(layer, start, duration, state, settled, emitted.active)
            elif arriving or any_set(state.pending, layer[FIRST_MASK], layer[FIRST_MASK] + masks):
                if not arriving:
                    spikes.active[:] = 0
                bound = run_layer(layer, start, duration, weights, state, counts, window, spikes, emitted.active)
                if bound < 0:
                    return number, spikes, emitted
                reached[number] = max(reached[number], bound)
            arriving = any_set(emitted.active, 0, positions)
            if arriving:
                ups[:] = 0
                downs[:] = 0
                emitted = collect(layer, weights.costs, state, emitted, ups, downs, sops[start:])
                for t in range(duration):
                    positive[start + t, number], negative[start + t, number] = ups[t], downs[t]
            else:
                emitted.rows[: layer[OUT_HEIGHT]] = 0
        classify(layers[last], duration, emitted, weights.classifier, logits, predictions[start : start + duration])
        busy = any_set(state.pending, 0, len(state.pending))
        for neuron in range(len(settled)):
            busy |= settled[neuron] > start + duration
        if not busy:
            for t in range(start + duration, timesteps):
                predictions[t] = predictions[start + duration - 1]
            break
    for neuron in range(len(settled)):
        counts[neuron] = settled[neuron]
    return -1, spikes, emitted


@kept
def simulate_images(
    images,
    timesteps,
    weights,
    state,
    window,
    settled,
    spikes,
    emitted,
    counts,
    predictions,
    positive,
    negative,
    sops,
    reached,
):
    """Simulate images, each until it rests or for ``timesteps`` steps; without Python's lock.

    Args:
        images: (N, C, H, W) int64 with 16 fractional bits.
        timesteps: T.
        weights, state, window: tuples of arrays.
        settled: int32, as long as the first layer has neurons, zero where its tiles are wider than it.
        spikes, emitted: two :class:`Spikes`, used in turn.
        counts: (N, neurons) int32, zero.
        predictions: (N, T) int64.
        positive, negative: (N, T, L) int64, zero.
        sops: (N, T) int64, zero.
        reached: (L,) int64, bounds on the absolute 32-bit potentials of each layer, raised where they grow.

    Returns:
        The number of images done: all, or as many as come before the first that 32-bit potentials do not suffice for.
    """
    for number in range(len(images)):
        layer, spikes, emitted = simulate_image(
            images[number],
            timesteps,
            weights,
            state,
            window,
            settled,
            spikes,
            emitted,
            counts[number],
            predictions[number],
            positive[number],
            negative[number],
            sops[number],
            reached,
        )
        if layer >= 0:
            return number
    return len(images)
