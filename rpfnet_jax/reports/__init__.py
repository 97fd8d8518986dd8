"""Tables, figures and sheets made from metrics and fused pictures."""

from rpfnet_jax.reports.comparison import PAPER_METRICS, comparison_table, ranking_table, versus_table
from rpfnet_jax.reports.contact_sheet import contact_sheet
from rpfnet_jax.reports.figures import spread_figure
from rpfnet_jax.reports.table import FORMATS, Column, Format, Table
from rpfnet_jax.reports.tables import (
    companion_table,
    evaluation_report,
    metrics_csv,
    protocol_table,
    read_metrics_csv,
)

__all__ = [
    "FORMATS",
    "PAPER_METRICS",
    "Column",
    "Format",
    "Table",
    "companion_table",
    "comparison_table",
    "contact_sheet",
    "evaluation_report",
    "metrics_csv",
    "protocol_table",
    "ranking_table",
    "read_metrics_csv",
    "spread_figure",
    "versus_table",
]
