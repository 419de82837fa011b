"""A function on the GPU, recorded once as a CUDA graph and replayed.

A training step is hundreds of kernels of a few microseconds each, which take longer to launch from Python than to run.
Source: https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..common.logs import logger

# Calls before the recording: libraries initialise in the first one, and memory is allocated.
WARM_UP = 2


class GraphedUpdate:
    """Calls a function of two tensors on the GPU; from the third call on, replays what that call did.

    The function must do the same for any tensors of these shapes, and must not read from the GPU. Where it does, or
    where memory is too small for the recording, it is called without a graph.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], device: torch.device):
        self.function, self.device = function, device
        # The backward pass runs on the stream of the forward pass, and the default stream cannot be recorded.
        self.stream = torch.cuda.Stream(device)
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.arguments: tuple[Tensor, Tensor] | None = None
        self.result: Tensor | None = None

    def __call__(self, examples: Tensor, weights: Tensor) -> Tensor:
        """The function's result; both arguments may be on the CPU."""
        if self.arguments is None:
            self.arguments = (
                torch.empty_like(examples, device=self.device),
                torch.empty_like(weights, device=self.device),
            )
        for static, new in zip(self.arguments, (examples, weights), strict=True):
            static.copy_(new, non_blocking=True)
        self.calls += 1
        if self.calls == WARM_UP + 1:
            self._record()
        if self.graph is None or self.result is None:
            return self._call()
        self.graph.replay()
        return self.result.clone()

    def _call(self) -> Tensor:
        assert self.arguments is not None
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        try:
            with torch.cuda.stream(self.stream):
                return self.function(*self.arguments)
        finally:
            current.wait_stream(self.stream)

    def _record(self) -> None:
        assert self.arguments is not None
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                self.result = self.function(*self.arguments)
            self.graph = graph
        except RuntimeError as error:
            self.result = None
            logger.info(f"note: continuing without a CUDA graph: {' '.join(str(error).split())[:200]}")
