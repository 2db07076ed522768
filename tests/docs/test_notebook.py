"""The notebook docs/predict.ipynb: its code cells run one after the other, on the real images, without a kernel."""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

pytestmark = pytest.mark.pipeline
NOTEBOOK = Path(__file__).parents[2] / "docs/predict.ipynb"


def test_the_notebook_goes_from_images_to_overlays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plt.switch_backend("Agg")
    monkeypatch.chdir(tmp_path)  # and back, once the notebook has changed it
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    assert len(cells) <= 10
    assert not any(cell["outputs"] for cell in cells)
    table, figure = names["table"], names["figure"]
    assert table.pred_label.mean() > 0.5
    assert all(axes.images for axes in figure.axes)
    assert len(list(Path("out/overlays").glob("*.png"))) == 8
    plt.close(figure)
