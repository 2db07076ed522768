"""How the cost of a training step and of a study grows: measured slopes against those of the arithmetic, and a plot.

One thread, bfloat16 where it is native. The paper's network with other numbers of tokens, channels and images, one at a
time; then more and more categories, as many side by side as there are cores, a thread each.
    python bench/growth.py --output docs/growth.png
"""

import argparse
import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from measure import machine, paper, seconds
from training import CHANNELS, a_training, our_step

from adtr.config.methods import Params

SIZES = {"tokens": [64, 144, 256, 576, 1024], "channels": [64, 256, 720, 1440, 2880], "images": [4, 8, 16, 32, 64]}
PAPER = {"tokens": 256, "channels": CHANNELS, "images": 16}
CATEGORIES = [1, 2, 4, 8]
STEPS = 4  # of each category


def products(tokens: int, channels: int, images: int, params: Params) -> float:
    """Floating-point operations of the matrix products of a step: forward, and twice as many backward."""
    model = params.model
    width, layers = model.width, model.encoder_layers + 2 * model.decoder_layers  # attentions
    linear = 2 * channels * width + layers * 4 * width**2
    linear += (model.encoder_layers + model.decoder_layers) * 2 * width * model.ffn_width
    return 3 * images * (2 * tokens * linear + layers * 4 * tokens**2 * width)


def slope(x: list[int], y: list[float]) -> float:
    """Of a straight line through the last three points, both axes logarithmic."""
    return float(np.polyfit(np.log(x[-3:]), np.log(y[-3:]), 1)[0])


def train(steps: int) -> None:
    """A category: features and network of its own, on one thread."""
    torch.set_num_threads(1)
    step = a_training("our")
    for _ in range(steps):
        step()


def of_categories(cores: int, rounds: int) -> list[float]:
    """Seconds of STEPS steps of each of so many categories, by STEPS."""
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        sides = {str(count): partial(_all, pool, count) for count in CATEGORIES}
        return [taken / STEPS for taken in seconds(sides, rounds).values()]


def _all(pool: ProcessPoolExecutor, count: int) -> None:
    list(pool.map(train, [STEPS] * count))


def show(axes: Axes, name: str, values: list[int], taken: list[float], counted: list[float]) -> None:
    """A row of the table, and its plot; `counted` are the operations of the core that has most of them."""
    text = ", ".join(f"{value}: {1000 * t:.0f}" for value, t in zip(values, taken, strict=True))
    print(f"| {name} | {text} | {slope(values, taken):.2f} | {slope(values, counted):.2f} |")
    axes.loglog(values, taken, "o-", label="a step")
    fastest = max(n / t for n, t in zip(counted, taken, strict=True))
    axes.loglog(values, [n / fastest for n in counted], "--", label="its products, as fast as they were at best")
    axes.set(xlabel=name, xticks=values, xticklabels=values)
    axes.minorticks_off()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="the plot, PNG")
    options = parser.parse_args()
    params = paper()
    torch.set_num_threads(1)
    print(f"{machine()}, a thread each\n\n| | measured, ms | slope | of the arithmetic |\n| --- | --- | --- | --- |")
    figure = Figure((12, 3.6), layout="constrained")
    *sized, last = figure.subplots(1, 4, sharey=True)
    for axes, (name, values) in zip(sized, SIZES.items(), strict=True):
        shapes = [PAPER | {name: value} for value in values]
        works = {str(s[name]): our_step(torch.randn(s["images"], s["tokens"], s["channels"]), params) for s in shapes}
        taken = list(seconds(works, options.rounds).values())
        show(axes, name, values, taken, [products(params=params, **shape) for shape in shapes])
    one, cores = products(params=params, **PAPER), os.cpu_count() or 1
    most = [one * math.ceil(count / cores) for count in CATEGORIES]
    show(last, f"categories, {cores} at a time", CATEGORIES, of_categories(cores, options.rounds), most)
    figure.axes[0].set_ylabel("seconds")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    if options.output:
        figure.savefig(options.output, dpi=120)


if __name__ == "__main__":
    main()
