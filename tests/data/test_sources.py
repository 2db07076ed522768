"""The list of publishers' addresses."""

from pathlib import Path

import pytest

from adtr.data.sources import read_sources
from adtr.errors import UserError


def test_official_sources() -> None:
    sources = read_sources(Path(__file__).parents[2] / "params" / "sources.yaml")
    assert {"mvtec", "cifar10", "cifar100", "efficientnet_b4", "resnet18"} <= set(sources)
    assert len({Path(url).name for url in sources["mvtec"].urls}) == 1 < len(sources["mvtec"].urls)
    for source in sources.values():
        assert all(url.startswith("https://") for url in source.urls)
        assert source.page
        assert source.licence
        if source.kind == "weights":
            assert source.filename.endswith(f"-{source.sha256}.pth")
            assert source.destination == f"data/weights/{source.filename}"


def test_all_errors_of_a_source_file_are_reported_together(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(
        "one: {kind: archive, urls: ['ftp://a/b'], md5: abc, destination: x}\n"
        "two: {kind: weights, urls: ['http://a/b'], sha256: 12345678, destination: x, colour: red}\n"
        "three: {kind: weights, urls: ['http://a/b'], destination: x}\n"
        "four: {kind: weights, urls: ['http://a/b'], sha256: '12345678', destination: ../x}\n"
        "five/six: {kind: weights, urls: ['http://a/b'], sha256: '12345678', destination: x}\n"
    )
    with pytest.raises(UserError) as caught:
        read_sources(path)
    for key in ("one.urls.0", "one.md5", "two.sha256", "two.colour", "three", "four", "five/six"):
        assert f"\n  {key}" in str(caught.value)
    assert str(caught.value).startswith(f"{path}:")
