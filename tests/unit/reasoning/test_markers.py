import pytest

from reasoning import count_steps, marker_pattern


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", 1),
        ("So 4.", 1),
        ("So 4. Wait, no. Wait", 3),
        ("Waiting for the butter, await WaitWait", 1),
        ("wait WAIT", 1),
        ("(Wait) Wait1 _Wait_", 4),
        ("éWait Waité", 1),
    ],
)
def test_paper_count_is_one_plus_the_standalone_markers(text, steps):
    assert count_steps(text) == steps


def test_only_the_given_markers_count():
    text = "Wait. Alternatively, x. Hmm"
    assert count_steps(text) == 2
    assert count_steps(text, ["Wait", "Alternatively", "Hmm"]) == 4
    assert count_steps(text, []) == 1


def test_the_longest_marker_wins():
    assert marker_pattern(["Wait", "Wait a minute"]).findall("Wait a minute. Wait") == ["Wait a minute", "Wait"]


def test_markers_of_unspaced_scripts_are_found_inside_sentences():
    assert count_steps("我们得到三等等，不对", ["等等"]) == 2


@pytest.mark.parametrize("markers", [[""], ["Wait", " "]])
def test_a_blank_marker_is_refused(markers):
    with pytest.raises(ValueError, match="blank"):
        marker_pattern(markers)


def test_a_single_string_is_not_a_list_of_markers():
    with pytest.raises(TypeError, match="sequence"):
        marker_pattern("Wait")
