"""Adam (Kingma & Ba, 2015), by PyTorch's function of it.

torch.optim.Adam, which calls that function, imports all that compiling needs when it is made: two to three seconds of
every training job, most of which compile nothing.
"""

from collections.abc import Iterable

import torch
from torch.optim.adam import adam

EPS = 1e-8


class Adam:
    """Moves parameters by their gradients with the rate `lr`, which may change from step to step.

    fused: in one kernel; by default PyTorch chooses what is fastest without.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        fused: bool | None = None,
    ):
        self.parameters, self.lr, self.betas, self.fused = list(parameters), lr, betas, fused
        # The moments lie in memory as their parameter does: the fused kernel walks memory in order.
        self.moments = {
            "exp_avg": [torch.zeros_like(p) for p in self.parameters],
            "exp_avg_sq": [torch.zeros_like(p) for p in self.parameters],
            # Counted on the host where not fused, so that no step waits for the device.
            "step": [torch.zeros((), device=p.device if fused else "cpu") for p in self.parameters],
        }

    def zero_grad(self):
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self):
        """One step of the parameters that have a gradient."""
        moved = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        exp_avg, exp_avg_sq, steps = ([values[i] for i in moved] for values in self.moments.values())
        adam(
            [self.parameters[i] for i in moved],
            [self.parameters[i].grad for i in moved],
            exp_avg,
            exp_avg_sq,
            [],
            steps,
            fused=self.fused,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=self.lr,
            weight_decay=0.0,
            eps=EPS,
            maximize=False,
        )

    def state(self) -> dict[str, torch.Tensor]:
        """Its tensors by name, for a checkpoint."""
        return {f"{i}.{key}": value for key, values in self.moments.items() for i, value in enumerate(values)}

    def load_state(self, tensors: dict[str, torch.Tensor]):
        """Put back what `state` gave, in the layout that the parameters have. Raises KeyError for what is missing."""
        for name, value in self.state().items():
            value.copy_(tensors[name])
