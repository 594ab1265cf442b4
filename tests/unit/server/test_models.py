from types import SimpleNamespace

import pytest

from reasoning import CARD_NAME
from server.metering import Meter
from server.metrics import EfficiencyMetrics
from server.models import model_of_adapter
from server.savings import Baseline


@pytest.fixture
def base(bench):
    return bench.meter.open(bench.sampling())._model


def test_an_adapter_with_a_card_has_its_own_savings(base, card, tmp_path):
    own = card(markers=["Hold on"])
    own.save(tmp_path)
    model = model_of_adapter(SimpleNamespace(lora_name="adapter", lora_path=str(tmp_path)), base)
    assert (model.name, model.markers, model.card) == ("adapter", ("Hold on",), own)
    assert model.baseline.source == "calibrated"


@pytest.mark.parametrize("content", [None, "{"])
def test_an_adapter_without_a_sound_card_claims_no_savings(base, tmp_path, content):
    if content:
        (tmp_path / CARD_NAME).write_text(content)
    model = model_of_adapter(SimpleNamespace(lora_name="adapter", lora_path=str(tmp_path)), base)
    assert (model.markers, model.think) == (base.markers, base.think)
    assert model.baseline == Baseline()


async def test_requests_count_for_the_model_that_they_asked_for(bench, tmp_path):
    adapter = SimpleNamespace(lora_name="adapter", lora_path=str(tmp_path))
    await bench.run(bench.output((0, "<think> a", "length")), lora_request=adapter)
    await bench.run(bench.output((0, "<think> a", "length")), lora_request=adapter)
    await bench.run(bench.output((0, "<think> a", "length")))
    assert bench.value("stepgrpo_completion_tokens_count") == 1
    assert bench.value("stepgrpo_completion_tokens_count", model_name="adapter") == 2
    assert [(model.model, model.requests) for model in bench.meter.summary.models()] == [("tuned", 1), ("adapter", 2)]


@pytest.fixture
def adapter(tmp_path):
    return SimpleNamespace(lora_name="adapter", lora_path=str(tmp_path))


async def test_a_loaded_adapter_has_its_series_before_it_is_asked(bench, adapter):
    assert await bench.engine.add_lora(adapter)
    assert bench.value("stepgrpo_completion_tokens_count", model_name="adapter") == 0
    assert [model.model for model in bench.meter.summary.models()] == ["tuned", "adapter"]


async def test_an_adapter_that_cannot_be_loaded_is_not_served(bench, adapter):
    bench.script.errored = True
    with pytest.raises(ValueError, match="no such adapter"):
        await bench.engine.add_lora(adapter)
    assert [model.model for model in bench.meter.summary.models()] == ["tuned"]


async def test_another_adapter_under_the_same_name_is_read_by_its_own_card(bench, adapter, card, tmp_path):
    card(markers=["Hold on"]).save(tmp_path)
    await bench.engine.add_lora(adapter)
    await bench.run(bench.output((0, "<think> a", "length")), lora_request=adapter)
    card(markers=["Hm"], calibration=None, base_model="other").save(tmp_path)
    await bench.engine.add_lora(adapter)
    assert (bench.meter.model(adapter).markers, bench.meter.model(adapter).baseline) == (("Hm",), Baseline())
    (_, summary) = bench.meter.summary.models()
    assert (summary.requests, set(summary.savings)) == (0, {"none"})
    published = [
        sample.labels.get("base_model", sample.name)
        for family in bench.registry.collect()
        for sample in family.samples
        if family.name in ("stepgrpo_checkpoint_info", "stepgrpo_calibration_savings_ratio")
        and sample.labels["model_name"] == "adapter"
    ]
    assert published == ["other"]
    assert bench.value("stepgrpo_completion_tokens_count", model_name="adapter") == 1


def test_two_meters_do_not_share_a_registry(bench, base):
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Meter(base, bench.words, EfficiencyMetrics(bench.registry), ())
