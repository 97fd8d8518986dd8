"""Tables and sheets made from metrics and fused pictures."""

from rpfnet_jax.reports.contact_sheet import contact_sheet
from rpfnet_jax.reports.tables import companion_table, evaluation_report, metrics_csv, protocol_table

__all__ = ["companion_table", "contact_sheet", "evaluation_report", "metrics_csv", "protocol_table"]
