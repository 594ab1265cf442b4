"""The rollout engine: vLLM in this process, with weights that training can replace. The only vLLM import of training.

On the CPU, vLLM packs linear weights when it loads a model and keeps no plain copy, so a later update either fails or
is silently lost (its own ``reload_weights`` reports success and leaves the model wrong). :meth:`Engine.load_weights`
works because the engine is built with plain linear layers instead.
"""

import gc
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import distributed

from training.nucleus import keep_nucleus
from training.sampler import Completion, EngineError, Finish, Request
from training.sync import SyncError


class Engine:
    """A vLLM engine driven step by step over its own request queue.

    Where several processes train, each has an engine of its own, on its own GPU.

    Args:
        folder: checkpoint to load (weights, tokenizer, generation settings).
        dtype: of the weights, by its name.
        max_model_len: longest prompt plus completion, in tokens.
        max_sequences: sequences decoded at once.
        seed: of the sampler.
        gpu_memory: share of a GPU's memory for weights and cache.

    Raises:
        EngineError: vLLM does not start, for want of memory, for instance.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        dtype: str = "float32",
        max_model_len: int,
        max_sequences: int = 256,
        seed: int = 0,
        gpu_memory: float = 0.9,
    ) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        from vllm import EngineArgs, LLMEngine

        on_gpu = torch.cuda.is_available()
        self._among_others = distributed.is_initialized() and distributed.get_world_size() > 1
        try:
            arguments = EngineArgs(
                model=str(folder),
                dtype=dtype,
                distributed_executor_backend="external_launcher" if self._among_others else None,
                max_model_len=max_model_len,
                max_num_seqs=max_sequences,
                max_num_batched_tokens=max(max_model_len, 8192),
                seed=seed,
                gpu_memory_utilization=gpu_memory,
                enforce_eager=not on_gpu,  # on a CPU, vLLM's compilation needs a C++ compiler and minutes
                enable_prefix_caching=True,
                block_size=None if on_gpu else 32,  # the CPU's default of 128 caches next to nothing of short paths
                disable_log_stats=True,
                trust_remote_code=False,
            )
            with _plain_linear_layers():
                self._engine = LLMEngine.from_engine_args(arguments)
        except ValueError as error:
            raise EngineError(_refusal(error, max_model_len)) from error
        if not on_gpu:
            self._engine.collective_rpc(_sort_less)
        self._ids = count()

    @property
    def busy(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self._engine.has_unfinished_requests())

    def submit(self, request: Request) -> str:
        """Queue a request and return its id. It runs with whatever else is queued at the next :meth:`step`."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        parameters = SamplingParams(
            temperature=request.sampling.temperature,
            top_p=request.sampling.top_p,
            max_tokens=request.max_tokens,
            stop=list(request.stop),
            logprobs=1 if request.with_logprobs else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_special_tokens=False,
        )
        return self._add(request.tokens, parameters)

    def step(self) -> Iterator[tuple[str, Completion]]:
        """Run one engine step and yield the requests that finished in it."""
        for output in self._finished():
            yield output.request_id, _completion(output.outputs[0])

    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability of every token after the first, per sequence, under the engine's current weights."""
        from vllm import SamplingParams

        parameters = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
        order = [self._add(tokens, parameters) for tokens in sequences]
        scores: dict[str, list[float]] = {}
        while self.busy:
            for output in self._finished():
                entries = zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True)
                scores[output.request_id] = [entry[token].logprob for token, entry in entries]
        self._engine.reset_prefix_cache()  # what is scored must not change what is sampled next
        return [scores[request_id] for request_id in order]

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Replace the weights and drop the KV cache that the old ones filled. Call it between rollouts only.

        Raises:
            SyncError: the last matrix that the engine does not fuse with others is not, to the bit, the given one.
        """

        def load(model: Any) -> list[str]:
            model.load_weights(weights.items())
            held = dict(model.named_parameters())
            whole = [name for name in weights if ".layers." in name and name in held and held[name].ndim == 2]
            return [name for name in whole[-1:] if not torch.equal(held[name], weights[name].to(held[name]))]

        if lost := [name for names in self._engine.apply_model(load) for name in names]:
            raise SyncError(
                f"after the weight sync, the engine's {lost[0]} is not the trainer's: rollouts would come from another"
                " policy than the one that is trained; set rollout.engine=transformers"
            )
        self._engine.reset_prefix_cache()

    def close(self) -> None:
        """Free the engine's memory, and its process group where it is not the trainer's."""
        with _process_group_kept() if self._among_others else nullcontext():
            self._engine.engine_core.shutdown()
        del self._engine
        gc.collect()

    def _add(self, tokens: Sequence[int], parameters: Any) -> str:
        request_id = str(next(self._ids))
        self._engine.add_request(request_id, {"prompt_token_ids": list(tokens)}, parameters)
        return request_id

    def _finished(self) -> Iterator[Any]:
        try:
            outputs = self._engine.step()
        except Exception as error:
            raise EngineError(f"the rollout engine failed ({error}); go on with --resume") from error
        return (output for output in outputs if output.finished)


def _refusal(error: ValueError, longest: int) -> str:
    """What vLLM says when it does not start, in one line and in the recipe's words."""
    said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error).partition("\n")[0]
    if not re.search("KV cache is needed|No available memory", said):
        return f"the rollout engine does not start: {said}"
    more = "raise rollout.gpu_memory" if torch.cuda.is_available() else "set VLLM_CPU_KVCACHE_SPACE to more GiB"
    fits = re.search(r"maximum model length is (\d+)", said)
    most = f" ({int(fits[1]):,} tokens fit, prompt and completion)" if fits else ""
    return (
        f"the rollout engine has too little memory for the cache of {longest:,} tokens: {more}, or lower"
        f" rollout.max_completion_tokens{most}"
    )


