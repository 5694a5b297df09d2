"""The other side of the benchmarks: a plain loop, diffusers and denoising-diffusion-pytorch, each as its own examples
train and sample, on random images."""

import copy
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from ours import Setting

from surrodiff.config.models import DDPM
from surrodiff.kinds import ddpm
from surrodiff.runtime import devices

DECAY = 0.9999
RATE = 2e-4


def diffusers_network(width: int) -> torch.nn.Module:
    """The configuration published as google/ddpm-cifar10-32, at width 128 the paper's Default to the last parameter."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=32,
        block_out_channels=(width, 2 * width, 2 * width, 2 * width),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
        norm_num_groups=width // 4,
    )


def lucidrains_network(width: int) -> torch.nn.Module:
    """denoising-diffusion-pytorch's UNet of the same widths; its blocks and attention are its own."""
    from denoising_diffusion_pytorch import Unet

    return Unet(width, dim_mults=(1, 2, 2, 2))


def _lucidrains_diffusion(network: torch.nn.Module) -> torch.nn.Module:
    from denoising_diffusion_pytorch import GaussianDiffusion

    return GaussianDiffusion(network, image_size=32, objective="pred_noise", beta_schedule="linear")


def _prepared(network: torch.nn.Module, setting: Setting, device: torch.device) -> torch.nn.Module:
    """Compiled networks are also laid out channels last: each peer at its best."""
    network = network.to(device)
    if setting.compiled:
        network = network.to(memory_format=torch.channels_last)
        network.compile(dynamic=False)
    return network


def _batches(batch: int, device: torch.device) -> Callable[[], torch.Tensor]:
    images = torch.randint(0, 256, (4 * batch, 3, 32, 32), dtype=torch.uint8, device=device)

    def draw() -> torch.Tensor:
        x_0 = images[torch.randint(len(images), (batch,), device=device)].float() / 127.5 - 1
        return torch.where(torch.rand(batch, 1, 1, 1, device=device) < 0.5, x_0.flip(-1), x_0)

    return draw


def _trained(network, loss_of, update_ema, batch: int, setting: Setting, device: torch.device) -> Callable[[], None]:
    """A training step: Adam (fused where all else is at its best), clipped, and its moving average."""
    optimiser = torch.optim.Adam(network.parameters(), RATE, fused=setting.compiled)
    draw = _batches(batch, device)

    def step():
        x_0 = draw()
        optimiser.zero_grad(set_to_none=True)
        with devices.autocast(device, setting.precision):
            loss = loss_of(x_0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        update_ema()

    return step


def train_plain(model: DDPM, batch: int, setting: Setting, device: torch.device) -> Callable[[], None]:
    """The paper's Default in the plainest loop: no layout, no fused optimiser, PyTorch's generator."""
    network = ddpm.build(model, 3).to(device).train()
    ema = copy.deepcopy(network).requires_grad_(False)
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, device=device), 0)

    def loss_of(x_0):
        t = torch.randint(1, 1001, (batch,), device=device)
        eps, signal = torch.randn_like(x_0), alpha_bar[t - 1][:, None, None, None]
        return F.mse_loss(network(signal.sqrt() * x_0 + (1 - signal).sqrt() * eps, t).float(), eps)

    @torch.no_grad()
    def update_ema():
        for average, weight in zip(ema.parameters(), network.parameters(), strict=True):
            average.lerp_(weight, 1 - DECAY)

    return _trained(network, loss_of, update_ema, batch, setting, device)


def train_diffusers(width: int, batch: int, setting: Setting, device: torch.device) -> Callable[[], None]:
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    network = _prepared(diffusers_network(width), setting, device).train()
    scheduler = DDPMScheduler(1000, variance_type="fixed_large")
    ema = EMAModel(network.parameters(), decay=DECAY, foreach=setting.compiled)

    def loss_of(x_0):
        t = torch.randint(0, 1000, (batch,), device=device)
        eps = torch.randn_like(x_0)
        return F.mse_loss(network(scheduler.add_noise(x_0, eps, t), t).sample.float(), eps)

    return _trained(network, loss_of, lambda: ema.step(network.parameters()), batch, setting, device)


def train_lucidrains(width: int, batch: int, setting: Setting, device: torch.device) -> Callable[[], None]:
    from ema_pytorch import EMA

    network = _prepared(lucidrains_network(width), setting, device)
    diffusion = _lucidrains_diffusion(network).to(device).train()
    ema = EMA(diffusion, beta=DECAY, update_every=10)  # as its Trainer has it
    # It takes images in [0, 1].
    return _trained(diffusion, lambda x_0: diffusion((x_0 + 1) / 2), ema.update, batch, setting, device)


def sample_diffusers(width: int, batch: int, setting: Setting, device: torch.device) -> Callable[[], None]:
    from diffusers import DDPMScheduler

    network = _prepared(diffusers_network(width), setting, device).eval()
    scheduler = DDPMScheduler(1000, variance_type="fixed_large")
    scheduler.set_timesteps(1000)
    x_t, t = torch.randn(batch, 3, 32, 32, device=device), scheduler.timesteps[500]

    @torch.inference_mode()
    def step():
        with devices.autocast(device, setting.precision):
            eps = network(x_t, t).sample
        scheduler.step(eps, t, x_t)

    return step


def sample_images_diffusers(
    width: int, batch: int, name: str, evaluations: int, setting: Setting, device: torch.device
) -> Callable[[], None]:
    """Whole images by diffusers' sampler of a name in params.yaml, in the loop of its pipelines."""
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, HeunDiscreteScheduler

    kind, steps = {
        "ddim": (partial(DDIMScheduler, clip_sample=False), evaluations),
        "dpm_solver": (DPMSolverMultistepScheduler, evaluations),
        "heun": (HeunDiscreteScheduler, (evaluations + 1) // 2),
    }[name]
    network = _prepared(diffusers_network(width), setting, device).eval()

    @torch.inference_mode()
    def draw():
        scheduler = kind(1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
        scheduler.set_timesteps(steps, device=device)
        x = torch.randn(batch, 3, 32, 32, device=device) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            with devices.autocast(device, setting.precision):
                eps = network(scheduler.scale_model_input(x, t), t).sample
            x = scheduler.step(eps.float(), t, x).prev_sample

    return draw


def sample_lucidrains(width: int, batch: int, setting: Setting, device: torch.device) -> Callable[[], None]:
    diffusion = _lucidrains_diffusion(_prepared(lucidrains_network(width), setting, device)).to(device).eval()
    x_t = torch.randn(batch, 3, 32, 32, device=device)

    @torch.inference_mode()
    def step():
        with devices.autocast(device, setting.precision):
            diffusion.p_sample(x_t, 500)

    return step
