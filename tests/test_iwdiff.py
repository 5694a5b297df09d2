"""What IWDiff's weights minimise (docs/iwdiff.md): autograd, orders in k, and a Gaussian whose likelihood is known."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surrodiff.diffusion.objectives import effective_noises, noise_weights

PIXELS = 12
LOSSES = st.lists(st.floats(0, 5), min_size=2, max_size=4)


def log_mean_exp(values: np.ndarray, axis=0) -> np.ndarray:
    return np.logaddexp.reduce(values, axis=axis) - math.log(values.shape[axis])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("weights", "sign"), [("importance", 1), ("iwae", -1)])
def test_the_gradient_with_constant_weights_is_that_of_a_logarithm_of_a_sum(weights, sign, reduction):
    """Of log sum exp(+l) by Algorithm 3, and of -log sum exp(-l) by equations 14 and 15."""
    scale = PIXELS if reduction == "sum" else 1
    theta = torch.tensor([0.3, -0.7], requires_grad=True, dtype=torch.float64)
    features = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def losses() -> torch.Tensor:
        return (torch.einsum("d,dkb->kb", theta, features) - 1).square() / 3

    (weights_of_losses,) = torch.autograd.grad(
        (noise_weights(losses(), weights, reduction, PIXELS) * losses()).sum(), theta
    )
    (of_the_logarithm,) = torch.autograd.grad(sign * torch.logsumexp(sign * scale * losses(), 0).sum() / scale, theta)
    assert torch.allclose(weights_of_losses, of_the_logarithm, rtol=1e-10)


def test_the_weights_of_opposite_losses_are_those_of_the_other_sign():
    losses = torch.rand(4, 6, generator=torch.Generator().manual_seed(1))
    for reduction in ("mean", "sum"):
        algorithm_3 = noise_weights(-losses, "importance", reduction, PIXELS)
        assert torch.equal(noise_weights(losses, "iwae", reduction, PIXELS), algorithm_3)


@given(LOSSES)
def test_algorithm_3_is_above_the_mean_loss_and_equation_15_below_it(losses):
    """With the smallest and the largest loss as the limits of both."""
    values, slack = np.array(losses), 1e-9
    above, below = log_mean_exp(values), -log_mean_exp(-values)
    assert values.min() - slack <= below <= values.mean() + slack
    assert values.mean() - slack <= above <= values.max() + slack


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0, 4)), min_size=2, max_size=4))
def test_the_expectation_of_one_rises_with_k_and_that_of_the_other_falls(outcomes):
    """Exactly, over all k-tuples of a loss with few outcomes: "L_{t,k+1} >= L_{t,k}" with log w = -l."""
    shares, losses = np.array(outcomes).T
    shares = shares / shares.sum()

    def expectations(k: int) -> tuple[float, float]:
        tuples = np.array(list(itertools.product(range(len(losses)), repeat=k)))
        chance, values = shares[tuples].prod(1), losses[tuples]
        return float(chance @ log_mean_exp(values, 1)), float(chance @ -log_mean_exp(-values, 1))

    above, below = zip(*(expectations(k) for k in range(1, 5)), strict=True)
    assert above[0] == pytest.approx(shares @ losses)
    assert below[0] == pytest.approx(shares @ losses)
    assert (np.diff(above) >= -1e-9).all()
    assert (np.diff(below) <= 1e-9).all()
    # In the limit the logarithms of the means.
    assert above[-1] <= math.log(shares @ np.exp(losses)) + 1e-9
    assert below[-1] >= -math.log(shares @ np.exp(-losses)) - 1e-9


@given(LOSSES.filter(lambda losses: len(set(losses)) > 1))
def test_a_mean_over_pixels_is_a_temperature_at_which_the_weights_are_nearly_equal(losses):
    values = torch.tensor(losses, dtype=torch.float64)[:, None] / 3072
    for weights in ("importance", "iwae"):
        w = noise_weights(values, weights, "mean", 3072)
        assert torch.allclose(w, torch.full_like(w, 1 / len(losses)), rtol=2e-3)
        assert effective_noises(w).item() > 1 - 1e-5


class Gaussian:
    """x_0 ~ N(0, 0.6^2), three steps of noise, and the reverse process that inverts them exactly: p_t(x_{t-1} | x_t)
    is the posterior of the data's own distribution, and p(x_T) its marginal. So -log p(x_0) is known, and the bound is
    tight: its mean is the entropy of the data."""

    STD, BETAS = 0.6, (0.3, 0.5, 0.6)
    ENTROPY = 0.5 * math.log(2 * math.pi * math.e * STD**2)

    def __init__(self, count: int = 100_000, k: int = 8):
        self.generator, self.shape = np.random.default_rng(0), (k, count)
        self.x_0 = self.STD * self.generator.standard_normal(count)
        self.alpha_bar = (1.0, *np.cumprod(1 - np.array(self.BETAS)))

    def marginal(self, t: int) -> float:
        """The variance of x_t."""
        return self.alpha_bar[t] * self.STD**2 + 1 - self.alpha_bar[t]

    def noised(self, x, share: float) -> np.ndarray:
        """k draws of sqrt(share) x + sqrt(1 - share) eps."""
        return math.sqrt(share) * x + math.sqrt(1 - share) * self.generator.standard_normal(self.shape)

    def reverse(self, t: int, x_t) -> tuple[np.ndarray, float]:
        """Mean and variance of p(x_{t-1} | x_t)."""
        beta = self.BETAS[t - 1]
        mean = math.sqrt(1 - beta) * self.marginal(t - 1) / self.marginal(t) * x_t
        return mean, self.marginal(t - 1) * beta / self.marginal(t)

    def ratios(self, t: int) -> np.ndarray:
        """-log p(x_{t-1} | x_t) / q(x_t | x_{t-1}), (k, N), of k pairs for each x_0: what equation 15 is made of."""
        before = self.noised(self.x_0, self.alpha_bar[t - 1])
        x_t = self.noised(before, 1 - self.BETAS[t - 1])
        mean = math.sqrt(1 - self.BETAS[t - 1]) * before
        return log_normal(x_t, mean, self.BETAS[t - 1]) - log_normal(before, *self.reverse(t, x_t))

    def divergences(self, t: int) -> np.ndarray:
        """The terms of equation 3, (k, N), of k draws of x_t for each x_0: what the squared errors stand for."""
        x_t = self.noised(self.x_0, self.alpha_bar[t])
        mean, variance = self.reverse(t, x_t)
        if t == 1:
            return -log_normal(self.x_0, mean, variance)
        rest, beta = 1 - self.alpha_bar[t], self.BETAS[t - 1]
        own = math.sqrt(self.alpha_bar[t - 1]) * beta / rest * self.x_0
        own = own + math.sqrt(1 - beta) * (1 - self.alpha_bar[t - 1]) / rest * x_t
        return kl(own, beta * (1 - self.alpha_bar[t - 1]) / rest, mean, variance)

    def prior(self, of: str) -> float:
        """The mean of -log p(x_T), or of KL(q(x_T | x_0) || p(x_T))."""
        last = self.alpha_bar[-1]
        if of == "ratios":
            return 0.5 * math.log(2 * math.pi * math.e * self.marginal(3))
        return kl(math.sqrt(last) * self.x_0, 1 - last, 0.0, self.marginal(3)).mean()


def log_normal(x, mean, variance) -> np.ndarray:
    return -0.5 * (np.log(2 * np.pi * variance) + (x - mean) ** 2 / variance)


def kl(mean, variance, other_mean, other_variance) -> np.ndarray:
    return 0.5 * (np.log(other_variance / variance) + (variance + (mean - other_mean) ** 2) / other_variance - 1)


@pytest.mark.parametrize("of", ["ratios", "divergences"])
def test_equation_15_of_a_perfect_model_passes_its_likelihood_and_algorithm_3_does_not(of):
    """Sums over t: at k = 1 the bound, tight here. Beyond, -log mean exp(-l) falls below -log p, which no upper bound
    may; log mean exp(+l), whose gradient Algorithm 3 has, stays above it, the farther the larger k."""
    gaussian = Gaussian()
    terms = [getattr(gaussian, of)(t) for t in (1, 2, 3)]
    below, above = (
        [
            gaussian.prior(of) + sum((sign * log_mean_exp(sign * term[:k])).mean() for term in terms)
            for k in (1, 2, 4, 8)
        ]
        for sign in (-1, 1)
    )
    assert below[0] == pytest.approx(gaussian.ENTROPY, abs=0.02)
    assert above[0] == pytest.approx(gaussian.ENTROPY, abs=0.02)
    assert (np.diff(below) < -0.005).all()
    assert (np.diff(above) > 0.005).all()
    assert below[1] < gaussian.ENTROPY - 0.05
    assert above[1] > gaussian.ENTROPY + 0.05
