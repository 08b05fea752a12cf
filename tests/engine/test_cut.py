"""Cuts of texts: whatever the two texts are, pasting a cut into the first gives the second."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.engine.cut import WORTH, cut, paste
from holdfast.errors import DecodeError

TEXT = st.text(alphabet="ab€ü,[]🙂", max_size=12)


@given(TEXT, TEXT, TEXT, TEXT, st.integers(0, 40))
def test_a_pasted_cut_gives_the_new_text(head: str, old: str, new: str, tail: str, times: int) -> None:
    before, after = ((head * times + between + tail * times).encode() for between in (old, new))
    padding = b"x" * WORTH
    piece = cut(padding + before, padding + after)
    assert piece is not None
    assert paste(padding + before, piece) == padding + after


def test_a_cut_holds_what_was_added() -> None:
    old = b"[" + b",".join(b"%d" % n for n in range(1000)) + b"]"
    piece = cut(old, old[:-1] + b",1000]")
    assert piece == [len(old) - 1, 1, ",1000"]


def test_small_entries_and_new_ones_are_written_whole() -> None:
    assert cut(b"[1,2]", b"[1,2,3]") is None
    assert cut(b"a" * 2 * WORTH, b"b" * 2 * WORTH) is None


@pytest.mark.parametrize(
    "piece", [[1, 2], [-1, 0, ""], [0, -1, ""], [5, 5, ""], ["0", 0, ""], [0, 0, 1], None, "cut", {}]
)
def test_a_damaged_cut_is_refused(piece: Any) -> None:
    with pytest.raises(DecodeError):
        paste(b"12345678", piece)
