"""Several trainings of the same shape as one, on a device that a single one leaves idle: is a step of all faster?

The networks' weights are stacked and vmapped; one AdamW, which works on elements, updates all of them; gradients are
clipped member by member. Each member has its own weights, standardisation, images, order and dropout. Attention and
dropout are torch's own, as they are on a GPU, so that on a CPU the stack lacks what is fast there
(adtr/model/cpu_layers.py). A prototype: `adtr` trains one by one until this has been seen to gain on a GPU.
    python bench/stacked.py --tokens 64 --images 4      # on this CPU: time of its cores, stacked and one by one

Shapes: M members, n images, b of them in a batch, N tokens, C channels.
"""

import argparse
import copy
import time
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from measure import Work, machine, paper, seconds
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn.attention import SDPBackend, sdpa_kernel

from adtr.config.methods import Train
from adtr.model.cpu_layers import Dropout
from adtr.model.losses import normal_loss
from adtr.model.transformer import ADTR, Attention, Reconstruction
from adtr.train.loop import autocast, seeded
from adtr.train.step import Step, step_of


class Member(nn.Module):
    """A training's network, and its loss as in adtr/methods/adtr.py."""

    def __init__(self, network: Reconstruction, train: Train, device: str):
        super().__init__()
        self.network, self.train_params, self.device = network, train, device

    def forward(self, tokens: Tensor) -> Tensor:
        """Features (b, N, C) to the loss."""
        f = self.network.standardized(tokens)
        with autocast(self.train_params, self.device):
            reconstruction = self.network(f)
        return normal_loss(f, reconstruction.float())


class Stack(nn.Module):
    """Members that are trained as one: a parameter is that of all, (M, ...)."""

    def __init__(self, members: list[Member]):
        super().__init__()
        parameters, self.own = stack_module_state(members)
        self.names, self.values = list(parameters), nn.ParameterList(parameters.values())
        self.one = [_with_torchs_layers(members[0])]  # in a list, as its parameters are not the stack's

    def forward(self, tokens: Tensor) -> Tensor:
        """Features (M, b, N, C) to losses (M,)."""
        parameters = dict(zip(self.names, self.values, strict=True))
        with nullcontext() if tokens.is_cuda else sdpa_kernel(SDPBackend.MATH):  # a CPU's others cannot be vmapped
            losses: Tensor = torch.vmap(self._loss, randomness="different")(parameters, self.own, tokens)
        return losses

    def _loss(self, parameters: dict[str, Tensor], own: dict[str, Tensor], tokens: Tensor) -> Tensor:
        loss: Tensor = functional_call(self.one[0], (parameters, own), (tokens,))
        return loss

    def states(self) -> list[dict[str, Tensor]]:
        """The members' parameters by name."""
        unstacked = [value.detach().unbind() for value in self.values]
        return [dict(zip(self.names, values, strict=True)) for values in zip(*unstacked, strict=True)]


class _Attention(Attention):
    """Attention by PyTorch's own function on each device."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (self._split(x) for x in (self.q_proj(query), self.k_proj(key), self.v_proj(value)))
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q.expand_as(k), k, v, dropout_p=dropout)
        return self.out_proj(out.transpose(1, 2).flatten(2))


def _with_torchs_layers(member: Member) -> Member:
    """A copy of which no layer is one of adtr/model/cpu_layers.py's that cannot be vmapped."""
    member = copy.deepcopy(member)
    for module in list(member.modules()):
        for name, child in module.named_children():
            if isinstance(child, Attention):
                child.__class__ = _Attention
            elif isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.p))
    return member


def clip(parameters: list[Tensor], largest: float) -> None:
    """Scales the gradients (M, ...) of each member to this norm at most, as `torch.nn.utils.clip_grad_norm_` does."""
    gradients = [x.grad for x in parameters if x.grad is not None]
    norms = torch.stack([x.flatten(1).norm(dim=1) for x in gradients]).norm(dim=0)
    scale = (largest / (norms + 1e-6)).clamp(max=1.0)
    for x in gradients:
        x.mul_(scale.view(-1, *[1] * (x.ndim - 1)))


