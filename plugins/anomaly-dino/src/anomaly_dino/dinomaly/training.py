"""Dinomaly's optimiser and its learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class StableAdamW(Optimizer):
    """AdamW with AMSGrad whose step shrinks where a gradient is large for its running variance.

    Args:
        parameters: to optimise.
        lr: learning rate.
        betas: of the running mean and variance.
        eps: added to the denominator.
        weight_decay: decoupled, times the learning rate.

    Source: Wortsman et al., Stable and low-precision training for large-scale vision-language models, NeurIPS 2023.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-10,
        weight_decay: float = 1e-4,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _update(parameter, parameter.grad, self.state[parameter], group)
        return loss


def _update(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state["step"] = torch.zeros(())
        state |= {name: torch.zeros_like(parameter) for name in ("mean", "variance", "greatest")}
    state["step"] += 1
    step, (first, second) = int(state["step"]), group["betas"]
    state["mean"].lerp_(gradient, 1 - first)
    state["variance"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    torch.maximum(state["greatest"], state["variance"], out=state["greatest"])
    denominator = state["greatest"].sqrt() / math.sqrt(1 - second**step) + group["eps"]
    clip = max(1.0, float((gradient / denominator).square().mean().sqrt()))
    parameter.mul_(1 - group["lr"] * group["weight_decay"])
    parameter.addcdiv_(state["mean"], denominator, value=-group["lr"] / (1 - first**step) / clip)


def rate(step: int, steps: int, warm_up: int, last: float) -> float:
    """The share of the learning rate in a step, counted from 0: it rises in a line from 0, then falls as a cosine.

    Args:
        step: number.
        steps: of the training; after them it stays at ``last``.
        warm_up: how many steps it rises; the first one changes nothing.
        last: the share at the end.
    """
    if step < warm_up:
        return step / max(1, warm_up - 1)
    if step >= steps:
        return last
    return last + (1 - last) * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2
