"""AdamW's moments at half their size in checkpoints: rounded to bfloat16 where an epoch ends, kept exactly elsewhere.

They are half of the state of a run. After an epoch the optimizer itself goes on with the rounded ones, so a run that is
resumed there is the run that was never stopped, bit by bit. A moment is off by 2^-8 of its value at most, and soon made
of newer gradients. Optimizers that keep moments in fewer bits at every step exist and reach the same results (Dettmers
et al., "8-bit Optimizers via Block-wise Quantization", https://arxiv.org/abs/2110.02861).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

MOMENTS = ("exp_avg", "exp_avg_sq")


def round_moments(optimizer: AdamW) -> None:
    """Give all moments values that bfloat16 has."""
    for state in optimizer.state.values():
        for name in MOMENTS:
            state[name].copy_(state[name].bfloat16())


def with_small_moments(optimizer_state: dict[str, Any]) -> dict[str, Any]:
    """A ``state_dict`` of AdamW with moments in bfloat16 where that loses nothing, as after `round_moments`.

    ``load_state_dict`` gives them the precision of their parameters again.
    """
    states = {
        parameter: {name: _smallest(value) if name in MOMENTS else value for name, value in state.items()}
        for parameter, state in optimizer_state["state"].items()
    }
    return optimizer_state | {"state": states}


def _smallest(moment: Tensor) -> Tensor:
    rounded = moment.bfloat16()
    return rounded if torch.equal(rounded.to(moment.dtype), moment) else moment
