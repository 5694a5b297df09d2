"""The networks: sizes as published, shapes, initial outputs, costs."""

import math
from pathlib import Path

import pytest
import torch

from surrodiff import networks
from surrodiff.config import params
from surrodiff.config.models import DDPM, SNGAN, Classifier, Network
from surrodiff.kinds.registry import kind_of
from surrodiff.networks.blocks import Attention, MBConvBlock, ResBlock, TimestepEmbedding
from surrodiff.networks.sngan import Discriminator, Generator, hinge_discriminator
from surrodiff.planning import plan
from surrodiff.planning.runs import ModelConfig

ROOT = Path(__file__).parents[1]
PRESETS = ["test", "demo", "quick", "paper"]
# Trainable parameters and Table 4.3's "Parameters, M" (facts of the paper).
PAPER = {
    "Default": (35_746_307, 34.21),
    "DeepRes1": (24_275_587, 23.27),
    "ShallowRes2": (25_838_595, 24.76),
    "ShallowRes1": (17_714_563, 17.02),
    "MBConv64": (12_001_859, 11.51),
    "MBConv96": (26_831_715, 25.68),
}


def configs(preset: str) -> dict[str, ModelConfig]:
    made = plan.build(params.load(ROOT / "params.yaml", preset=preset))
    return {made.runs[run].name: made.runs[run].config for run in made.of_stage("models")}


def shapes_of(config: ModelConfig) -> tuple:
    """Everything about a configuration that a network's shapes depend on."""
    return (config.model.image_size, str(getattr(config.model, "network", config.model.kind)))


@pytest.fixture(scope="module")
def paper() -> dict[str, ModelConfig]:
    return configs("paper")


def build(config: ModelConfig) -> torch.nn.Module:
    return kind_of(config.model).build(config.model, config.channels, 10)


def on_meta(config: ModelConfig) -> torch.nn.Module:
    with torch.device("meta"):
        return build(config)


def macs(config: ModelConfig) -> int:
    return kind_of(config.model).macs_per_image(config.model, config.channels)


@pytest.mark.parametrize("name", PAPER)
def test_parameters_are_those_of_the_paper(paper, name):
    count, published = PAPER[name]
    found = networks.trainable_parameters(on_meta(paper[name]))
    assert found == count
    assert round(networks.parameters_by_paper(found, paper[name].model), 2) == published


def test_rows_that_change_no_architecture_have_the_parameters_of_default(paper):
    same = [
        n for n, c in paper.items() if isinstance(c.model, DDPM) and c.model.network == paper["Default"].model.network
    ]
    assert {"ShortDiffusion", "IWDiff", "ImportanceSampling"} <= set(same)
    assert networks.trainable_parameters(on_meta(paper["ShortDiffusion"])) == PAPER["Default"][0]


def test_half_the_resolution_has_one_level_less_so_that_the_lowest_is_default_s(paper):
    half = paper["DDPMHalf"].model.network
    assert half == paper["Default"].model.network.model_copy(update={"channel_multipliers": [1, 2, 2]})
    assert networks.trainable_parameters(on_meta(paper["DDPMHalf"])) == PAPER["ShallowRes2"][0]
    for preset in PRESETS:
        found = configs(preset)
        lowest = [
            found[name].model.image_size >> len(found[name].model.network.channel_multipliers)
            for name in ("Default", "DDPMHalf")
        ]
        assert lowest[0] == lowest[1]


def test_sngan_has_the_published_parameters(paper):
    config = paper["SNGAN"]
    assert networks.trainable_parameters(on_meta(config)) == 4_276_739
    with torch.device("meta"):
        discriminator = Discriminator(config.model.image_size, 3, config.model.discriminator_channels)
    assert networks.trainable_parameters(discriminator) == 1_053_824


def test_operations_of_default_and_of_half_the_resolution(paper):
    default = macs(paper["Default"])
    assert default == pytest.approx(6.22e9, rel=0.01)
    # From the paper's own sampling speeds, 16x16 costs 1/2.53 of 32x32 on a GPU; by operations it is about a quarter.
    assert macs(paper["DDPMHalf"]) == pytest.approx(default / 4, rel=0.05)
    assert macs(paper["DeepRes1"]) < 0.7 * default
    assert macs(paper["MBConv64"]) < 0.25 * default


