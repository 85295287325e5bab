"""Tokens become text as they come: nothing is lost, no half character is told, stop strings end it wherever they fall."""

from hypothesis import given
from hypothesis import strategies as st

from modelport.runtime.language.wording import Wording

TEXTS = st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="�"), max_size=40)
WORDS = st.text(alphabet="ab→🎉", min_size=0, max_size=30)


def of_bytes(ids: list[int]) -> str:
    return bytes(ids).decode("utf-8", errors="replace")


def said(text: bytes, *stops: str) -> tuple[list[str], Wording]:
    wording = Wording(of_bytes, stops)  # type: ignore[arg-type]
    pieces = []
    for byte in text:
        pieces.append(wording.add(byte))
        if wording.stopped:
            break
    pieces.append(wording.end())
    return pieces, wording


@given(TEXTS)
def test_the_pieces_together_are_the_text_and_no_piece_has_half_a_character(text: str) -> None:
    pieces, wording = said(text.encode())
    assert "".join(pieces) == text == wording.text
    assert not any("�" in piece for piece in pieces)


@given(TEXTS.filter(lambda text: bool(text) and len(text[-1].encode()) > 1))
def test_half_a_character_at_the_end_is_left_out(text: str) -> None:
    assert "".join(said(text.encode()[:-1])[0]) == text[:-1]


@given(WORDS, st.lists(st.text(alphabet="ab→🎉", min_size=1, max_size=4), min_size=1, max_size=3))
def test_a_stop_string_and_what_follows_it_is_never_told(text: str, stops: list[str]) -> None:
    pieces, wording = said(text.encode(), *stops)
    assert "".join(pieces) == wording.text
    assert text.startswith(wording.text)
    assert not any(stop in wording.text for stop in stops)
    assert wording.stopped == any(stop in text for stop in stops)
    if not wording.stopped:
        assert wording.text == text


def test_what_cannot_begin_a_stop_string_is_told_at_once() -> None:
    pieces, _ = said(b"one two END three", "END")
    assert pieces[:8] == list("one two ")
    assert "".join(pieces) == "one two "


def test_bytes_that_are_no_text_do_not_hold_the_rest_back_for_ever() -> None:
    pieces, _ = said(b"\xff" * 100 + b"ok")
    assert any(pieces[:30])
    assert "".join(pieces).endswith("ok")
