"""Parameters: what each admits, and studies made of them."""

from pathlib import Path

PARAMS = Path(__file__).parents[2] / "params"  # of the checkout that this package is of
