"""Residual networks for small images, as a configuration names them: ``model: examples/residual_networks.py:resnet20``.

CIFAR's ResNet-20 is that of K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2: three
stages of 16, 32 and 64 channels, three blocks each; where the size halves, the shortcut is a 1x1 convolution.
"""

import torch
from torch import nn


class Block(nn.Module):
    """relu(x + two 3x3 convolutions of x)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.shortcut(x))


def residual(
    widths: tuple[int, ...] = (16, 32, 64), blocks: int = 3, inputs: int = 3, num_classes: int = 10
) -> nn.Sequential:
    """Stages of so many channels, each of so many blocks, and an average of each channel before the classifier."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0])]
    layers.append(nn.ReLU(inplace=True))
    before = widths[0]
    for stage, width in enumerate(widths):
        for number in range(blocks):
            layers.append(Block(before, width, 2 if stage > 0 and number == 0 else 1))
            before = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes)]
    for layer in (module for part in layers for module in part.modules()):
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(*layers)


def resnet20(num_classes: int = 10) -> nn.Sequential:
    """ResNet-20 for CIFAR."""
    return residual(num_classes=num_classes)
