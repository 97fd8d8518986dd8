"""The notebook runs as it is committed, from top to bottom, and shows images."""

import base64
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_notebook_is_stripped(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        assert cell.metadata == {}, cell.id
        if cell.cell_type == "code":
            assert cell.outputs == [], cell.id
            assert cell.execution_count is None, cell.id


@pytest.mark.slow
def test_notebook_runs_shows_images_and_warns_of_nothing(notebook, tmp_path, monkeypatch):
    # The user's own start-up files and matplotlib backend must not matter, and the package need not be installed.
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    messages = "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stderr"
    )
    # Only a progress bar is allowed.
    assert not re.search("warn|error|traceback", messages, re.IGNORECASE), messages
    showing = [cell for cell in notebook.cells if re.search(r"^ *show\(", cell.source, re.MULTILINE)]
    assert len(showing) >= 7
    for cell in showing:
        images = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
        assert images, cell.id
        for image in images:
            assert np.std(Image.open(io.BytesIO(base64.b64decode(image))).convert("L")) > 10, cell.id
