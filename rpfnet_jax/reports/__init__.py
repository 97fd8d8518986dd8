"""Tables, figures and contact sheets made from metrics and fused images."""

from rpfnet_jax.reports.figures import FIGURE_FORMATS, encode
from rpfnet_jax.reports.maps import Window, change_phase, features_figure, phase_figure, weights_figure, with_phase_of
from rpfnet_jax.reports.panels import Box, contact_sheet, panel_figure, zoom
from rpfnet_jax.reports.plots import Bubble, bubble_figure, curves_figure, read_bubbles, spectra_figure, spread_figure
from rpfnet_jax.reports.tables import (
    FORMATS,
    PAPER_METRICS,
    Column,
    Format,
    Table,
    companion_table,
    comparison_table,
    evaluation_report,
    metrics_csv,
    protocol_table,
    ranking_table,
    read_metrics_csv,
    summary_table,
    versus_table,
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