def _completion(output: Any) -> Completion:
    finish: Finish = "length" if output.finish_reason == "length" else "stop"
    stop = output.stop_reason if isinstance(output.stop_reason, str) else None
    if finish == "stop" and stop is None:
        finish = "eos"
    logprobs = tuple(max(p.logprob for p in entry.values()) for entry in output.logprobs) if output.logprobs else ()
    return Completion(tuple(output.token_ids), output.text, finish, stop, logprobs)


@contextmanager
def _plain_linear_layers() -> Iterator[None]:
    """While an engine is built, keep the CPU's linear layers as ordinary weights that can be replaced."""
    from vllm.model_executor.layers import utils

    def keep_weight(layer: torch.nn.Module, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    packing = utils.dispatch_cpu_unquantized_gemm
    utils.dispatch_cpu_unquantized_gemm = keep_weight
    try:
        yield
    finally:
        utils.dispatch_cpu_unquantized_gemm = packing


def _sort_less(worker: Any) -> None:
    """Have the nucleus of an answer found by a faster sort than vLLM's on a CPU; vLLM draws from it."""
    sampler = worker.model_runner.sampler.topk_topp_sampler
    draw = sampler.forward

    def forward(logits: torch.Tensor, generators: Any, k: torch.Tensor | None, p: torch.Tensor | None) -> Any:
        if k is None and p is not None:
            logits, p = keep_nucleus(logits, p), None
        return draw(logits, generators, k, p)

    sampler.forward = forward


@contextmanager
def _process_group_kept() -> Iterator[None]:
    """While an engine is closed, keep the trainer's process group, which vLLM would destroy with its own."""
    from vllm.distributed import destroy_model_parallel
    from vllm.v1.engine import core

    cleanup = core.cleanup_dist_env_and_memory
    core.cleanup_dist_env_and_memory = destroy_model_parallel
    try:
        yield
    finally:
        core.cleanup_dist_env_and_memory = cleanup
