"""What several test modules read, made once: small data sets, and the study `smoke`."""

import fcntl
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster
import harness
import pytest
import torch
from workshop import HERE, TARGETS, Workshop, wait_for

from adtr.config.study import Plan, resolve
from adtr.data.synthetic import write_cifar10, write_mvtec


@pytest.hookimpl(tryfirst=True)  # before markers choose
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Several threads wait for each other where the cores are shared, and the problems here are tiny."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real one, without a window."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium here: the pages' scripts are not tried")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=found, args=["--no-sandbox"])


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far from the checkout, as `adtr` works in any folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def mvtec_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MVTec's layout, 64 px: carpet (RGB, 6 training images) and screw (greyscale), 4 test images a kind."""
    root = tmp_path_factory.mktemp("data") / "mvtec"
    write_mvtec(root, ["carpet", "screw"], images=6, size=64, seed=0)
    return root


@pytest.fixture(scope="session")
def cifar10_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-10's layout: 10 training images a class over five batches, 5 test images a class."""
    root = tmp_path_factory.mktemp("data")
    write_cifar10(root, images=10, seed=0)
    return root / "cifar-10-batches-py"


@pytest.fixture(scope="session")
def smoke() -> Plan:
    return resolve("smoke", HERE / "params")


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The study, made once for all workers of pytest; each has a copy of its own."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with (shared / "smoke.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "smoke").is_dir():
            _make(shared / "making")
            (shared / "making").rename(shared / "smoke")
    folder = tmp_path_factory.mktemp("clone") / "smoke"
    shutil.copytree(shared / "smoke", folder, symlinks=True)
    return Workshop(folder, empty=False)


def _make(folder: Path) -> None:
    """Makes the study: killed in the midst of its trainings, unlocked, then resumed by the same command."""
    shop = Workshop(folder)
    killed = shop.begun(*TARGETS, log=shop.folder / "killed.log")
    try:
        wait_for(lambda: list(shop.folder.glob("results/smoke/runs/*/*/*/*/run.json")), "the end of a training", 240)
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    assert not (shop.folder / "results/smoke/metrics.csv").exists()
    assert shop.snakemake("--unlock").returncode == 0
    result = shop.snakemake(*TARGETS)
    assert result.returncode == 0, result.stdout


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running cluster."""
    folder, needed = tmp_path_factory.mktemp("cluster"), os.environ.get("ADTR_SLURM") == "needed"
    try:
        if needed:
            cluster.install()
        elif not shutil.which("slurmctld"):
            pytest.skip("no Slurm here; `make test-slurm` installs one")
        cluster.start(folder)
    except cluster.SlurmError as reason:
        if needed:
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    yield folder
    cluster.stop(folder)


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.House]:
    """The tiny study of the campaign of faults, made once."""
    made = harness.House(tmp_path_factory.mktemp("faults"))
    try:
        made.make()
        yield made
    finally:
        made.close()