def stacked_step(members: list[Member], data: Tensor, train: Train, device: str) -> tuple[Stack, Step]:
    """A step of all members on indices (M, b) of the features (M, n, N, C); it gives the sum of their losses."""
    stack, rows = Stack(members), torch.arange(len(members), device=device)[:, None]
    unclipped = train.model_copy(update={"grad_clip": 0.0})  # by the norm of all
    step = step_of(stack, lambda batch: stack(data[rows, batch]).sum(), unclipped, device, None)
    if train.grad_clip:
        step.optimizer.register_step_pre_hook(lambda *_: clip(list(stack.values), train.grad_clip))
    return stack, step


def steps_one_by_one(members: list[Member], data: Tensor, train: Train, device: str) -> list[Step]:
    """The same as steps of each member, by the project's loop."""

    def one(member: Member, features: Tensor) -> Step:
        return step_of(member, lambda batch: member(features[batch]), train, device, None)

    return [one(member, features) for member, features in zip(members, data, strict=True)]


def members_of(count: int, data: Tensor, train: Train, device: str, **model: int | float) -> list[Member]:
    """As many networks with seeds of their own, for features (M, n, N, C)."""
    members = []
    for seed, features in zip(range(count), data, strict=True):
        seeded(seed)
        network = ADTR(*features.shape[1:], **model)  # type: ignore[arg-type]
        tokens = features.float().flatten(0, 1)
        network.mean, network.std = tokens.mean(dim=0), tokens.std(dim=0)
        members.append(Member(network, train, device).to(device).train())
    return members


def deviation(data: Tensor, train: Train, device: str, batch: int, steps: int, **model: int | float) -> float:
    """How far the weights of stacked training, without dropout, are from those of one-by-one training after some steps.

    Features (M, n, N, C). Of all members, the largest L2 norm of the difference, in norms of what training changed.
    Biases of keys do not count: softmax cancels them, so that AdamW makes full steps of what rounding leaves of their
    gradient.
    """
    members = members_of(len(data), data, train, device, dropout=0.0, **model)
    initial = copy.deepcopy(members)
    stack, together = stacked_step(copy.deepcopy(members), data, train, device)
    alone = steps_one_by_one(members, data, train, device)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        orders = torch.stack([torch.randperm(data.shape[1], generator=generator)[:batch] for _ in alone]).to(device)
        together(orders, train.lr)
        for step, order in zip(alone, orders, strict=True):
            step(order, train.lr)

    def whole(state: dict[str, Tensor]) -> Tensor:
        names = [name for name in stack.names if not name.endswith("k_proj.bias")]
        return torch.cat([state[name].detach().flatten() for name in names])

    return max(
        float((whole(ours) - (theirs := whole(dict(member.named_parameters())))).norm())
        / float((theirs - whole(dict(start.named_parameters()))).norm())
        for ours, member, start in zip(stack.states(), members, initial, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=4, help="trainings [4]")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--images", type=int, default=16, help="of a batch [16]")
    parser.add_argument("--channels", type=int, default=720, help="of a token [720]")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train = paper().train.model_copy(update={"precision": options.precision})
    data = torch.randn(options.members, options.images, options.tokens, options.channels).half()
    batch = torch.arange(options.images).expand(options.members, -1)
    members = members_of(options.members, data, train, "cpu")
    _, together = stacked_step(copy.deepcopy(members), data, train, "cpu")
    alone = steps_one_by_one(members, data, train, "cpu")
    sides: dict[str, Work] = {
        "stacked": lambda: together(batch, train.lr),
        "one by one": lambda: [step(order, train.lr) for step, order in zip(alone, batch, strict=True)],
    }
    print(f"{machine()}, one thread, {options.precision}, {options.members} trainings of"
          f" {options.tokens} tokens x {options.images} images")  # fmt: skip
    for side, value in seconds(sides, options.rounds, time.process_time).items():
        print(f"{side:12} {1000 * value:8.0f} ms of a core for a step of all")
    far = deviation(data, train, "cpu", options.images, 5)
    print(f"without dropout, after 5 steps: weights differ by {far:.1g} of what training changed")


if __name__ == "__main__":
    main()
