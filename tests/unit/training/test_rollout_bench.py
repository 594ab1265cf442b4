from training.rollout_bench import take_turns


def test_every_way_has_its_turn_in_every_round_and_progress_counts_them_all():
    told = []
    found = take_turns(["a", "b"], 3, lambda name, turn: f"{name}{turn}", lambda *progress: told.append(progress))
    assert found == {"a": ("a0", "a1", "a2"), "b": ("b0", "b1", "b2")}
    assert told == [(count, 6, {}) for count in range(1, 7)]
