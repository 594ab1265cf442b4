"""Where this process computes without vLLM."""

import torch


def local_device() -> str:
    """``cuda`` where there is a GPU, else ``cpu``.

    On a GPU, attention is computed without cuDNN from here on. It plans anew for every shape, and lengths differ at
    every call: 4 ms of processor time a layer on an H100, most of a rollout.
    """
    if not torch.cuda.is_available():
        return "cpu"
    torch.backends.cuda.enable_cudnn_sdp(False)
    return "cuda"
