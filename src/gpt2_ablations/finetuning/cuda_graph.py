"""A training's update as one CUDA graph.

A step is hundreds of kernels of a few microseconds each, which take longer to call from Python than to run. Recorded
once, the GPU replays them at one call.
"""

import sys
from collections.abc import Callable

import torch
from torch import Tensor

# Calls before the recording: the libraries set themselves up in the first one, and memory is laid out by then.
WARM_UP = 2


class GraphedUpdate:
    """Calls a function of two tensors on the GPU, from the third call on by replaying what the third one did.

    The function must do the same for any tensors of these shapes, and must not ask the GPU for anything. Where it
    does, or memory is too small for the recording, it is called as it is.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], device: torch.device):
        self.function, self.device = function, device
        # The backward pass runs on the stream of the forward pass, and only one that is not the default is recorded.
        self.stream = torch.cuda.Stream(device)
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.arguments: tuple[Tensor, Tensor] | None = None
        self.result: Tensor | None = None

    def __call__(self, messages: Tensor, weights: Tensor) -> Tensor:
        """The function's result; both arguments may still lie on the host."""
        if self.arguments is None:
            self.arguments = (
                torch.empty_like(messages, device=self.device),
                torch.empty_like(weights, device=self.device),
            )
        for static, new in zip(self.arguments, (messages, weights), strict=True):
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
            print(f"note: going on without a CUDA graph: {' '.join(str(error).split())[:200]}", file=sys.stderr)
