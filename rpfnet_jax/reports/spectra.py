"""Power spectra of sources and methods side by side, and their radial profiles (the paper's Figure 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from rpfnet_jax.reports.canvas import COLORS, new_figure, plain, show_picture, styled

_PER_ROW = 6
# Sources in black and grey, so that colours are left for methods.
_SOURCES = {"IR": ("0.0", "--"), "VIS": ("0.5", "--")}


@styled
def spectra_figure(
    spectra: Mapping[str, Float[np.ndarray, "y x"]], profiles: Mapping[str, Float[np.ndarray, " rings"]]
) -> Any:
    """Draws log spectra under one colour scale, and below them the radial profiles.

    Args:
        spectra: name -> `rpfnet_jax.metrics.log_spectrum`; IR and VIS are the sources.
        profiles: the same names -> `rpfnet_jax.metrics.radial_profile`.

    Returns:
        A matplotlib Figure.

    Raises:
        ValueError: no spectra, or other names in `profiles`.
    """
    if not spectra or set(spectra) != set(profiles):
        raise ValueError("a figure of spectra needs spectra, and a profile of each")
    lines = -(-len(spectra) // _PER_ROW)
    columns = -(-len(spectra) // lines)
    figure = new_figure(max(4.0, 1.2 * columns + 0.6), 1.35 * lines + 2.4)
    above, below = figure.subfigures(2, 1, height_ratios=(1.35 * lines, 2.4))
    axes = above.subplots(lines, columns, squeeze=False)
    values = np.concatenate([spectrum.ravel() for spectrum in spectra.values()])
    # The zero frequency is 0 by definition and would stretch the scale.
    low, high = np.percentile(values, (0.5, 99.95))
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, spectrum) in zip(axes.flat, spectra.items(), strict=False):
        axis.set_axis_on()
        # Square whatever the picture's shape: both axes run from -0.5 to 0.5 cycles per pixel.
        image = show_picture(axis, spectrum, name, cmap="magma", vmin=low, vmax=high, extent=(-0.5, 0.5, 0.5, -0.5))
    above.colorbar(image, ax=axes, label="log10(1 + PSD)", shrink=0.85, pad=0.01)

    axis = below.subplots()
    methods = [name for name in profiles if name not in _SOURCES]
    for name, profile in profiles.items():
        if name in _SOURCES:
            color, dash = _SOURCES[name]
        else:
            # Beyond the palette's end the dashes tell the methods apart.
            turn, index = divmod(methods.index(name), len(COLORS) - 1)
            color, dash = COLORS[index], ("-", "-.", ":")[turn % 3]
        frequencies = (np.arange(len(profile)) + 0.5) / (2 * len(profile))
        shown = np.isfinite(profile) & (profile > 0)
        axis.plot(frequencies[shown], profile[shown], color=color, linestyle=dash, linewidth=1.1, label=plain(name))
    axis.set(yscale="log", xlim=(0, 0.5), xlabel="spatial frequency (cycles per pixel)", ylabel="PSD per pixel")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure
