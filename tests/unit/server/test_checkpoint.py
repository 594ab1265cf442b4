import json
import struct

import pytest

from reasoning import CARD_NAME, DEFAULT_MARKERS, CheckpointError
from server.checkpoint import load_checkpoint


def safetensors(size=16):
    header = json.dumps({"__metadata__": {}, "w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "tuned"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen3"}')
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(safetensors())
    return folder


def refused(folder):
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(folder)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_checkpoint_without_a_card_is_an_ordinary_reasoning_model(folder):
    checkpoint = load_checkpoint(folder)
    assert checkpoint.card is None
    assert checkpoint.markers == DEFAULT_MARKERS
    assert checkpoint.think == ("<think>", "</think>")
    assert checkpoint.name == "tuned"


def test_the_card_says_how_completions_are_read(folder, card):
    card(think={"start": "[THINK]", "end": "[/THINK]"}, markers=["Hold on"]).save(folder)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.markers == ("Hold on",)
    assert checkpoint.think == ("[THINK]", "[/THINK]")


def test_a_checkpoint_in_mistrals_format_has_its_tokenizer_in_one_file(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    (folder / "tekken.json").write_text("{}")
    assert load_checkpoint(folder).template == ""


@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_model_thinks_if_its_chat_template_says_so(folder, file):
    assert not load_checkpoint(folder).thinks
    template = "{{ message.content.split('</think>')[-1] }}"
    (folder / file).write_text(json.dumps({"chat_template": template}) if file.endswith("json") else template)
    assert load_checkpoint(folder).thinks


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_the_precision_is_the_configs(folder, key):
    assert load_checkpoint(folder).dtype == ""
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3", key: "float32"}))
    assert load_checkpoint(folder).dtype == "float32"


def test_the_name_is_the_folders_own(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert load_checkpoint(".").name == "tuned"


def test_weights_in_several_files(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00002-of-00002.safetensors is missing" in refused(folder)
    (folder / "model-00002-of-00002.safetensors").write_bytes(safetensors())
    load_checkpoint(folder)


def test_a_missing_folder(tmp_path):
    assert refused(tmp_path / "nope") == f"there is no checkpoint folder {tmp_path / 'nope'}"
    assert refused("Qwen/Qwen3-8B") == (
        "there is no checkpoint folder Qwen/Qwen3-8B; a model of a hub: hf download Qwen/Qwen3-8B --local-dir Qwen3-8B"
    )


def test_a_file_instead_of_a_folder(folder):
    assert "is a file" in refused(folder / "config.json")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("config.json", "has no config.json, so it is not a Hugging Face checkpoint"),
        ("tokenizer_config.json", "has no tokenizer_config.json"),
        ("tokenizer.json", "has no tokenizer"),
        ("model.safetensors", "has no weights"),
    ],
)
def test_a_missing_file(folder, name, says):
    (folder / name).unlink()
    assert says in refused(folder)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", b'{"model_type":', "config.json is not valid JSON"),
        ("config.json", b"[]", "config.json does not hold a JSON object"),
        ("config.json", b"{}", "config.json names no model_type"),
        ("config.json", b"\xff\xfe\x00", "config.json is not valid JSON"),
        ("model.safetensors", safetensors(size=12), "is damaged: it has"),
        ("model.safetensors", safetensors(size=20), "is damaged: it has"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is no safetensors file"),
        ("model.safetensors", b"", "is no safetensors file"),
        ("model.safetensors", struct.pack("<Q", 4) + b"null", "is no safetensors file"),
        ("model.safetensors.index.json", b"{}", "has no weight_map"),
        (CARD_NAME, b"{", f"{CARD_NAME} is broken"),
        (CARD_NAME, b'{"format": 2}', f"{CARD_NAME} is broken: format"),
    ],
)
def test_a_broken_file(folder, name, content, says):
    (folder / name).write_bytes(content)
    assert says in refused(folder)


def test_an_adapter_needs_its_base(folder):
    (folder / "config.json").rename(folder / "adapter_config.json")
    assert "serve its base model with --enable-lora" in refused(folder)
