"""The checkpoint to serve, checked before anything heavy is imported."""

import json
from dataclasses import dataclass
from pathlib import Path

from reasoning import DEFAULT_MARKERS, CheckpointError, StepGrpoCard, load_card

DEFAULT_THINK = ("<think>", "</think>")


@dataclass(frozen=True, slots=True)
class ServedCheckpoint:
    """A checkpoint with what its card says of it; ``card`` is None for an ordinary reasoning model."""

    source: str
    card: StepGrpoCard | None

    @property
    def markers(self) -> tuple[str, ...]:
        """The checkpoint's own markers, else the default ones."""
        return tuple(self.card.markers) if self.card else DEFAULT_MARKERS

    @property
    def think(self) -> tuple[str, str]:
        """Start and end tag of the thinking block."""
        return (self.card.think.start, self.card.think.end) if self.card else DEFAULT_THINK


def load_checkpoint(source: str) -> ServedCheckpoint:
    """Check a checkpoint folder and read its card.

    A name that is no path (``Qwen/Qwen3-8B``) is left to vLLM, which fetches it, and has no card.

    Raises:
        CheckpointError: the folder is missing or incomplete, or its ``step_grpo.json`` is broken.
    """
    folder = Path(source).expanduser()
    if not folder.exists() and not source.startswith((".", "/", "~")) and source.count("/") == 1:
        return ServedCheckpoint(source, None)
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint folder at {folder}")
    try:
        json.loads((folder / "config.json").read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} has no config.json, so it is not a Hugging Face checkpoint") from error
    except ValueError as error:
        raise CheckpointError(f"{folder / 'config.json'} is not valid JSON: {error}") from error
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder} has no *.safetensors weights")
    if not (folder / "tokenizer_config.json").exists():
        raise CheckpointError(f"{folder} has no tokenizer_config.json")
    return ServedCheckpoint(str(folder), load_card(folder))
