"""A step of AdamW on a batch: launched operation by operation, or recorded once as a CUDA graph and replayed."""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from adtr.config.methods import Train

Loss = Callable[[Tensor], Tensor]
WARM_UP = 2  # steps launched before one is recorded


class Step:
    """Gradient, clipping and update; network, loss and piece as for `optimize`."""

    capturable = False

    def __init__(self, network: nn.Module, loss: Loss, train: Train, piece: int | None):
        self.network, self.loss, self.train, self.piece = network, loss, train, piece
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=train.lr, weight_decay=train.weight_decay, fused=True, capturable=self.capturable
        )

    def __call__(self, batch: Tensor, rate: float) -> Tensor:
        """The loss of a batch of indices (b,) before the step, a scalar on the device."""
        return self._launch(batch, rate)

    def _launch(self, batch: Tensor, rate: float | Tensor) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        total = torch.zeros((), device=batch.device)
        for part in batch.split(self.piece or len(batch)):
            value = self.loss(part) * (len(part) / len(batch))
            value.backward()
            total += value.detach()
        if self.train.grad_clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.train.grad_clip)
        self.optimizer.step()
        return total


class RecordedStep(Step):
    """A step that is recorded once for each size of batch, after WARM_UP steps of it, and then replayed.

    Launching the many kernels of a step may take longer than a GPU needs for their work. Not tried on one yet.
    """

    capturable = True

    def __init__(self, network: nn.Module, loss: Loss, train: Train, piece: int | None):
        super().__init__(network, loss, train, piece)
        self.rate = torch.zeros((), device=next(network.parameters()).device)  # where a recorded step reads it
        self.taken: Counter[int] = Counter()  # steps that were launched, by size of batch
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}  # with the indices and the loss in it

    def __call__(self, batch: Tensor, rate: float) -> Tensor:
        """As `Step`; the loss is overwritten by the next step."""
        self.rate.fill_(rate)
        size = len(batch)
        with torch.cuda.device(batch.device):
            if self.taken[size] < WARM_UP:
                self.taken[size] += 1
                return self._launch_aside(batch)
            if size not in self.graphs:
                self.graphs[size] = self._record(batch)
            graph, indices, value = self.graphs[size]
            indices.copy_(batch)
            graph.replay()
            return value

    def _launch_aside(self, batch: Tensor) -> Tensor:
        """On a stream of its own, as steps before a recording have to be."""
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            value = self._launch(batch, self.rate)
        current.wait_stream(stream)
        return value

    def _record(self, batch: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        """Records a step without taking it: the graph, the indices that it reads, and the loss that it writes."""
        self.optimizer.zero_grad()
        graph, indices = torch.cuda.CUDAGraph(), batch.clone()
        with torch.cuda.graph(graph):
            value = self._launch(indices, self.rate)
        return graph, indices, value


def step_of(network: nn.Module, loss: Loss, train: Train, device: str, piece: int | None) -> Step:
    """Recorded on a GPU, if so asked; launched elsewhere."""
    kind = RecordedStep if device.startswith("cuda") and train.capture else Step
    return kind(network, loss, train, piece)
