"""A record vouches for its files: whatever happens to a byte of either is noticed, and told by name."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adtr import records
from adtr.errors import UserError

CONTENTS = {"metrics.csv": b"metric,value\nimage_auroc,97.9\n", "maps.npy": bytes(range(256))}


@pytest.fixture
def record(tmp_path: Path) -> Path:
    records.write(
        tmp_path / "evaluation.json", {"model": "ab12", "shape": (2, 3), "score": 1e-9, "name": "é"}, CONTENTS
    )
    return tmp_path / "evaluation.json"


def test_what_was_written_is_read(record: Path) -> None:
    read = records.Record(record)
    assert {name: read.read(name) for name in read.files} == CONTENTS
    assert read.values["model"] == "ab12"
    assert read.values["shape"] == [2, 3]


@pytest.mark.parametrize("name", [*CONTENTS, "evaluation.json"])
def test_every_flipped_bit_is_noticed(record: Path, name: str) -> None:
    path = record.with_name(name)
    whole = path.read_bytes()
    for bit in np.random.default_rng(0).choice(8 * len(whole), 100):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=name):
            [records.Record(record).read(each) for each in CONTENTS]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"files": {}}', None])
def test_what_is_no_record_is_told(record: Path, content: bytes | None) -> None:
    record.unlink() if content is None else record.write_bytes(content)
    with pytest.raises(UserError, match=r"evaluation\.json: .*makes it again"):
        records.Record(record)


def test_a_spreadsheet_computes_no_text_and_its_reader_gets_it_back(tmp_path: Path) -> None:
    """Whatever it begins with; numbers keep their digits."""
    draw, signs = np.random.default_rng(0), [*"=+-@\t'a,\"\n=' 1é日"]
    texts = ["".join(draw.choice(signs, length)) for length in draw.integers(0, 5, 2000)]
    numbers = draw.normal(size=len(texts)).astype(np.float32)
    table = pd.DataFrame({"image": texts, "pred_score": numbers, "label": numbers.astype(int)})
    records.write(tmp_path / "a.json", {}, {"a.csv": records.as_csv(table).encode()})
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        cells = [row["image"] for row in csv.DictReader(file)]
    assert {cell[:1] for cell in cells} & {*"=+-@\t"} == set()
    types = {"image": str, "pred_score": np.float32}
    read = records.Record(tmp_path / "a.json").table("a.csv", keep_default_na=False, dtype=types)
    pd.testing.assert_frame_equal(read, table, check_exact=True)


@pytest.mark.parametrize("content", [b"", CONTENTS["metrics.csv"][:-3], CONTENTS["maps.npy"], None])
def test_a_file_that_is_cut_exchanged_or_gone_is_told(record: Path, content: bytes | None) -> None:
    path = record.with_name("metrics.csv")
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=r"metrics\.csv: "):
        records.Record(record).read("metrics.csv")


@pytest.mark.parametrize("name", [*CONTENTS, "evaluation.json"])
def test_a_pipe_or_a_folder_is_told_and_blocks_nobody(record: Path, name: str) -> None:
    path = record.with_name(name)
    for put in (os.mkfifo, Path.mkdir):
        path.unlink()
        put(path)
        with pytest.raises(UserError, match=f"{name}: not readable .not a file.: remove it"):
            [records.Record(record).read(each) for each in CONTENTS]


def test_every_cut_is_noticed_and_every_change_of_its_layout(record: Path) -> None:
    """Even where the values are whole: without the last line break, or with another spelling of a letter or number."""
    whole = record.read_bytes()
    cuts = [whole[:length] for length in range(len(whole))]
    respelt = [whole.replace(b"1e-09", b"1E-09"), whole.replace(b"\\u00e9", b"\\u00E9"), whole + b"\n"]
    for content in [*cuts, *respelt, json.dumps(json.loads(whole)).encode()]:
        assert content != whole
        record.write_bytes(content)
        with pytest.raises(UserError, match=r"evaluation\.json: damaged"):
            records.Record(record)


def test_a_record_of_another_shape_is_refused_by_name_wherever_a_key_is_missing(tmp_path: Path) -> None:
    records.write_only(tmp_path / "run.json", {"features": {"code": "x"}, "model": 1})
    values = records.Record(tmp_path / "run.json").values
    assert (values["features"]["code"], values.get("seed")) == ("x", None)
    told = r"run\.json: the record of something else, without '\w+': remove it, then `adtr"
    for lacking in (lambda: values["seed"], lambda: values["features"]["weights"]):
        with pytest.raises(UserError, match=told):
            lacking()
