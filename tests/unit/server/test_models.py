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


def test_two_meters_do_not_share_a_registry(bench, base):
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Meter(base, bench.words, EfficiencyMetrics(bench.registry))
