"""Vector operations inside Numba functions, as LLVM: loads, masks, lists of the bits that are set, prefetching."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

# Integers of a list that are copied at a time.
COPIED = 32
CACHE_LINE = 64
I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
ZERO, THREE = ir.Constant(I32, 0), ir.Constant(I64, 3)
# For each byte the indices of the bits that are set, lowest first, then zeros.
BITS = np.array([([bit for bit in range(8) if byte >> bit & 1] + [0] * 8)[:8] for byte in range(256)], np.uint8)


def load(builder: Any, address: Any, bits: int, width: int, align: int) -> Any:
    vector = ir.VectorType(ir.IntType(bits), width)
    return builder.load(builder.inttoptr(address, vector.as_pointer()), align=align)


def store(builder: Any, value: Any, address: Any, align: int) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=align)


def constant(width: int, value: int, bits: int) -> Any:
    kind = ir.IntType(bits)
    return ir.Constant(ir.VectorType(kind, width), [ir.Constant(kind, value)] * width)


def to_mask(builder: Any, lanes: Any, width: int) -> Any:
    """<width x i1> to an unsigned 64-bit word."""
    word = builder.bitcast(lanes, ir.IntType(width))
    return word if width == 64 else builder.zext(word, I64)


def to_lanes(builder: Any, mask: Any, width: int) -> Any:
    word = mask if width == 64 else builder.trunc(mask, ir.IntType(width))
    return builder.bitcast(word, ir.VectorType(I1, width))


def broadcast(builder: Any, value: Any, width: int) -> Any:
    vector = ir.VectorType(value.type, width)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ZERO)
    return builder.shuffle_vector(one, one, constant(width, 0, 32))


def compare(builder: Any, values: Any, thresholds: Any) -> list[Any]:
    """Words of the lanes that have reached their threshold, and of those below zero."""
    width = values.type.count
    lanes = (
        builder.icmp_signed(">=", values, thresholds),
        builder.icmp_signed("<", values, ir.Constant(values.type, None)),
    )
    return [to_mask(builder, lane, width) for lane in lanes]


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
        firsts = broadcast(builder, builder.trunc(first, number), 8)
        for byte in range(8):
            bits = builder.and_(builder.lshr(word, ir.Constant(I64, 8 * byte)), ir.Constant(I64, 0xFF))
            indices = builder.zext(load(builder, builder.add(table, builder.shl(bits, THREE)), 8, 8, 8), vector)
            indices = builder.add(indices, constant(8, 8 * byte, number.width))
            store(builder, builder.add(indices, firsts), builder.ptrtoint(place, I64), number.width // 8)
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
        shifts = broadcast(builder, builder.trunc(shift, number), COPIED)
        before = builder.block
        loop, after = builder.append_basic_block("copy"), builder.append_basic_block("copied")
        builder.branch(loop)
        builder.position_at_end(loop)
        index = builder.phi(I64)
        index.add_incoming(ir.Constant(I64, 0), before)
        addresses = [builder.ptrtoint(builder.gep(pointer, [index]), I64) for pointer in (origin, to)]
        values = load(builder, addresses[0], number.width, COPIED, size)
        store(builder, builder.add(values, shifts), addresses[1], size)
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


# into the first and the second level of the cache
fetch_state, fetch_weights = _make_prefetch(True, 3), _make_prefetch(False, 2)


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
