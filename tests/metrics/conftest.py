"""The published sheet of metrics, with its images."""

import csv

import pytest

from rpfnet_jax.data.images import read_image
from rpfnet_jax.metrics import to_gray8


@pytest.fixture(scope="package")
def sheet(shared_dir):
    """Three methods on six TNO pairs, as a widely used MATLAB toolbox computed them: (values, fused, ir, vis)."""
    golden = shared_dir / "reference" / "golden" / "metrics"
    with (golden / "sheet.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = {(folder, row["image"]) for row in rows for folder in (row["method"], "ir", "vis")}
    images = {(folder, name): to_gray8(read_image(golden / folder / name)) for folder, name in names}
    return [(row, *(images[folder, row["image"]] for folder in (row["method"], "ir", "vis"))) for row in rows]
