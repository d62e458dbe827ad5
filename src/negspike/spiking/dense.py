"""The dense engine: PyTorch convolutions of spikes, on the CPU or CUDA, exact because no partial sum can round.

A convolution of spikes sums weights with signs, so every partial sum, in whatever order, stays at or below the sum of
a neuron's absolute weights. Where that is at most 2^24, float32 holds each of them exactly. Where it is more, the
weights are split into parts, w = 256 high + low, which are convolved on their own.

That leaves no room for algorithms that compute something else than sums of the operands: Winograd's and Fourier's
transforms, reduced precision of the operands (TF32, bfloat16) or of the outputs. They are switched off while the
engine runs, whatever the caller's settings, and every synapse is compared with a float64 product before its first use.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from negspike.errors import InputError
from negspike.spiking.counting import operations_per_spike, relays_per_change
from negspike.spiking.exact import FLOAT32_EXACT, exact_arithmetic, weight_parts
from negspike.spiking.floats import sum_exactly, sum_floats
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.linear import add_current
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Readout, Shape, Sum, Synapses, sources
from negspike.spiking.pooling import largest_counts
from negspike.spiking.recording import Recording

CHUNK_BYTES = 256 << 20
LARGEST_CHUNK = 500
# Working on a part of a chunk costs two more copies of that part; above this share it does not pay.
WHOLE_CHUNK_SHARE = 0.75
CHUNK_SIZES = 8
Rows = torch.Tensor | slice


class _Connection:
    """One synapse on the device."""

    def __init__(self, synapses: Synapses, source: Shape, device: torch.device, *, floats: bool) -> None:
        self.synapses, self.source, self.device = synapses, source, device
        self.scale = torch.from_numpy(synapses.scale).to(device)[:, None, None]
        self.targets = None if synapses.targets is None else torch.from_numpy(synapses.targets).to(device)
        # What a sum emits can be any integer: it is read without weights, in integers.
        self.floats = floats
        self.parts = [
            (None if part is None else torch.from_numpy(part).to(device), shift) for part, shift in _parts(synapses)
        ]

    def add(self, total: torch.Tensor, emitted: torch.Tensor) -> None:
        """Add what a source has emitted, (n, channels, height, width), to (n, channels, height, width) int64 totals."""
        sums = self.sums(emitted.float()) if self.floats else self._picked(emitted)
        if self.targets is None:
            total += sums * self.scale
        else:
            total[:, self.targets] += sums * self.scale

    def sums(self, spikes: torch.Tensor) -> torch.Tensor:
        """Sums over the windows of (n, channels, height, width) float32 spikes, int64, exact."""
        results = [sum_floats(self.synapses, spikes, part) for part, _ in self.parts]
        total = results[0].to(torch.int64) << self.parts[0][1]
        for result, (_, shift) in zip(results[1:], self.parts[1:], strict=True):
            total += result.to(torch.int64) << shift
        return total

    def _picked(self, emitted: torch.Tensor) -> torch.Tensor:
        if self.synapses.channels is not None:
            emitted = emitted[:, torch.from_numpy(self.synapses.channels).to(self.device)]
        rows, columns = self.synapses.window.stride
        return emitted[:, :, ::rows, ::columns]

    def verify(self, images: int) -> None:
        """Compare dense, sparse and extreme spikes with the float64 product, alone and as a chunk of ``images``.

        Libraries choose their algorithm by the size of a chunk, so both sizes are tried.

        Raises:
            ArithmeticError: this device or library does not compute plain sums.
        """
        spikes = self._trial()
        expected = torch.from_numpy(sum_exactly(self.synapses, spikes)).to(self.device)
        trial = torch.from_numpy(spikes).float().to(self.device)
        chunk = torch.arange(images, device=self.device) % len(trial)
        single = all(torch.equal(self.sums(trial[i : i + 1]), expected[i : i + 1]) for i in range(len(trial)))
        if not single or not torch.equal(self.sums(trial[chunk]), expected[chunk]):
            raise ArithmeticError(
                f"synapses from {self.synapses.source}: float32 convolutions of PyTorch {torch.__version__} on "
                f"{self.device} are not exact sums; use engine 'reference', and please report this"
            )

    def _trial(self) -> np.ndarray:
        """(3, channels, height, width) int64 spikes: dense, sparse, and those that take a neuron to its largest sum."""
        random = np.random.default_rng(0)
        spikes = random.choice(np.array([-1, 1]), (3, *self.source))
        spikes[1] *= random.random(spikes[1].shape) < 0.1
        weight, window = self.synapses.weight, self.synapses.window
        if weight is None:
            return spikes
        output = int(np.abs(weight.astype(np.int64)).sum((1, 2, 3)).argmax())
        first = output // (len(weight) // self.synapses.groups) * weight.shape[1]
        names = np.arange(self.source[0]) if self.synapses.channels is None else self.synapses.channels
        middle = [size // 2 for size in window.out_size(*self.source[1:])]
        spikes[2] = 0
        for a in range(window.kernel[0]):
            for b in range(window.kernel[1]):
                y = middle[0] * window.stride[0] + a * window.dilation[0] - window.padding[0][0]
                x = middle[1] * window.stride[1] + b * window.dilation[1] - window.padding[1][0]
                if 0 <= y < self.source[1] and 0 <= x < self.source[2]:
                    tap = weight[output, :, 0, 0] if self.synapses.shares_taps else weight[output, :, a, b]
                    spikes[2][names[first : first + len(tap)], y, x] = np.sign(tap)
        return spikes


class NodeState:
    """One node on the device, and the state of the chunk that is being simulated.

    Neurons keep the residual z - base - n * theta: at rest it is in [0, theta), or beyond at a bound.
    """

    def __init__(self, engine: DenseEngine, node: Neurons | MaxPool | Sum | Readout, images: int) -> None:
        self.node, device = node, engine.device
        shape = (images, *node.shape)
        self.count = torch.zeros(shape, dtype=torch.int32, device=device)
        self.emitted = torch.zeros(shape, dtype=torch.int64 if isinstance(node, Sum) else torch.int8, device=device)
        # Before the first step nothing is at rest: a neuron whose base + theta is at most 0 fires without any input.
        self.fired = torch.ones(images, dtype=torch.bool, device=device)
        if isinstance(node, Neurons):
            self.theta, base = (torch.from_numpy(part).to(device)[:, None, None] for part in (node.theta, node.base))
            self.residual = (-base).expand(shape).clone()
        if isinstance(node, Readout):
            self.residual = torch.from_numpy(node.bias).to(device)[:, None, None].expand(shape).clone()

    def fire(self, residual: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """Update both in place; return the spikes, int8."""
        assert isinstance(self.node, Neurons)
        up, down = residual >= self.theta, residual < 0
        if self.node.high is not None:
            up &= count < self.node.high
        if self.node.low is not None:
            down &= count > self.node.low
        change = up.to(torch.int8) - down.to(torch.int8)
        residual -= change * self.theta
        count += change
        return change


class DenseEngine:
    """Simulates a chunk of images at once; images and nodes at rest are left out of the work.

    Args:
        network: the network to simulate.
        device: where to.
        threads: CPU threads, or None for PyTorch's own choice.
    """

    def __init__(self, network: SpikingNetwork, device: torch.device, threads: int | None = None) -> None:
        self.network, self.device, self.threads = network, device, threads
        # A residual of 8 bytes, a count and a spike of 5, and as much again while a step is computed.
        held = sum(prod(node.shape) for node in network.nodes)
        self.chunk_size = int(np.clip(CHUNK_BYTES // (32 * held), 1, LARGEST_CHUNK))
        relays = {name: {-1: cost} for name, cost in relays_per_change(network).items()}
        self.costs = {
            name: {number: torch.from_numpy(cost).to(device) for number, cost in costs.items()}
            for name, costs in (operations_per_spike(network) | relays).items()
        }
        self.connections: dict[str, list[_Connection]] = {}
        with exact_arithmetic(threads):
            for node in network.nodes:
                self.connections[node.name] = []
                for synapses in () if isinstance(node, MaxPool) else node.synapses:
                    if synapses.source == INPUT:  # convolved once, in float64
                        continue
                    floats = not isinstance(network.node(synapses.source), Sum)
                    try:
                        connection = _Connection(synapses, network.shapes[synapses.source], device, floats=floats)
                    except OverflowError as error:
                        raise InputError(f"{node.name}: {error}; use engine event or reference") from error
                    self.connections[node.name].append(connection)
                    if floats:
                        connection.verify(self.chunk_size)

    def run(self, encoded: np.ndarray, timesteps: int) -> Recording:
        """Simulate (N, C, H, W) int64 images, as the network encodes them, for ``timesteps`` steps."""
        return self.advance(self.start(len(encoded)), encoded, timesteps)

    def start(self, images: int) -> dict[str, NodeState]:
        """The state of every node, by name, before so many images."""
        return {node.name: NodeState(self, node, images) for node in self.network.nodes}

    def advance(self, states: dict[str, NodeState], change: np.ndarray, timesteps: int) -> Recording:
        """Go on from a state, in place, for ``timesteps`` steps.

        Args:
            states: of all nodes, by name.
            change: (N, C, H, W) int64, as the network encodes images, what is added to the images seen so far.
            timesteps: as many.
        """
        with exact_arithmetic(self.threads):
            return self._advance(states, change, timesteps)

    def _advance(self, states: dict[str, NodeState], change: np.ndarray, timesteps: int) -> Recording:
        network = self.network
        recording = Recording.empty(network, images=len(change), timesteps=timesteps)
        currents = dict(self._image_currents(change))
        for name in currents:
            states[name].fired |= torch.from_numpy(change.any((1, 2, 3))).to(self.device)
        # The bias alone decides until something arrives.
        readout = states[network.readout.name]
        prediction = readout.residual[:, :, 0, 0].argmax(1)
        for t in range(timesteps):
            for node in network.nodes:
                self._step(states, node, t, currents.pop(node.name, None), recording)
            if readout.fired.any():
                prediction = readout.residual[:, :, 0, 0].argmax(1)
            recording.predictions[:, t] = prediction.cpu().numpy()
            if not any(bool(state.fired.any()) for state in states.values()):
                recording.predictions[:, t + 1 :] = recording.predictions[:, t : t + 1]
                break
        recording.counts = {node.name: states[node.name].count.cpu().numpy() for node in network.populations}
        recording.logits = states[network.readout.name].residual[:, :, 0, 0].cpu().numpy()
        return recording

    def _image_currents(self, encoded: np.ndarray) -> list[tuple[str, torch.Tensor]]:
        """What the image adds to the nodes that listen to it, at the first step."""
        currents = []
        for node in self.network.listeners[INPUT]:
            assert not isinstance(node, MaxPool)
            total = np.zeros((len(encoded), *node.shape), np.int64)
            for synapses in node.synapses:
                if synapses.source == INPUT:
                    add_current(total, synapses, sum_exactly(synapses, encoded))
            currents.append((node.name, torch.from_numpy(total).to(self.device)))
        return currents

    def _step(
        self,
        states: dict[str, NodeState],
        node: Neurons | MaxPool | Sum | Readout,
        t: int,
        image: torch.Tensor | None,
        recording: Recording,
    ) -> None:
        """One node in one time step, for the images in which something can change."""
        state = states[node.name]
        heard = [states[name].fired for name in sources(node) if name != INPUT]
        # With nothing heard now and nothing emitted a step ago, nothing in this node of this image can change.
        busy = torch.stack([state.fired, *heard]).any(0)
        rows = _rows(busy)
        if rows is None:
            state.fired = busy  # all False
            return
        if isinstance(node, MaxPool):
            largest = largest_counts(node.window, states[node.source].count[rows])
            emitted = (largest - state.count[rows]).to(torch.int8)
            state.count[rows] = largest
        else:
            emitted = self._integrate(states, state, rows, image)
        changed = emitted != 0
        fired = torch.zeros_like(state.fired)
        fired[rows] = changed.flatten(1).any(1)
        state.fired = fired
        if not isinstance(node, Readout):
            state.emitted[rows] = emitted
            self._record(recording, node, t, rows, emitted)

    def _integrate(
        self, states: dict[str, NodeState], state: NodeState, rows: Rows, image: torch.Tensor | None
    ) -> torch.Tensor:
        """Add what arrives; return what the node emits, (n, channels, height, width)."""
        node = state.node
        current = torch.zeros_like(state.count[rows], dtype=torch.int64) if image is None else image[rows]
        for connection in self.connections[node.name]:
            connection.add(current, states[connection.synapses.source].emitted[rows])
        if isinstance(node, Sum):
            return current
        residual = state.residual[rows]
        residual += current
        emitted = current
        if isinstance(node, Neurons):
            count = state.count[rows]
            emitted = state.fire(residual, count)
            state.count[rows] = count
        state.residual[rows] = residual
        return emitted

    def _record(
        self, recording: Recording, node: Neurons | MaxPool | Sum, t: int, rows: Rows, emitted: torch.Tensor
    ) -> None:
        index = rows if isinstance(rows, slice) else rows.cpu().numpy()
        if isinstance(node, Neurons):
            up, down = (emitted > 0).sum((1, 2, 3)).cpu().numpy(), (emitted < 0).sum((1, 2, 3)).cpu().numpy()
            recording.add_spikes(node, t, positive=up, negative=down, images=index)
        changed = emitted != 0
        alike = changed.sum(1, keepdim=True)
        for number, cost in self.costs[node.name].items():
            operations = ((alike if len(cost) == 1 else changed) * cost).sum((1, 2, 3)).cpu().numpy()
            (recording.relays if isinstance(node, Sum) else recording.layer_sops[:, :, number])[index, t] += operations


def _parts(synapses: Synapses) -> list[tuple[np.ndarray | None, int]]:
    """The weights, where there are any, in parts that float32 adds up exactly for spikes, with their shifts.

    Raises:
        OverflowError: a sum of so many inputs can leave the exact range.
    """
    taps = prod(synapses.window.kernel)
    if synapses.weight is None:
        if taps > FLOAT32_EXACT:
            raise OverflowError(f"sums of {taps} spikes can leave the exact range of float32")
        return [(None, 0)]
    # where a window shares its weight, they are multiplied with its sum of spikes
    return [*weight_parts(synapses.weight, taps if synapses.shares_taps else 1)]


def largest_float32_sum(synapses: Synapses) -> int:
    """The largest absolute sum that the dense engine adds up in float32, at most 2^24; 0 where it refuses to."""
    taps = prod(synapses.window.kernel)
    try:
        parts = [part for part, _ in _parts(synapses)]
    except OverflowError:
        return 0
    largest = max(1 if part is None else int(np.abs(part).sum((1, 2, 3)).max()) for part in parts)
    return largest * (taps if synapses.weight is None or synapses.shares_taps else 1)


def _rows(busy: torch.Tensor) -> Rows | None:
    """The images to work on: all of a chunk, some of it, or none.

    Some idle images are taken along, which changes nothing for them, so that few different numbers occur: oneDNN
    builds and keeps a program for every shape that it meets.
    """
    number = int(busy.sum())
    if number == 0:
        return None
    step = -(-len(busy) // CHUNK_SIZES)
    number = -(-number // step) * step
    if number > WHOLE_CHUNK_SHARE * len(busy):
        return slice(None)
    return busy.to(torch.int8).argsort(descending=True, stable=True)[:number]
