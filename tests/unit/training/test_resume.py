"""A checkpoint that several processes write is whole only when the last of them is done."""

from types import SimpleNamespace

from accelerate import PartialState

from training.resume import MarkComplete, last_checkpoint


def test_the_mark_waits_for_every_process(tmp_path, monkeypatch):
    (tmp_path / "checkpoint-4").mkdir()
    seen_while_waiting = []

    def wait(_):
        seen_while_waiting.append(last_checkpoint(tmp_path))

    monkeypatch.setattr(PartialState, "wait_for_everyone", wait)
    main = SimpleNamespace(is_world_process_zero=True, global_step=4)
    MarkComplete().on_save(SimpleNamespace(output_dir=tmp_path), main, None)
    assert seen_while_waiting == [None]
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-4"


def test_other_processes_wait_and_mark_nothing(tmp_path, monkeypatch):
    (tmp_path / "checkpoint-4").mkdir()
    waits = []
    monkeypatch.setattr(PartialState, "wait_for_everyone", lambda _: waits.append(1))
    other = SimpleNamespace(is_world_process_zero=False, global_step=4)
    MarkComplete().on_save(SimpleNamespace(output_dir=tmp_path), other, None)
    assert len(waits) == 1
    assert last_checkpoint(tmp_path) is None
