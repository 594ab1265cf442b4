"""Adapters that are loaded and unloaded while the server runs."""

from types import SimpleNamespace

import pytest
from starlette.datastructures import State

from server.adapters import with_unloading
from server.savings import Baseline
from server.vllm_compat import wrap_handlers


@pytest.fixture
def adapter(tmp_path):
    return SimpleNamespace(lora_name="adapter", lora_path=str(tmp_path))


@pytest.fixture
def unload(bench):
    """Unloads an adapter as vLLM's models do, which answer a text, or an error as an object."""

    class Models:
        async def unload_lora_adapter(self, request):
            return "Success" if request.lora_name == "adapter" else SimpleNamespace(error="no such adapter")

    state = State()
    state.openai_serving_models = Models()
    wrap = {
        "answering": lambda handler, lazy: handler,
        "finishing": lambda handler: handler,
        "beams": lambda each: each,
    }
    wrap_handlers(state, **wrap, unloading=lambda handler: with_unloading(handler, bench.meter))

    async def unloading(name):
        return await state.openai_serving_models.unload_lora_adapter(SimpleNamespace(lora_name=name))

    return unloading


def series_of(bench, model):
    samples = [sample for family in bench.registry.collect() for sample in family.samples]
    return [sample.name for sample in samples if sample.labels.get("model_name") == model]


def models_of(bench):
    return [model.model for model in bench.meter.summary.models()]


async def test_an_unloaded_adapter_leaves_no_series(bench, adapter, card, unload, tmp_path):
    card().save(tmp_path)
    await bench.engine.add_lora(adapter)
    await bench.run(bench.output((0, "<think> a</think> b", "length")), lora_request=adapter)
    before = len(series_of(bench, "tuned"))
    assert len(series_of(bench, "adapter")) == before
    assert await unload("adapter") == "Success"
    assert (series_of(bench, "adapter"), models_of(bench)) == ([], ["tuned"])
    assert len(series_of(bench, "tuned")) == before


async def test_an_adapter_that_stays_keeps_its_series(bench, adapter, unload):
    await bench.engine.add_lora(adapter)
    assert (await unload("other")).error == "no such adapter"
    assert series_of(bench, "adapter")
    assert models_of(bench) == ["tuned", "adapter"]


@pytest.mark.parametrize("end", ["length", "abort"])
async def test_an_answer_under_way_ends_and_is_counted_nowhere(bench, adapter, unload, end):
    await bench.engine.add_lora(adapter)
    bench.script.outputs = [bench.output((0, "<think> a", None)), bench.output((0, "</think> b", end))]
    outputs = bench.engine.generate("prompt", bench.sampling(), "id", lora_request=adapter)
    await anext(outputs)
    await unload("adapter")
    assert len([output async for output in outputs]) == 1
    bench.meter.metrics.shadowed("adapter", "compared")
    bench.meter.metrics.compared("adapter", 1, 2)
    bench.meter.summary.compared("adapter", 1, 2)
    assert (series_of(bench, "adapter"), models_of(bench)) == ([], ["tuned"])


async def test_an_adapter_that_comes_back_begins_anew(bench, adapter, card, unload, tmp_path):
    card().save(tmp_path)
    await bench.engine.add_lora(adapter)
    await bench.run(bench.output((0, "<think> a", "length")), lora_request=adapter)
    await unload("adapter")
    card(calibration=None).save(tmp_path)
    await bench.engine.add_lora(adapter)
    assert bench.value("stepgrpo_completion_tokens_count", model_name="adapter") == 0
    assert "stepgrpo_calibration_savings_ratio" not in series_of(bench, "adapter")
    assert bench.meter.model(adapter).baseline == Baseline()
