"""The text that names the newest checkpoint."""

from pathlib import Path

import pytest

from portackpt_tensorflow.statefile import (
    State,
    encode_state,
    is_state,
    last_component,
    read_state,
)


def test_it_writes_what_it_reads(tmp_path: Path) -> None:
    state = State('a "b"\\\n', ("größe", 'a "b"\\\n'))
    (tmp_path / "checkpoint").write_bytes(encode_state(state))
    assert read_state(tmp_path) == state
    assert encode_state(State("c", ("b", "c"))) == (
        b'model_checkpoint_path: "c"\n'
        b'all_model_checkpoint_paths: "b"\n'
        b'all_model_checkpoint_paths: "c"\n'
    )


def test_it_reads_what_tensorflow_writes(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text(
        "# a comment\n"
        "model_checkpoint_path: 'ck' \"pt-1\"\n"
        'all_model_checkpoint_paths: "gr\\303\\266\\x42"\n'
        "all_model_checkpoint_timestamps: 1757461169.1449866\n"
        "last_preserved_timestamp: 1757459281.8\n"
    )
    assert read_state(tmp_path) == State("ckpt-1", ("gröB",))


@pytest.mark.parametrize(
    "head",
    [b"", b"\x83\xa6", b"{}", b"# model_checkpoint_path", b"step: 1", b"\x80model_checkpoint_path"],
)
def test_it_knows_other_files(tmp_path: Path, head: bytes) -> None:
    assert not is_state(head)
    (tmp_path / "checkpoint").write_bytes(head)
    assert read_state(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ckpt-1", "ckpt-1"),
        ("/home/x/ckpt-1", "ckpt-1"),
        ("../../etc/passwd", "passwd"),
        ("C:\\run\\ckpt-1", "ckpt-1"),
        ("gs://bucket/ckpt-1", "ckpt-1"),
        ("..", ""),
        ("a/..", ""),
        ("a/", ""),
        ("", ""),
        ("a\0b", ""),
    ],
)
def test_it_takes_only_the_last_component(text: str, name: str) -> None:
    assert last_component(text) == name


def test_it_reads_hostile_texts_in_one_pass(tmp_path: Path) -> None:
    start = b'model_checkpoint_path: "a"\n'
    for filling in (b" ", b"\n", b"'", b'"', b"\\", b"'\"", b"all_model_checkpoint_paths:\n"):
        (tmp_path / "checkpoint").write_bytes(start + filling * 300_000)
        state = read_state(tmp_path)
        assert state is not None
        assert state.newest == "a"
