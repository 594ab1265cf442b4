"""What a run refuses before it begins."""

from types import SimpleNamespace

import pytest

from training import pipeline
from training.errors import TrainingError
from training.recipe import load_recipe

WORD_PROBLEMS = "data={name: word-problems}"


@pytest.mark.parametrize(
    ("recipe", "overrides", "said"),
    [
        ("quickstart", [], "a base is trained in one process"),
        ("qwen3-1.7b", [WORD_PROBLEMS], "word problems are measured in one process"),
        ("qwen3-1.7b", ["method=deer-sft"], "deer-sft trains in one process"),
    ],
)
def test_several_processes_where_each_would_do_all_of_the_work(tmp_path, monkeypatch, recipe, overrides, said):
    monkeypatch.setattr(pipeline, "PartialState", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(TrainingError, match=said):
        pipeline.run_recipe(load_recipe(recipe, overrides), tmp_path / "run", lambda stage: None)
    assert list(tmp_path.iterdir()) == []
