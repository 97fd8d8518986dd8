"""ONNX files: `to_onnx`."""

from __future__ import annotations

from rpfnet_jax.export.functions import FixedFourier, Fourier, luminance, planes, restore_color
from rpfnet_jax.export.graph import Graph
from rpfnet_jax.export.modules import rpfnet
from rpfnet_jax.export.network import Network


def to_onnx(network: Network, image: bool = False) -> bytes:
    """Writes a network as an ONNX model of opset 18.

    It takes `ir` and `vis`, float32 luminances (batch, 1, height, width) in [0, 1], and returns `fused`, luminances in
    (0, 1). With `image` it takes uint8 images, `ir` (batch, height, width, 1 or 3) and `vis` (batch, height, width, 3),
    and returns `fused`, a uint8 image with the colours of `vis`. Height and width are free, but at least 16, unless
    the network has a size; the batch is free.

    Raises:
        ValueError: the network can't be exported.
    """
    config, variables, _ = network.computed()
    graph, (height, width) = Graph(), network.size or ("height", "width")
    if image:
        ir = graph.input("ir", "uint8", ("batch", height, width, "channels"))
        vis = graph.input("vis", "uint8", ("batch", height, width, 3))
        colors = planes(vis)
        # Grey gets three equal channels; the grey of colours is rounded to 8 bits, as `data.pixels.to_gray` does.
        gray = luminance(*planes(graph("Expand", ir, graph("Shape", vis))))
        luminances = graph("Round", gray * 255.0) / 255.0, luminance(*colors)
    else:
        shape = "batch", 1, height, width
        luminances = graph.input("ir", "float32", shape), graph.input("vis", "float32", shape)
    transforms = Fourier(luminances[0]) if network.size is None else FixedFourier(config.channels, *network.size)
    fused = rpfnet(config, *luminances, variables["params"], transforms)
    if image:
        color_range = network.weights.defaults.color_range
        graph.output(restore_color(fused, colors, color_range), "fused", "uint8", ("batch", height, width, 3))
    else:
        graph.output(fused, "fused", "float32", shape)
    return graph.model(network.record()).SerializeToString()
