"""How a training step draws timesteps: uniformly, by importance (section 2.2.1, equations 8 and 9), log-normally."""

import torch

from surrodiff.diffusion.schedule import Schedule

LOG_SIGMA_MEAN, LOG_SIGMA_STD = -1.2, 1.2  # Karras et al. (2022), table 1


class Uniform:
    """t uniform in 1..T; every loss weighs 1."""

    def __init__(self, T: int, device=None):
        self.T = T

    @classmethod
    def of(cls, schedule: Schedule):
        """Those of a schedule, on its device."""
        return cls(schedule.T, schedule.alpha_bar.device)

    def draw(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Uniform numbers u (B,) in (0, 1) to timesteps int64 (B,) and weights float32 (B,)."""
        return 1 + (u * self.T).long().clamp(max=self.T - 1), torch.ones_like(u)

    def update(self, t: torch.Tensor, losses: torch.Tensor):
        """Nothing to learn."""

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def load_state(self, state: dict[str, torch.Tensor]):
        pass


class Importance(Uniform):
    """p_t proportional to sqrt(mean(L_t^2)) over the last `length` losses of each t (Nichol & Dhariwal, 2021).

    Uniform until every t has `length` losses; then mixed with `uniform_share` of the uniform distribution. A loss
    weighs 1 / (T p_t), so the objective's mean stays. Everything lives on the device; no call waits for it.
    """

    def __init__(self, T: int, device=None, length: int = 10, uniform_share: float = 0.001):
        self.T, self.length, self.uniform_share = T, length, uniform_share
        # A ring of `length` losses for each t, and one slot more that takes what is not to be kept.
        self.history = torch.zeros(T * length + 1, dtype=torch.float32, device=device)
        self.counts = torch.zeros(T, dtype=torch.int64, device=device)

    def probabilities(self) -> torch.Tensor:
        """p_t for t = 1..T, float64 (T,)."""
        mean_square = self.history[:-1].reshape(self.T, self.length).double().square().mean(1)
        p = mean_square.sqrt()
        p = p / p.sum().clamp(min=torch.finfo(p.dtype).tiny)
        p = p * (1 - self.uniform_share) + self.uniform_share / self.T
        warm = (self.counts >= self.length).all()
        return torch.where(warm, p / p.sum(), torch.full_like(p, 1 / self.T))

    def draw(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Uniform numbers u (B,) in (0, 1) to timesteps int64 (B,) and weights float32 (B,)."""
        p = self.probabilities()
        i = torch.searchsorted(p.cumsum(0), u.double()).clamp(max=self.T - 1)
        return 1 + i, (1 / (self.T * p[i])).float()

    def update(self, t: torch.Tensor, losses: torch.Tensor):
        """Append the losses (B,) to the histories of their timesteps (B,), in the batch's order."""
        i = t - 1
        same = i[:, None] == i[None, :]
        before = same.tril(-1).sum(1)  # earlier entries of the batch with the same t
        after = same.triu(1).sum(1)
        slot = i * self.length + (self.counts[i] + before) % self.length
        # A t that comes more than `length` times in one batch: only its last `length` losses stay.
        slot = torch.where(after < self.length, slot, self.T * self.length)
        self.history.scatter_(0, slot, losses.detach().float())
        self.counts.scatter_add_(0, i, torch.ones_like(i))

    def state(self) -> dict[str, torch.Tensor]:
        return {"history": self.history, "counts": self.counts}

    def load_state(self, state: dict[str, torch.Tensor]):
        self.history.copy_(state["history"])
        self.counts.copy_(state["counts"])


class LogNormal(Uniform):
    """The noise as Karras et al. (2022) draw it in training: log sigma is normal, to the nearest timestep of the
    schedule. Every loss weighs 1: what it draws more often, it means to weigh more."""

    def __init__(self, log_sigma: torch.Tensor):
        """log_sigma: (T,), at t = 1, ..., T."""
        super().__init__(len(log_sigma))
        middles = (log_sigma[1:] + log_sigma[:-1]) / 2
        below = torch.special.ndtr((middles - LOG_SIGMA_MEAN) / LOG_SIGMA_STD)
        self.cumulative = torch.cat([below, torch.ones_like(below[:1])])

    @classmethod
    def of(cls, schedule: Schedule):
        return cls(torch.log(schedule.noise / schedule.signal)[1:])

    def draw(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Uniform numbers u (B,) in (0, 1) to timesteps int64 (B,) and weights float32 (B,)."""
        return 1 + torch.searchsorted(self.cumulative, u.double()).clamp(max=self.T - 1), torch.ones_like(u)


# By the word of `objective.timesteps`.
TIMESTEPS = {"uniform": Uniform.of, "importance": Importance.of, "lognormal": LogNormal.of}
