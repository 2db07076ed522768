"""Where a training step's time goes, by kind of operation, and what its products would take if all were large.

One thread, the paper's network and batch, bfloat16 where it is native.
    python bench/roofline.py
"""

import argparse

import torch
from growth import PAPER, products
from measure import machine, paper, product_rate, seconds
from torch.profiler import ProfilerActivity, profile
from training import our_step

from adtr.train.context import precision

KINDS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "linear", "mkldnn_linear"),
    "softmax": ("_softmax", "_softmax_backward_data"),
    "multiplying, dividing, adding": ("mul", "mul_", "div", "div_", "add", "add_", "sub", "sub_", "sum", "pow"),
    "random numbers and what is dropped": ("_Attend", "clamp_", "ge", "randint", "random_"),
    "copies and casts": ("copy_", "_to_copy", "contiguous", "clone", "cat", "index"),
    "LayerNorm": ("native_layer_norm", "native_layer_norm_backward"),
    "ReLU": ("clamp_min", "relu", "threshold_backward"),
    "AdamW": ("_fused_adamw_",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    params = paper()
    torch.set_num_threads(1)
    step = our_step(torch.randn(PAPER["images"], PAPER["tokens"], PAPER["channels"]), params)
    taken = seconds({"": step}, options.steps)[""]
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(options.steps):
            step()
    own = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in profiled.key_averages()}
    whole, dtype = sum(own.values()), getattr(torch, precision("auto", "cpu"))
    count = products(params=params, **PAPER)
    floor = count / product_rate(dtype)
    print(f"{machine()}, one thread, {dtype}\n\n| | ms | share |\n| --- | --- | --- |")
    for kind, names in KINDS.items():
        share = sum(own.pop(name, 0) for name in names) / whole
        print(f"| {kind} | {1000 * taken * share:.0f} | {100 * share:.0f} % |")
    print(f"| the rest | {1000 * taken * sum(own.values()) / whole:.0f} | {100 * sum(own.values()) / whole:.0f} % |")
    print(f"| a step | {1000 * taken:.0f} | |")
    share = 100 * floor / taken
    print(f"\n{count / 1e9:.0f} GFLOP of products, if they were one: {1000 * floor:.0f} ms, {share:.0f} % of a step")


if __name__ == "__main__":
    main()
