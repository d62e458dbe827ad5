"""PyTorch's optimisers without its compiler, whose import takes longer than a small training.

Decorators keep the compiler away from some of their methods, and import it to do so. Nothing here is compiled, so these
methods are taken without their decorators.
"""

from __future__ import annotations

from inspect import unwrap

import torch


class Optimizer(torch.optim.Optimizer):
    """As PyTorch's, to the bit."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)


class Adam(Optimizer, torch.optim.Adam):
    """As PyTorch's, to the bit."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))
