"""``stepgrpo bench train`` and ``stepgrpo bench pruning`` as they are typed."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import stepgrpo
from training import pruning_bench, step_bench

BASE = Path(__file__).resolve().parents[3] / "checkpoints" / "base"
OWN = (
    "name: own\nmodel: {{path: {path}}}\nrollout: {{engine: transformers, max_completion_tokens: 512}}\n"
    "grpo: {{steps: 1, prompts: 1, micro_batch: 1}}\n"
)
BENCHES = {"train": (step_bench, "bench_step"), "pruning": (pruning_bench, "bench_pruning")}
both = pytest.mark.parametrize("bench", BENCHES)


def run(*arguments):
    return CliRunner().invoke(stepgrpo.app, ["bench", *map(str, arguments)], prog_name="stepgrpo")


@pytest.fixture
def started(monkeypatch):
    """The checkpoints that a bench was started from; it measures nothing."""
    bases = []

    def measured(recipe, base, *_, **__):
        bases.append(base)
        raise SystemExit

    for module, name in BENCHES.values():
        monkeypatch.setattr(module, name, measured)
    return bases


@pytest.fixture
def own(tmp_path):
    """A recipe on a model of one's own."""

    def write(path):
        recipe = tmp_path / "own.yaml"
        recipe.write_text(OWN.format(path=path))
        return recipe

    return write


@both
def test_it_starts_from_the_recipes_own_model(bench, started, own):
    run(bench, own(BASE))
    assert started == [BASE]


@both
def test_a_recipe_without_a_model_starts_from_the_bundled_base(bench, started, monkeypatch):
    monkeypatch.chdir(BASE.parents[1])
    run(bench, "quickstart")
    assert started == [Path("checkpoints/base")]


@both
def test_another_base_can_be_named(bench, started, own):
    run(bench, own("/none"), "--base", BASE)
    assert started == [BASE]


@both
@pytest.mark.parametrize("options", [[], ["--base", "/nothing"]])
def test_a_base_that_is_no_checkpoint_is_one_clear_line(bench, own, options):
    result = run(bench, own("/none"), *options)
    assert result.exit_code == 2
    assert f"{options[-1] if options else '/none'} is no checkpoint" in result.output


@both
def test_a_method_that_trains_no_policy_is_refused_with_one_that_would_work(bench, tmp_path):
    result = run(bench, "quickstart", "--base", BASE, "--set", "method=deer", "--output", tmp_path)
    assert result.exit_code == 2
    assert "--set method=step-grpo" in result.output
