"""The inner operation: rows of weights added to sums in registers, as LLVM."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload
from numba.np.numpy_support import from_dtype

from negspike.spiking.event.vectors import I32, I64, compare, constant, load, store

# So many rows of weights are added before the loop over them goes on; lists are filled up with rows of zeros.
ROWS_AT_ONCE = 4
# The array that rows are in says how many bytes a weight has.
ROW_TYPES: dict[int, type[np.generic]] = {1: np.int8, 2: np.int16, 3: np.uint8}
_WEIGHT_BYTES = {from_dtype(np.dtype(kind)): size for size, kind in ROW_TYPES.items()}
# Bytes are summed in 16 bits: so many rows, unsigned as the lower 8 bits of 24 are or signed, cannot leave them.
MOST_BYTES = 255 & -ROWS_AT_ONCE


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


def load_row(builder: Any, address: Any, bits: int, width: int, row_bytes: int, offset: int) -> Any:
    """``width`` integers of ``bits`` that stand ``offset`` bytes behind an address in a row."""
    place = builder.add(address, ir.Constant(I64, offset)) if offset else address
    return load(builder, place, bits, width, math.gcd(64, row_bytes, offset))


def _add_pair(
    builder: Any, rows: tuple[Any, Any], bits: int, width: int, row_bytes: int, offset: int, *, signed: bool = True
) -> Any:
    """The sum of two rows of integers, twice as wide.

    Args:
        rows: addresses of two rows.
        bits, width: of what is read of each.
        row_bytes: of a whole row.
        offset: bytes in a row before what is read.
        signed: what is read; 16 bits always are.
    """
    if not PAIR_BITS:
        kind, extend = ir.VectorType(ir.IntType(2 * bits), width), builder.sext if signed else builder.zext
        return builder.add(*(extend(load_row(builder, row, bits, width, row_bytes, offset), kind) for row in rows))
    size = min(PAIR_BITS // bits, width)
    name = {(16, 512): "avx512.pmaddw.d.512", (16, 256): "avx2.pmadd.wd"}
    name |= {(8, 512): "avx512.pmaddubs.w.512", (8, 256): "avx2.pmadd.ub.sw"}
    vector, wider = ir.VectorType(ir.IntType(bits), size), ir.VectorType(ir.IntType(2 * bits), size // 2)
    multiply_add = builder.module.declare_intrinsic(
        f"llvm.x86.{name[bits, size * bits]}", (), ir.FunctionType(wider, [vector, vector])
    )
    halves, ones = np.arange(size).reshape(-1, 2, 64 // bits), constant(size, 1, bits)
    sums = []
    for begin in range(0, width, size):
        place = offset + begin * bits // 8
        both = [load_row(builder, row, bits, size, row_bytes, place) for row in rows]
        for half in (0, 1):
            order = _interleave(halves[:, half].ravel())
            mask = ir.Constant(ir.VectorType(I32, size), order)
            mixed = builder.shuffle_vector(*both, mask)
            # of bytes, the first operand is unsigned and the second signed
            sums.append(builder.call(multiply_add, [ones, mixed] if signed else [mixed, ones]))
    while len(sums) > 1:
        sums = [_join(builder, *sums[number : number + 2]) for number in range(0, len(sums), 2)]
    return sums[0]


def _join(builder: Any, first: Any, second: Any) -> Any:
    """Two vectors as one."""
    mask = list(range(2 * first.type.count))
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(I32, len(mask)), mask))


def _add_rows(
    builder: Any, total: Any, weights: Any, entries: Any, count: Any, width: int, weight_bytes: int, subtract: bool
) -> Any:
    """Add (or subtract) the rows of weights that ``count`` integers name to a vector kept in registers.

    ``entries`` is a pointer to the integers, ``count`` is a multiple of ROWS_AT_ONCE. Rows of 3 bytes a weight hold the
    upper 16 bits of all weights and then the lower 8. Bytes are summed apart, in 16 bits.
    """
    i32, i16 = ir.VectorType(I32, width), ir.VectorType(ir.IntType(16), width)
    row_bytes, whole = weight_bytes * width, weight_bytes == 2
    before = builder.block
    loop, after = builder.append_basic_block("rows"), builder.append_basic_block("rows_done")
    builder.cbranch(builder.icmp_signed(">", count, ir.Constant(I64, 0)), loop, after)
    builder.position_at_end(loop)
    index = builder.phi(I64)
    index.add_incoming(ir.Constant(I64, 0), before)
    running = [(builder.phi(i32), total if whole else ir.Constant(i32, None))] if weight_bytes > 1 else []
    if not whole:
        running.append((builder.phi(i16), ir.Constant(i16, None)))
    first = builder.gep(entries, [index])
    add = builder.sub if subtract and whole else builder.add
    sums = [value for value, _ in running]

    def row(number: int) -> Any:
        entry = builder.zext(builder.load(builder.gep(first, [ir.Constant(I64, number)])), I64)
        return builder.add(weights, builder.mul(entry, ir.Constant(I64, row_bytes)))

    for number in range(0, ROWS_AT_ONCE, 2):
        pair = row(number), row(number + 1)
        parts = [_add_pair(builder, pair, 16, width, row_bytes, 0)] if weight_bytes > 1 else []
        if not whole:
            place = (weight_bytes - 1) * width
            parts.append(_add_pair(builder, pair, 8, width, row_bytes, place, signed=weight_bytes == 1))
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
    if whole:
        return results[0]
    if weight_bytes == 1:
        found = builder.sext(results[0], i32)
    else:
        high, low = results
        found = builder.add(builder.shl(high, constant(width, 8, 32)), builder.zext(low, i32))
    return builder.sub(total, found) if subtract else builder.add(total, found)


def weight_bytes(rows):
    """Bytes a weight of an array of rows; a constant in compiled functions."""
    return next(size for size, kind in ROW_TYPES.items() if rows.dtype == kind)


@overload(weight_bytes)
def _weight_bytes(rows):
    size = _WEIGHT_BYTES[rows.dtype]
    return lambda rows: size


def make_accumulate(width: int, wide: bool) -> Any:
    """``accumulate(state, rows, first, entries, begin, positive, negative, vector)``.

    ``rows`` is the array of all weights, ``first`` the byte at which the tile's begin, ``entries`` an array of numbers
    of its rows; ``state`` and ``vector`` are addresses, ``positive`` and ``negative`` are counts, multiples of
    ROWS_AT_ONCE. Adds the rows of the ``positive`` entries from ``begin`` on to the ``width`` potentials at ``state``
    and subtracts those of the ``negative`` entries that follow them.

    With potentials of 32 bits, ``vector`` are the thresholds, and two masks are returned: neurons that may have reached
    them, and those whose potential is below zero. With 64 bits, the sum of the rows is multiplied by ``vector`` before
    it is added, and the masks are not worth anything.
    """

    @intrinsic
    def accumulate(typingctx, state, rows, first, entries, begin, positive, negative, vector):
        size = _WEIGHT_BYTES[rows.dtype]

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            state, rows, first, entries, begin, positive, negative, vector = arguments
            data = context.make_array(signature.args[1])(context, builder, rows).data
            tile = builder.add(builder.ptrtoint(data, I64), first)
            total = constant(width, 0, 32) if wide else load(builder, state, 32, width, 64)
            names = builder.gep(context.make_array(signature.args[3])(context, builder, entries).data, [begin])
            total = _add_rows(builder, total, tile, names, positive, width, size, subtract=False)
            rest = builder.gep(names, [positive])
            total = _add_rows(builder, total, tile, rest, negative, width, size, subtract=True)
            if wide:
                product = builder.mul(
                    builder.sext(total, ir.VectorType(I64, width)), load(builder, vector, 64, width, 64)
                )
                store(builder, builder.add(load(builder, state, 64, width, 64), product), state, 64)
                words = [ir.Constant(I64, 0)] * 2
            else:
                store(builder, total, state, 64)
                words = compare(builder, total, load(builder, vector, 32, width, 64))
            return context.make_tuple(builder, signature.return_type, words)

        return types.UniTuple(types.uint64, 2)(types.int64, rows, types.int64, entries, *[types.int64] * 4), codegen

    return accumulate
