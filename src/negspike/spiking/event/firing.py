"""Tiles of neurons, as LLVM: where potentials start, what unweighted spikes add, and which neurons fire.

A 64-bit potential is the residual z - base - n * theta itself. A 32-bit one is the upper part of it, without its lower
16 bits: weights are multiplied by 2^16, and unweighted spikes by theta, so these bits are those of -base - d * theta,
with d the net count minus the unweighted net spikes that have arrived.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from negspike.spiking.event.vectors import I32, broadcast, compare, constant, load, store, to_lanes, to_mask


def make_start(width: int, wide: bool) -> Any:
    """``start(state, values)``: addresses. Sets ``width`` potentials to values, wide ones to negative values."""

    @intrinsic
    def start(typingctx, state, values):
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            state, values = arguments
            first = load(builder, values, 64 if wide else 32, width, 64)
            store(builder, builder.neg(first) if wide else first, state, 64)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return start


def make_candidates(width: int) -> Any:
    """``candidates(state, theta)``: addresses; words of potentials that reach the thresholds, and of negative ones."""

    @intrinsic
    def candidates(typingctx, state, theta):
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values, thresholds = (load(builder, address, 64, width, 64) for address in arguments)
            return context.make_tuple(builder, signature.return_type, compare(builder, values, thresholds))

        return types.UniTuple(types.uint64, 2)(types.int64, types.int64), codegen

    return candidates


def _moves(builder: Any, potential: Any, addresses: tuple[Any, ...], relative: Any, width: int) -> tuple[Any, Any]:
    """32-bit potentials less and more one threshold, exactly; addresses of theta, its lower bits, and the base's."""
    theta, theta_low, base_low = addresses
    threshold, low_threshold = load(builder, theta, 32, width, 64), load(builder, theta_low, 32, width, 64)
    mask, sign = constant(width, 0xFFFF, 32), constant(width, 31, 32)
    low = builder.sub(load(builder, base_low, 32, width, 64), builder.mul(relative, low_threshold))
    low = builder.and_(low, mask)
    # -1 where the lower 16 bits borrow from the upper ones, or carry into them
    borrow = builder.ashr(builder.sub(low, low_threshold), sign)
    carry = builder.ashr(builder.sub(builder.sub(mask, low), low_threshold), sign)
    less, more = builder.sub(potential, threshold), builder.add(potential, threshold)
    return builder.add(less, borrow), builder.sub(more, carry)


def make_receive(width: int, wide: bool) -> Any:
    """``receive(state, relative, theta, theta_low, base_low, up, down)``: what unweighted spikes add.

    Addresses, and the words of the positive and the negative spikes. Each adds or takes off one ``theta``; with 64 bits
    that is whatever scale the spikes have, and ``relative``, ``theta_low`` and ``base_low`` are not looked at.
    """

    @intrinsic
    def receive(typingctx, state, relative, theta, theta_low, base_low, up, down):
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            state, relative, theta, theta_low, base_low, up, down = arguments
            up, down = (to_lanes(builder, word, width) for word in (up, down))
            potential = load(builder, state, 64 if wide else 32, width, 64)
            if wide:
                scale = load(builder, theta, 64, width, 64)
                less, more = builder.sub(potential, scale), builder.add(potential, scale)
            else:
                counts, one = load(builder, relative, 32, width, 64), constant(width, 1, 32)
                less, more = _moves(builder, potential, (theta, theta_low, base_low), counts, width)
                counts = builder.select(up, builder.sub(counts, one), counts)
                store(builder, builder.select(down, builder.add(counts, one), counts), relative, 64)
            potential = builder.select(up, more, builder.select(down, less, potential))
            store(builder, potential, state, 64)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5, types.uint64, types.uint64), codegen

    return receive


def make_fire(width: int, wide: bool) -> Any:
    """``fire(state, count, relative, constants, bounds, up, down)``: addresses, bounds, and words of candidates.

    ``constants`` are the addresses of theta, its lower bits and the base's; ``bounds`` the lowest and highest count.
    Emits at most one spike a neuron, updates potentials and counts, and returns five words: positive spikes, negative
    spikes, counts above the lowest, counts below the highest, and neurons that may have to fire in the next step.
    """

    @intrinsic
    def fire(typingctx, state, count, relative, constants, bounds, up, down):
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            state, count, relative, constants, bounds, up, down = arguments
            addresses = tuple(builder.extract_value(constants, index) for index in range(3))
            lowest, highest = (
                broadcast(builder, builder.trunc(builder.extract_value(bounds, index), I32), width) for index in (0, 1)
            )
            size = 64 if wide else 32
            zero = ir.Constant(ir.VectorType(ir.IntType(size), width), None)
            up, down = (to_lanes(builder, mask, width) for mask in (up, down))
            potential, threshold = load(builder, state, size, width, 64), load(builder, addresses[0], size, width, 64)
            counts, one = load(builder, count, 32, width, 64), constant(width, 1, 32)
            if wide:
                less, more = builder.sub(potential, threshold), builder.add(potential, threshold)
            else:
                others = load(builder, relative, 32, width, 64)
                less, more = _moves(builder, potential, addresses, others, width)
                up = builder.and_(up, builder.icmp_signed(">=", less, zero))
                others = builder.select(up, builder.add(others, one), others)
                others = builder.select(down, builder.sub(others, one), others)
                store(builder, others, relative, 64)
            potential = builder.select(up, less, builder.select(down, more, potential))
            counts = builder.select(up, builder.add(counts, one), counts)
            counts = builder.select(down, builder.sub(counts, one), counts)
            store(builder, potential, state, 64)
            store(builder, counts, count, 64)
            above = builder.icmp_signed(">", counts, lowest)
            below = builder.icmp_signed("<", counts, highest)
            again = builder.and_(builder.icmp_signed("<", potential, zero), above)
            again = builder.or_(again, builder.and_(builder.icmp_signed(">=", potential, threshold), below))
            words = [to_mask(builder, lanes, width) for lanes in (up, down, above, below, again)]
            return context.make_tuple(builder, signature.return_type, words)

        addresses, bounds = types.UniTuple(types.int64, 3), types.UniTuple(types.int64, 2)
        arguments = (*[types.int64] * 3, addresses, bounds, types.uint64, types.uint64)
        return types.UniTuple(types.uint64, 5)(*arguments), codegen

    return fire


def make_settling(width: int) -> Any:
    """``settling(address, value)``: words of the int32 at an address larger than a value, and smaller than minus it."""

    @intrinsic
    def settling(typingctx, address, value):
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address, value = arguments
            counts, limit = load(builder, address, 32, width, 64), builder.trunc(value, I32)
            more = builder.icmp_signed(">", counts, broadcast(builder, limit, width))
            less = builder.icmp_signed("<", counts, broadcast(builder, builder.neg(limit), width))
            words = [to_mask(builder, lanes, width) for lanes in (more, less)]
            return context.make_tuple(builder, signature.return_type, words)

        return types.UniTuple(types.uint64, 2)(types.int64, types.int64), codegen

    return settling
