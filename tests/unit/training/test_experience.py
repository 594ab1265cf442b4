from reasoning import EXIT_REASONS
from training.experience import summarise
from training.rollout import Rollout


def test_every_reason_to_exit_has_a_share_so_that_processes_report_the_same():
    found = summarise([Rollout([1, 2], [1, 1], "", "confidence"), Rollout([1, 2], [1, 1], "", "own_reason")])
    shares = {name.removeprefix("exit_"): share for name, share in found.items() if name.startswith("exit_")}
    assert shares == dict.fromkeys(EXIT_REASONS, 0) | {"confidence": 0.5, "own_reason": 0.5}
