"""What fusing costs, against counting by hand."""

import math
import re

import jax
import numpy as np
import pytest

from rpfnet_jax.inference import Fuser
from rpfnet_jax.inference.cost import fusion_cost
from rpfnet_jax.model import ModelConfig, RPFNet, init_variables
from rpfnet_jax.weights import Weights

pytestmark = pytest.mark.usefixtures("cheap_compilation")

HEIGHT, WIDTH = 40, 48


@pytest.fixture(scope="module")
def net():
    config = ModelConfig.preset("released", channels=8, stages=2)
    image = np.zeros((1, 16, 16, 1), np.float32)
    return Fuser(Weights(config, init_variables(RPFNet(config), jax.random.key(0), image, image)))


def test_parameters_and_transforms(net):
    cost = fusion_cost(net, HEIGHT, WIDTH)
    assert cost.parameters == sum(leaf.size for leaf in jax.tree.leaves(net.variables["params"]))
    # Two stages, a transform there and one back for each of 8 channels.
    points = HEIGHT * WIDTH
    assert cost.fft_flops == pytest.approx(2 * 2 * 8 * 2.5 * points * math.log2(points))
    # XLA's own count: 8 * floor(log2 40) * floor(log2 48) for each element that goes in.
    elements = 2 * 8 * (points + HEIGHT * (WIDTH // 2 + 1))
    assert cost.fft_flops_xla == 8 * 5 * 5 * elements


def test_the_program_holds_as_many_transforms_as_are_taken_off(net):
    text = net.compile((1, HEIGHT, WIDTH, 1)).as_text()
    assert len(re.findall(r"fft_type=RFFT", text)) == len(re.findall(r"fft_type=IRFFT", text)) == 2


def test_the_rest_is_convolutions_mostly(net):
    """Every multiply-add is two operations; what norms, activations and borders add or take is a small part."""
    cost = fusion_cost(net, HEIGHT, WIDTH)
    macs = 9 * (8 * (1 + 2) + 8 * 8 + 8 * 4 + 4)
    # A stage, released reading: gate 1x1, promotion 3x3, three dilated 3x3 and the merge, local 3x3, and 1x1 on
    # 16 channels of half a spectrum.
    spectrum = HEIGHT * (WIDTH // 2 + 1)
    stage = 8 * 8 + 9 * 8 * 8 + 3 * 9 * 8 * 8 + 24 * 8 + 9 * 8 * 8 + 16 * 16 * spectrum / (HEIGHT * WIDTH)
    by_hand = 2 * HEIGHT * WIDTH * (macs + 2 * stage)
    assert 0.85 * by_hand < cost.flops < 1.35 * by_hand


def test_folded_norms_take_fewer_operations(net):
    image, running = (fusion_cost(net.using(norm=norm), HEIGHT, WIDTH) for norm in ("image", "running"))
    assert running.flops < image.flops
    assert running.fft_flops == image.fft_flops
    with pytest.raises(ValueError, match="at least 16"):
        fusion_cost(net, 8, 48)
