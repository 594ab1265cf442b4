from argparse import Namespace

import pytest
from fastapi import FastAPI
from starlette.datastructures import State

from reasoning import CheckpointError
from server.plugin import StepGrpoPlugin
from server.vllm_compat import hand_over


async def test_in_our_own_server_it_does_nothing(bench):
    plugin, app = StepGrpoPlugin(), FastAPI()
    routes = list(app.routes)
    plugin.attach_router(app)
    await plugin.init_state(bench.engine, State(), Namespace())
    assert app.routes == routes


async def test_a_broken_checkpoint_ends_the_start(tmp_path):
    plugin = StepGrpoPlugin()
    plugin.attach_router(FastAPI())
    with pytest.raises(CheckpointError, match="config"):
        await plugin.init_state(object(), State(), Namespace(model=str(tmp_path), served_model_name=None))


def test_the_app_and_handlers_of_the_engine_call_ours():
    state, engine, ours, other = State(), object(), object(), object()
    state.chat, state.other = Namespace(engine_client=engine), Namespace(engine_client=other)
    state.text = "no handler"
    state.engine_client = engine
    hand_over(state, engine, ours)
    assert state.engine_client is ours
    assert state.chat.engine_client is ours
    assert state.other.engine_client is other
