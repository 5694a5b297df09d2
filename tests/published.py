"""Improved DDPM's code (Nichol & Dhariwal, 2021) written anew in float64, with its names and its timesteps from 0: an
independent reading of the learned variance, the bound's terms and the respaced process. Its approximation of the normal
distribution function is replaced by the function, and a pixel's mass is not cut off at 1e-12."""

import math

import torch


class GaussianDiffusion:
    """The tables of `betas` (T,); a term's `t` is int64 (B,)."""

    def __init__(self, betas):
        self.betas = torch.as_tensor(betas, dtype=torch.float64)
        one = torch.ones(1, dtype=torch.float64)
        self.alphas_cumprod = torch.cumprod(1 - self.betas, 0)
        self.alphas_cumprod_prev = torch.cat([one, self.alphas_cumprod[:-1]])
        self.posterior_variance = self.betas * (1 - self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)
        self.posterior_log_variance_clipped = torch.log(
            torch.cat([self.posterior_variance[1:2], self.posterior_variance[1:]])
        )
        self.posterior_mean_coef1 = self.betas * self.alphas_cumprod_prev.sqrt() / (1 - self.alphas_cumprod)
        self.posterior_mean_coef2 = (1 - self.alphas_cumprod_prev) * (1 - self.betas).sqrt() / (1 - self.alphas_cumprod)
        self.sqrt_recip_alphas_cumprod = (1 / self.alphas_cumprod).sqrt()
        self.sqrt_recipm1_alphas_cumprod = (1 / self.alphas_cumprod - 1).sqrt()

    def q_sample(self, x_start, t, noise):
        bar = extract(self.alphas_cumprod, t)
        return bar.sqrt() * x_start + (1 - bar).sqrt() * noise

    def q_posterior_mean(self, x_start, x_t, t):
        return extract(self.posterior_mean_coef1, t) * x_start + extract(self.posterior_mean_coef2, t) * x_t

    def p_mean_variance(self, model_output, x, t, var_type: str, clip_denoised: bool = False):
        """Mean and log variance where the output (B, 2 C, H, W) is the noise and where the variance lies."""
        eps, values = model_output.chunk(2, 1)
        if var_type == "learned":
            min_log, max_log = extract(self.posterior_log_variance_clipped, t), extract(torch.log(self.betas), t)
            frac = (values + 1) / 2
            log_variance = frac * max_log + (1 - frac) * min_log
        elif var_type == "fixed_small":
            log_variance = extract(self.posterior_log_variance_clipped, t).expand_as(x)
        else:
            large = torch.log(torch.cat([self.posterior_variance[1:2], self.betas[1:]]))
            log_variance = extract(large, t).expand_as(x)
        pred_xstart = (
            extract(self.sqrt_recip_alphas_cumprod, t) * x - extract(self.sqrt_recipm1_alphas_cumprod, t) * eps
        )
        if clip_denoised:
            pred_xstart = pred_xstart.clamp(-1, 1)
        return self.q_posterior_mean(pred_xstart, x, t), log_variance

    def vb_terms_bpd(self, model_output, x_start, x_t, t, var_type: str, clip_denoised: bool = False):
        """The bound's terms (B,), in bits per dimension."""
        true_mean = self.q_posterior_mean(x_start, x_t, t)
        true_log_variance = extract(self.posterior_log_variance_clipped, t)
        mean, log_variance = self.p_mean_variance(model_output, x_t, t, var_type, clip_denoised)
        terms, last = normal_kl(true_mean, true_log_variance, mean, log_variance), t == 0
        terms[last] = decoder_nll(x_start[last], mean[last], log_variance[last] / 2)
        return terms.flatten(1).mean(1) / math.log(2)


class SpacedDiffusion(GaussianDiffusion):
    """The process of some of another one's timesteps, `use_timesteps`, from 0 and rising."""

    def __init__(self, use_timesteps, betas):
        last, new = 1.0, []
        for i, alpha_cumprod in enumerate(GaussianDiffusion(betas).alphas_cumprod.tolist()):
            if i in use_timesteps:
                new.append(1 - alpha_cumprod / last)
                last = alpha_cumprod
        super().__init__(new)


def extract(table, t):
    return table[t][:, None, None, None]


def normal_kl(mean1, logvar1, mean2, logvar2):
    return 0.5 * (-1.0 + logvar2 - logvar1 + torch.exp(logvar1 - logvar2) + (mean1 - mean2) ** 2 * torch.exp(-logvar2))


def decoder_nll(x, mean, log_scale):
    """-log of the mass of x's bin, from the nearer tail; exact up to 37 standard deviations from it."""
    below, above = (x - 1 / 255 - mean) / log_scale.exp(), (x + 1 / 255 - mean) / log_scale.exp()
    below, above = torch.where(x < -0.999, -torch.inf, below), torch.where(x > 0.999, torch.inf, above)
    upper_tail = below + above > 0
    near, far = torch.where(upper_tail, below, -above), torch.where(upper_tail, above, -below)
    return -torch.log((torch.erfc(near / 2**0.5) - torch.erfc(far / 2**0.5)) / 2)
