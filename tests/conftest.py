"""Small data sets that several test modules read, generated once; none of them writes there."""

from pathlib import Path

import pytest
import torch

from adtr.generated import write_cifar10, write_mvtec


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Several threads wait for each other where the cores are shared, and the problems here are tiny."""
    torch.set_num_threads(1)


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
