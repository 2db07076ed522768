"""The planted problem with masks."""

from pathlib import Path

import numpy as np
import planted
import pytest
from PIL import Image

from adtr.data.manifest import read_manifest, write_manifest
from adtr.files import sha256


@pytest.fixture
def case(tmp_path: Path) -> planted.Case:
    """With a mask of each planted token, 32 px."""
    case = planted.write(tmp_path / "case", *planted.features())
    manifest = read_manifest(case.manifest)
    for name, token in zip(manifest["mask"].tail(8), planted.ANOMALIES, strict=True):
        if token is not None:
            mask = np.zeros(planted.SIDE**2, np.uint8)
            mask[token] = 255
            grid = Image.fromarray(mask.reshape(planted.SIDE, planted.SIDE))
            grid.resize((32, 32), Image.Resampling.NEAREST).save(tmp_path / name)
            manifest.loc[manifest["mask"] == name, "mask_sha256"] = sha256(tmp_path / name)
    write_manifest(case.manifest, manifest)
    return case
