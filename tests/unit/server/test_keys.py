import os
from argparse import Namespace

import pytest

from server.keys import InvalidKeysError, Keyring, digest_of, keyring_of


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "keys.yaml"

    def write(text):
        path.write_text(text)
        return path

    return write


ALICE = "- {name: alice, key: key-of-alice, max_concurrent: 2, tokens_per_minute: 30}\n"
BOB = f"- {{name: bob, sha256: {digest_of('key-of-bob').hex()}}}\n"


def test_a_key_is_found_by_itself_or_by_its_digest(file):
    keyring = Keyring(file(ALICE + BOB))
    alice = keyring.find("key-of-alice")
    assert (alice.name, alice.max_concurrent, alice.tokens_per_minute) == ("alice", 2, 30)
    assert keyring.find("key-of-bob").name == "bob"
    for wrong in ("", "key-of-alic", "key-of-alice ", digest_of("key-of-bob").hex(), "\udcff"):
        assert keyring.find(wrong) is None


def test_every_key_is_compared_whichever_it_is(file, monkeypatch):
    compared = []
    monkeypatch.setattr("server.keys.hmac.compare_digest", lambda a, b: compared.append(a) or a == b)
    keyring = Keyring(file(ALICE + BOB))
    for presented in ("key-of-alice", "key-of-bob", "neither"):
        compared.clear()
        keyring.find(presented)
        assert len(compared) == 2


def test_a_change_of_the_file_is_noticed_within_a_second(file, clock):
    keyring = Keyring(file(ALICE), clock=clock)
    file(BOB)
    clock.now = 1.0
    assert keyring.find("key-of-alice") is None
    assert keyring.find("key-of-bob").name == "bob"


def test_a_link_that_is_turned_is_a_change(file, tmp_path, clock):
    first = file(ALICE).rename(tmp_path / "first")
    second = file(BOB).rename(tmp_path / "second")
    os.utime(second, ns=(first.stat().st_atime_ns, first.stat().st_mtime_ns))
    link = tmp_path / "link"
    link.symlink_to(first)
    keyring = Keyring(link, clock=clock)
    link.unlink()
    link.symlink_to(second)
    clock.now = 1.0
    assert keyring.find("key-of-bob").name == "bob"


@pytest.mark.parametrize("damage", ["- {name: alice", "[]", "gone"])
def test_a_file_that_breaks_leaves_the_keys_as_they_were(file, clock, caplog, damage):
    path = file(ALICE)
    keyring = Keyring(path, clock=clock)
    if damage == "gone":
        path.unlink()
    else:
        file(damage)
    for clock.now in (1.0, 2.0, 3.0):
        assert keyring.find("key-of-alice").name == "alice"
    assert caplog.text.count("the API keys stay as they were") == 1
    assert "key-of-alice" not in caplog.text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file: Input should be a valid list"),
        ("[]", "holds no keys"),
        ("- {name: alice", "is not a YAML file"),
        ("- {name: alice, key: short-1}", "0.key: Value should have at least 8 items"),
        ("- {name: alice}", "needs either key or sha256"),
        ("- {name: 'a b', key: key-of-alice}", "0.name: String should match pattern"),
        ("- {name: alice, sha256: abc}", "0.sha256: String should match pattern"),
        ("- {name: alice, key: key-of-alice, limit: 3}", "0.limit: Extra inputs are not permitted"),
        (ALICE + ALICE, "has a name or a key twice"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_without_showing_a_key(file, text, says):
    with pytest.raises(InvalidKeysError, match=says) as error:
        Keyring(file(text))
    assert "short-1" not in str(error.value)
    assert "key-of-alice" not in str(error.value)
    assert error.value.__cause__ is None


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(InvalidKeysError, match="nope cannot be read: No such file"):
        Keyring(tmp_path / "nope")


def test_keys_of_vllms_own_options_are_taken_from_it(file, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "key-of-env")
    arguments = Namespace(api_key=["key-of-option", "another"])
    keyring = keyring_of(file(ALICE), arguments)
    assert keyring.find("key-of-option").name == "option-1"
    assert keyring.find("another").name == "option-2"
    assert keyring.find("key-of-alice").name == "alice"
    assert keyring.find("key-of-env") is None
    assert arguments.api_key is None
    assert "VLLM_API_KEY" not in os.environ


def test_the_variable_of_vllm_counts_without_the_option(monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "key-of-env")
    assert keyring_of(None, Namespace(api_key=None)).find("key-of-env").name == "option-1"
    assert keyring_of(None, Namespace(api_key=None)) is None
