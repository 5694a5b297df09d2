"""The forward process and everything derived from its variances, in float64.

Timesteps are the paper's: t = 1, ..., T, and t = 0 is the data. Tables have T + 1 entries so that a table's entry t is
the value at t; entry 0 is the identity (alpha_bar_0 = 1).
"""

import torch

from surrodiff.config.models import Diffusion


class Schedule:
    """Linear betas (section 4.1) and their derived tables, float64 (T + 1,) on one device.

    beta, alpha, alpha_bar: section 2.1. posterior_variance: of q(x_{t-1} | x_t, x_0), 0 at t = 1.
    signal, noise: the factors of x_0 and eps in x_t.
    sigma: standard deviation of a reverse step, by `variance`:
      fixed_large: sigma_t^2 = beta_t, and at t = 1 the posterior variance at t = 2 (Ho et al., 2020)
      fixed_small: sigma_t^2 = the posterior variance, at t = 1 likewise that at t = 2
    added: the factor of a reverse step's noise: sigma, and 0 at t = 1, whose step ends in the mean.
    """

    def __init__(self, diffusion: Diffusion, variance: str = "fixed_large", device=None):
        self.T = diffusion.T
        beta = torch.linspace(diffusion.beta_1, diffusion.beta_T, self.T, dtype=torch.float64)
        self.beta = torch.cat([torch.zeros(1, dtype=torch.float64), beta]).to(device)
        self.alpha = 1 - self.beta
        self.alpha_bar = torch.cumprod(self.alpha, 0)
        previous = torch.cat([self.alpha_bar[:1], self.alpha_bar[:-1]])
        self.posterior_variance = torch.zeros_like(self.beta)
        self.posterior_variance[1:] = (self.beta * (1 - previous))[1:] / (1 - self.alpha_bar[1:])
        variances = {"fixed_large": self.beta, "fixed_small": self.posterior_variance}[variance].clone()
        variances[1] = self.posterior_variance[2]
        self.sigma = variances.sqrt()
        self.added = self.sigma.clone()
        self.added[:2] = 0
        # x_{t-1} mean = posterior_x0 * x_0 + posterior_xt * x_t
        self.posterior_x0 = torch.zeros_like(self.beta)
        self.posterior_x0[1:] = (previous.sqrt() * self.beta)[1:] / (1 - self.alpha_bar[1:])
        self.posterior_xt = torch.zeros_like(self.beta)
        self.posterior_xt[1:] = (self.alpha.sqrt() * (1 - previous))[1:] / (1 - self.alpha_bar[1:])
        self.signal = self.alpha_bar.sqrt()
        self.noise = (1 - self.alpha_bar).sqrt()
        # mean of x_{t-1} = reverse_scale * (x_t - reverse_eps * eps)
        self.reverse_scale = 1 / self.alpha.sqrt()
        self.reverse_eps = torch.zeros_like(self.beta)
        self.reverse_eps[1:] = self.beta[1:] / self.noise[1:]

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

    def posterior_mean(self, x_0: torch.Tensor, x_t: torch.Tensor, t) -> torch.Tensor:
        """Mean of q(x_{t-1} | x_t, x_0) (Ho et al., 2020, equation 7)."""
        return self.at(self.posterior_x0, t, x_t) * x_0 + self.at(self.posterior_xt, t, x_t) * x_t

    def reverse_mean(self, x_t: torch.Tensor, t, eps: torch.Tensor) -> torch.Tensor:
        """Mean of p(x_{t-1} | x_t) from the predicted noise (Algorithm 2, line 4)."""
        return self.at(self.reverse_scale, t, x_t) * (x_t - self.at(self.reverse_eps, t, x_t) * eps)
