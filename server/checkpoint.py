"""The checkpoint to serve, checked before anything heavy is imported."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasoning import DEFAULT_MARKERS, CheckpointError, StepGrpoCard, load_card

DEFAULT_THINK = ("<think>", "</think>")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "tiktoken.model")
WEIGHT_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class ServedCheckpoint:
    """A checkpoint folder that can be served.

    Attributes:
        folder: where it is.
        card: its ``step_grpo.json``; None for an ordinary reasoning model.
        template: its chat template, if it brings one.
        dtype: the precision that its config names, if it does.
    """

    folder: Path
    card: StepGrpoCard | None
    template: str = ""
    dtype: str = ""

    @property
    def name(self) -> str:
        """The name that clients ask for unless another is given: the folder's."""
        return self.folder.name

    @property
    def markers(self) -> tuple[str, ...]:
        """What opens a step: the checkpoint's own markers, else the default ones."""
        return tuple(self.card.markers) if self.card else DEFAULT_MARKERS

    @property
    def think(self) -> tuple[str, str]:
        """Opening and closing tag of the thinking block."""
        return (self.card.think.start, self.card.think.end) if self.card else DEFAULT_THINK

    @property
    def thinks(self) -> bool:
        """Whether the chat template knows of thinking blocks, as that of every model that was trained to think does."""
        return self.think[1] in self.template


def load_checkpoint(source: str | Path) -> ServedCheckpoint:
    """Check a checkpoint folder and read its card.

    Raises:
        CheckpointError: the folder is missing, incomplete or damaged, or its ``step_grpo.json`` is broken.
    """
    folder = Path(source).expanduser()
    if not folder.exists():
        advice = "" if folder.parent.exists() else f"; a model of a hub: hf download {source} --local-dir {folder.name}"
        raise CheckpointError(f"there is no checkpoint folder {folder}{advice}")
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is a file, not a checkpoint folder")
    folder = folder.resolve()
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        raise CheckpointError(
            f"{folder} is a LoRA adapter: serve its base model with --enable-lora --lora-modules NAME={folder}"
        )
    config = _json_object(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise CheckpointError(f"{folder / 'config.json'} names no model_type")
    if not any((folder / name).exists() for name in TOKENIZERS):
        raise CheckpointError(f"{folder} has no tokenizer ({', '.join(TOKENIZERS)})")
    template = ""
    if not (folder / "tekken.json").exists():  # Mistral's own format, in which vLLM brings the template
        template = str(_json_object(folder / "tokenizer_config.json").get("chat_template", ""))
    if (folder / "chat_template.jinja").exists():
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8", errors="replace")
    _check_weights(folder)
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "")
    return ServedCheckpoint(folder, load_card(folder), template, dtype)


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} has no {path.name}, so it is not a Hugging Face checkpoint") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} does not hold a JSON object")
    return value


def _check_weights(folder: Path) -> None:
    """Check that every file of weights is there and whole; other formats than safetensors only for being there."""
    files = sorted(folder.glob("*.safetensors"))
    if (folder / WEIGHT_INDEX).exists():
        names = _json_object(folder / WEIGHT_INDEX).get("weight_map")
        if not isinstance(names, dict):
            raise CheckpointError(f"{folder / WEIGHT_INDEX} has no weight_map")
        files = [folder / str(name) for name in sorted(set(names.values()))]
    if not files and not any(folder.glob("*.bin")):
        raise CheckpointError(f"{folder} has no weights (*.safetensors)")
    for path in files:
        _check_safetensors(path)


def _check_safetensors(path: Path) -> None:
    """Compare a file's size with what its header announces: 8 bytes of length, the header, the tensors."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            size = path.stat().st_size
            if length > size - 8:
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
        end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path} is no safetensors file (an unfinished download, a Git LFS pointer?)") from error
    if 8 + length + end != size:
        raise CheckpointError(f"{path} is damaged: it has {size} bytes where its header announces {8 + length + end}")