def test_operations_of_a_known_network_are_counted_exactly():
    network = {"block": "standard", "base_channels": 2, "channel_multipliers": [1], "num_res_blocks": 1}
    network |= {"attention_levels": [0], "groups": 1, "dropout": 0.0}
    model = configs("test")["Default"].model.model_copy(update={"network": Network(**network), "image_size": 4})
    found = kind_of(model).macs_per_image(model, 1)
    pixels, ch = 16, 2
    conv = lambda c_in, c_out, k=3: pixels * k * k * c_in * c_out  # noqa: E731
    block = lambda c_in: conv(c_in, ch) + conv(ch, ch) + 4 * ch * ch + (conv(c_in, ch, 1) if c_in != ch else 0)  # noqa: E731
    attention = conv(ch, 3 * ch, 1) + conv(ch, ch, 1) + 2 * pixels * pixels * ch
    expected = 4 * ch * ch + 16 * ch * ch + conv(1, ch) + conv(ch, 1)
    expected += 3 * block(ch) + 2 * block(2 * ch) + 4 * attention
    assert found == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_output_shapes_of_every_network_of_every_preset(preset):
    made = {shapes_of(config): config for config in configs(preset).values()}
    assert len(made) >= 6
    for config in made.values():
        model, size = config.model, config.model.image_size
        network, shape = on_meta(config), (3, config.channels, size, size)
        with torch.device("meta"):
            match model:
                case Classifier():
                    features, logits = network(torch.empty(shape))
                    assert features.shape == (3, 2 * model.width)
                    assert logits.shape == (3, 10)
                case DDPM():
                    assert network(torch.empty(shape), torch.ones(3, dtype=torch.long)).shape == shape
                case SNGAN():
                    assert network(torch.empty(3, model.z_dim)).shape == shape


@pytest.mark.parametrize("name", PAPER)
def test_an_untrained_network_predicts_almost_nothing(name):
    config = configs("test")[name]
    torch.manual_seed(0)
    network = build(config)
    x = torch.randn(4, 1, 8, 8)
    out = network(x, torch.tensor([1, 2, 5, 8]))
    assert out.shape == x.shape
    assert out.abs().max() < 1e-3
    out.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def xavier(layer: torch.nn.Module) -> float:
    """The standard deviation of Xavier's uniform weights: sqrt(2 / (fan-in + fan-out))."""
    outputs, inputs, *kernel = layer.weight.shape
    return math.sqrt(2 / ((inputs + outputs) * math.prod(kernel)))


def by_default(layer: torch.nn.Module) -> float:
    """PyTorch's, of weights and biases: uniform in +-1 / sqrt(fan-in)."""
    return 1 / math.sqrt(3 * layer.weight[0].numel())


def deviation(values: torch.Tensor, expected: float) -> bool:
    """Whether uniform values around 0 have a standard deviation, within what their number allows."""
    values, room = values.detach(), 5 / math.sqrt(values.numel())
    return abs(float(values.std()) / expected - 1) < room and abs(float(values.mean())) < room * expected


def standard_levels(network: torch.nn.Module) -> list[tuple[torch.nn.Module, torch.nn.Module]]:
    """Every block of a UNet and the attention after it, or what stands in its place."""
    return [(m.block, m.attention) for m in network.modules() if hasattr(m, "attention")]


def test_standard_blocks_begin_as_in_the_author_s_code(paper):
    """Xavier and zero biases; the last convolution of a block and of the network almost nothing; and attention, which
    the block initialises with itself, all of it at gain 1: a standard deviation of 0.063 at 256 channels."""
    torch.manual_seed(0)
    network = build(paper["Default"])
    levels = standard_levels(network)
    attentions = [attention for _, attention in levels if isinstance(attention, Attention)]
    assert (len(levels), len(attentions)) == (2 * 4 + 2 + 3 * 4, 2 + 1 + 3)
    nearly_zero = {block.conv2 for block, _ in levels} | {network.head[-1]}
    fused = {attention.qkv for attention in attentions}
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            assert not layer.bias.any()
            if layer not in fused:
                assert deviation(layer.weight, xavier(layer) * (1e-5 if layer in nearly_zero else 1)), layer
    for attention in attentions:
        assert float(attention.out.weight.detach().std()) == pytest.approx(0.063, abs=0.001)
        for part in attention.qkv.weight.chunk(3):  # each a layer of its own
            assert deviation(part, math.sqrt(2 / 512))


def test_a_standard_block_begins_as_its_shortcut():
    torch.manual_seed(0)
    made, x = ResBlock(8, 8, 16, 4, 0.0), torch.randn(2, 8, 4, 4)
    assert torch.allclose(made(x, torch.randn(2, 16)), x, atol=1e-3)
    assert ResBlock(8, 12, 16, 4, 0.0)(x, torch.randn(2, 16)).shape == (2, 12, 4, 4)


