"""Tables, figures and sheets made from metrics and fused pictures."""

from rpfnet_jax.reports.contact_sheet import contact_sheet
from rpfnet_jax.reports.figures import spread_figure
from rpfnet_jax.reports.tables import (
    companion_table,
    comparison_table,
    evaluation_report,
    metrics_csv,
    protocol_table,
    read_metrics_csv,
    summary_table,
)

__all__ = [
    "companion_table",
    "comparison_table",
    "contact_sheet",
    "evaluation_report",
    "metrics_csv",
    "protocol_table",
    "read_metrics_csv",
    "spread_figure",
    "summary_table",
]
