"""Tables, figures and sheets made from metrics and fused pictures."""

from rpfnet_jax.reports.bubbles import Bubble, bubble_figure, read_bubbles
from rpfnet_jax.reports.canvas import FIGURE_FORMATS, encode
from rpfnet_jax.reports.comparison import PAPER_METRICS, comparison_table, ranking_table, versus_table
from rpfnet_jax.reports.contact_sheet import contact_sheet
from rpfnet_jax.reports.curves import curves_figure
from rpfnet_jax.reports.maps import features_figure, weights_figure
from rpfnet_jax.reports.panel import Box, panel_figure, zoom
from rpfnet_jax.reports.phase import Window, change_phase, phase_figure, with_phase_of
from rpfnet_jax.reports.spectra import spectra_figure
from rpfnet_jax.reports.spread import spread_figure
from rpfnet_jax.reports.table import FORMATS, Column, Format, Table
from rpfnet_jax.reports.tables import (
    companion_table,
    evaluation_report,
    metrics_csv,
    protocol_table,
    read_metrics_csv,
    summary_table,
)

__all__ = [
    "FIGURE_FORMATS",
    "FORMATS",
    "PAPER_METRICS",
    "Box",
    "Bubble",
    "Column",
    "Format",
    "Table",
    "Window",
    "bubble_figure",
    "change_phase",
    "companion_table",
    "comparison_table",
    "contact_sheet",
    "curves_figure",
    "encode",
    "evaluation_report",
    "features_figure",
    "metrics_csv",
    "panel_figure",
    "phase_figure",
    "protocol_table",
    "ranking_table",
    "read_bubbles",
    "read_metrics_csv",
    "spectra_figure",
    "spread_figure",
    "summary_table",
    "versus_table",
    "weights_figure",
    "with_phase_of",
    "zoom",
]
