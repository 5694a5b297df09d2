"""The forward process and everything derived from its variances, in float64.

Timesteps are the paper's: t = 1, ..., T, and t = 0 is the data. Tables have T + 1 entries so that a table's entry t is
the value at t; entry 0 is the identity (alpha_bar_0 = 1).
"""

from collections.abc import Sequence

import torch

from surrodiff.config.diffusion import Diffusion


class Schedule:
    """The betas of a diffusion and their derived tables, float64 (T + 1,) on one device.

    timesteps: those that the reverse process takes, rising; all if not given. One keeps its number, its alpha_bar and
    what the network is asked; the step from it leads to the one before it in `timesteps`, `previous[t]`, and the
    tables of that step are those of the betas between the two (section 2.2.2, equations 10 and 11). Tables of steps are
    NaN at timesteps that are not taken.

    beta, alpha, alpha_bar: section 2.1. posterior_variance: of q(x_{previous} | x_t, x_0), 0 at the first timestep.
    signal, noise: the factors of x_0 and eps in x_t.
    sigma: standard deviation of a reverse step, by `variance`:
      fixed_large: sigma_t^2 = beta_t, and at the first timestep the posterior variance at the second (Ho et al., 2020)
      fixed_small: sigma_t^2 = the posterior variance, at the first timestep likewise that at the second
      learned: as fixed_small; the network tells where it lies between that and beta (see prediction.mean_and_sigma)
    draws: 1 where a reverse step adds noise, 0 at the first timestep, whose step ends in the mean.
    """

    def __init__(
        self,
        diffusion: Diffusion,
        variance: str = "fixed_large",
        device=None,
        timesteps: Sequence[int] | None = None,
    ):
        self.T, self.prediction, self.variance = diffusion.T, diffusion.prediction, variance
        taken = tuple(timesteps or range(1, self.T + 1))
        first, second = taken[0], taken[min(1, len(taken) - 1)]
        beta = torch.tensor((0.0, *diffusion.betas()), dtype=torch.float64)
        self.alpha_bar = torch.cumprod(1 - beta, 0).to(device)
        self.previous = torch.zeros(self.T + 1, dtype=torch.int64)
        self.previous[list(taken)] = torch.tensor((0, *taken[:-1]))
        self.previous = self.previous.to(device)
        before = self.alpha_bar[self.previous]
        if len(taken) < self.T:
            beta = (before - self.alpha_bar) / before
            is_taken = torch.zeros(self.T + 1, dtype=torch.bool)
            is_taken[[0, *taken]] = True
            beta = torch.where(is_taken.to(device), beta, torch.nan)
        self.timesteps, self.beta = taken, beta.to(device)
        self.alpha = 1 - self.beta
        self.posterior_variance = torch.zeros_like(self.beta)
        self.posterior_variance[1:] = (self.beta * (1 - before))[1:] / (1 - self.alpha_bar[1:])
        # With one timestep alone there is no second one, whose posterior variance would stand for the first's 0.
        least = self.posterior_variance[second] if second != first else self.beta[first]
        small = self.posterior_variance.clone()
        small[first] = least
        large = self.beta.clone()
        self.log_small, self.log_large = small.log(), large.log()
        large[first] = least
        self.sigma = (large if variance == "fixed_large" else small).sqrt()
        self.draws = torch.ones_like(self.beta)
        self.draws[: first + 1] = 0
        # mean of the step = posterior_x0 * x_0 + posterior_xt * x_t
        self.posterior_x0 = torch.zeros_like(self.beta)
        self.posterior_x0[1:] = (before.sqrt() * self.beta)[1:] / (1 - self.alpha_bar[1:])
        self.posterior_xt = torch.zeros_like(self.beta)
        self.posterior_xt[1:] = (self.alpha.sqrt() * (1 - before))[1:] / (1 - self.alpha_bar[1:])
        self.signal = self.alpha_bar.sqrt()
        self.noise = (1 - self.alpha_bar).sqrt()
        # mean of the step = reverse_scale * (x_t - reverse_eps * eps)
        self.reverse_scale = 1 / self.alpha.sqrt()
        self.reverse_eps = torch.zeros_like(self.beta)
        self.reverse_eps[1:] = self.beta[1:] / self.noise[1:]

    def steps(self, t_start: int, t_stop: int = 0) -> tuple[int, ...]:
        """The timesteps from which steps lead from x_{t_start} to x_{t_stop}, falling.

        Raises ValueError where no step begins or ends at one of these. What is left of T is at the last timestep taken.
        """
        for t in (t_start, t_stop):
            if t not in (0, self.T, *self.timesteps):
                raise ValueError(f"no step begins or ends at t = {t}; the timesteps taken are {self.timesteps}")
        return tuple(t for t in reversed(self.timesteps) if t_stop < t <= t_start)

    def at(self, table: torch.Tensor, t, x: torch.Tensor) -> torch.Tensor:
        """table[t] in x's precision, shaped to broadcast over images x; t is an int or int64 (B,)."""
        values = table[t].to(x.dtype)
        return values.reshape(-1, *[1] * (x.ndim - 1)) if values.ndim else values

    def q_sample(self, x_0: torch.Tensor, t, eps: torch.Tensor) -> torch.Tensor:
        """x_t ~ q(x_t | x_0): sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps; images (B, C, H, W), t int or (B,)."""
        return self.at(self.signal, t, x_0) * x_0 + self.at(self.noise, t, x_0) * eps

    def predict_x0(self, x_t: torch.Tensor, t, eps: torch.Tensor) -> torch.Tensor:
        """The x_0 that q_sample would have taken to x_t with this eps."""
        return (x_t - self.at(self.noise, t, x_t) * eps) / self.at(self.signal, t, x_t)

    def predict_eps(self, x_t: torch.Tensor, t, x_0: torch.Tensor) -> torch.Tensor:
        """The eps with which q_sample would have taken this x_0 to x_t."""
        return (x_t - self.at(self.signal, t, x_t) * x_0) / self.at(self.noise, t, x_t)

    def posterior_mean(self, x_0: torch.Tensor, x_t: torch.Tensor, t) -> torch.Tensor:
        """Mean of q(x_{previous} | x_t, x_0) (Ho et al., 2020, equation 7)."""
        return self.at(self.posterior_x0, t, x_t) * x_0 + self.at(self.posterior_xt, t, x_t) * x_t

    def reverse_mean(self, x_t: torch.Tensor, t, eps: torch.Tensor) -> torch.Tensor:
        """Mean of p(x_{previous} | x_t) from the predicted noise (Algorithm 2, line 4)."""
        return self.at(self.reverse_scale, t, x_t) * (x_t - self.at(self.reverse_eps, t, x_t) * eps)