def test_mbconv_blocks_begin_as_pytorch_makes_them_and_what_is_outside_as_elsewhere(paper):
    """In the author's code nothing calls an MBConv block's own initialisation, so that attention after it keeps its
    own, whose last layer begins near 0; the network's other layers are Xavier's."""
    torch.manual_seed(0)
    network = build(paper["MBConv64"])
    levels, inside = standard_levels(network), set()
    for block, attention in levels:
        assert isinstance(block, MBConvBlock)
        for layer in block.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                inside.add(layer)
                assert deviation(layer.weight, by_default(layer))
                assert layer.bias is None or deviation(layer.bias, by_default(layer))
        if isinstance(attention, Attention):
            inside |= {attention.qkv, attention.out}
            assert not attention.qkv.bias.any()
            assert not attention.out.bias.any()
            assert deviation(attention.out.weight, 1e-5 * xavier(attention.out))
            assert all(deviation(part, math.sqrt(2 / 256)) for part in attention.qkv.weight.chunk(3))
    first = levels[0][0]
    assert float(first.project.weight.detach().std()) == pytest.approx(0.036, abs=0.001)
    assert float(first.temb.bias.detach().std()) == pytest.approx(0.037, abs=0.003)
    outside = {m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)} - inside
    assert len(outside) == 2 + 1 + 3 + 3 + 1  # embedding, stem, down, up, head
    for layer in outside:
        assert not layer.bias.any()
        assert deviation(layer.weight, xavier(layer) * (1e-5 if layer is network.head[-1] else 1))


def test_an_mbconv_block_adds_something_from_the_start():
    torch.manual_seed(0)
    made, x = MBConvBlock(8, 8, 16, 4, 0.0), torch.randn(2, 8, 4, 4)
    assert (made(x, torch.randn(2, 16)) - x).std() > 0.01
    assert MBConvBlock(8, 12, 16, 4, 0.0)(x, torch.randn(2, 16)).shape == (2, 12, 4, 4)


def test_timesteps_are_told_apart():
    torch.manual_seed(0)
    embedding = TimestepEmbedding(32)
    assert embedding(torch.tensor([1])).shape == (1, 128)
    embedding.layers = torch.nn.Identity()
    vectors = embedding(torch.arange(1, 1001))
    assert vectors.shape == (1000, 32)
    assert (torch.cdist(vectors, vectors) + 10 * torch.eye(1000)).min() > 0.1
    t, half = 37.0, torch.arange(16) * 2 / 32
    angle = t / 10000**half
    assert torch.allclose(vectors[36].reshape(16, 2), torch.stack([angle.sin(), angle.cos()], 1), atol=1e-4)


@pytest.mark.parametrize("name", ["Default", "MBConv64"])
def test_the_output_depends_on_t_and_each_image_on_its_own_t(name):
    torch.manual_seed(0)
    network = build(configs("test")[name]).eval()
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.2)
    x = torch.randn(1, 1, 8, 8).expand(3, -1, -1, -1)
    with torch.no_grad():
        out = network(x, torch.tensor([1, 2, 8]))
        alone = network(x[:1], torch.tensor([8]))
    assert torch.allclose(out[2:], alone, atol=1e-5)
    assert (out[0] - out[1]).abs().max() > 1e-4
    assert (out[1] - out[2]).abs().max() > 1e-4


def test_dropout_acts_in_training_alone():
    torch.manual_seed(0)
    network = build(configs("test")["Default"])
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.2)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([1, 5])
    assert not torch.equal(network.train()(x, t), network(x, t))
    assert torch.equal(network.eval()(x, t), network(x, t))


@pytest.mark.parametrize("size", [8, 16, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_generator_and_discriminator_of_every_size(size, channels):
    torch.manual_seed(0)
    images = Generator(size, channels, 5, 8)(torch.randn(4, 5))
    assert images.shape == (4, channels, size, size)
    assert images.abs().max() <= 1
    discriminator = Discriminator(size, channels, 8)
    scores = discriminator(images)
    assert scores.shape == (4,)
    seen = []
    discriminator.blocks.register_forward_hook(lambda module, inputs, out: seen.append(out.shape))
    discriminator(images)
    assert seen == [(4, 8, max(4, size // 4), max(4, size // 4))]


@pytest.mark.parametrize(("size", "shortcuts"), [(8, 1), (16, 2), (32, 2)])
def test_weights_of_the_discriminator_have_a_spectral_norm_of_one(size, shortcuts):
    torch.manual_seed(0)
    discriminator = Discriminator(size, 3, 6).train()
    with torch.no_grad():
        for _ in range(60):
            discriminator(torch.randn(1, 3, size, size))
    layers = [m for m in discriminator.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == 4 * 2 + shortcuts + 1  # two convolutions a block, and the last layer
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(1, abs=0.03)


def test_hinge_loss_of_the_discriminator():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert hinge_discriminator(real, fake).item() == pytest.approx(0.25 + 0.5)


def test_an_unknown_kind_of_network_is_refused():
    class VAE:
        kind = "vae"

    with pytest.raises(ValueError, match="VAE"):
        kind_of(VAE())
