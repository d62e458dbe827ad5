"""A network that Brevitas has trained with weights and activations of 4 bits, on handwritten digits, as a spiking one.

pip install brevitas; python examples/brevitas_digits.py
"""

import brevitas.nn as qnn
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import negspike


def network() -> nn.Module:
    """8x8 images to ten logits."""
    return nn.Sequential(
        *(qnn.QuantConv2d(1, 16, 3, weight_bit_width=4), nn.BatchNorm2d(16), qnn.QuantReLU(bit_width=4)),
        *(qnn.QuantConv2d(16, 32, 3, weight_bit_width=4), nn.BatchNorm2d(32), qnn.QuantReLU(bit_width=4)),
        *(nn.MaxPool2d(2), nn.Flatten(), qnn.QuantLinear(128, 10, weight_bit_width=4, bias=True)),
    )


def main(epochs: int = 10) -> negspike.SpikingNetwork:
    """Train, convert, compare every neuron and every prediction; all on the CPU in less than a minute."""
    torch.manual_seed(0)
    digits = load_digits()
    images, labels = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(1437).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    model.eval()
    spiking = negspike.convert(model, images[:1])
    print(negspike.verify(spiking, images[1437:], model))
    print(negspike.simulate(spiking, images[1437:], labels[1437:]))
    print(spiking)
    return spiking


if __name__ == "__main__":
    main()
