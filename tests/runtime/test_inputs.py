"""Inputs: what is taken for media, from where it may come, and what no text may reach."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.errors import ModelportError
from modelport.media.fetch import Network
from modelport.runtime import inputs
from modelport.runtime.inputs import Item, Sources, below, by_signs, decoded, fetched, named, take
from tests.runtime.test_requests import MP4, PNG, b64, uri


def read(sources: Sources | None = None, **body: Any) -> list[Any]:
    _, items = take(body)
    asyncio.run(fetched(items, sources or Sources()))
    return decoded(items)


@pytest.mark.parametrize(
    ("address", "bucket", "inside"),
    [
        ("s3://bucket/a/b.png", "s3://bucket", True),
        ("aws://bucket/a/b.png", "s3://bucket/", True),
        ("s3://bucket/a/b.png", "s3://bucket/a", True),
        ("azure://box/a.png", "az://box", True),
        ("s3://bucket/ab/c.png", "s3://bucket/a", False),
        ("s3://bucket2/a/b.png", "s3://bucket", False),
        ("gs://bucket/a/b.png", "s3://bucket", False),
        ("s3://Bucket/a/b.png", "s3://bucket", False),
    ],
)
def test_a_cloud_address_must_lie_below_the_named_bucket(address: str, bucket: str, inside: bool) -> None:
    assert below(address, bucket) is inside


@pytest.mark.parametrize("address", ["s3://bucket/a/../../other/x", "s3://bucket/a/./x", "s3:///x"])
def test_a_cloud_address_of_two_readings_is_refused(address: str) -> None:
    with pytest.raises(ModelportError):
        below(address, "s3://bucket/a")
    with pytest.raises(ModelportError):
        read(Sources("s3://bucket/a"), media=address)


def test_an_address_outside_the_bucket_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(ModelportError, match="not below the bucket that this server reads"):
        read(Sources("s3://bucket/a"), media="s3://bucket/b/x.png")


def test_an_address_on_the_web_is_fetched_only_from_listed_public_hosts() -> None:
    async def private(host: str, port: int) -> list[str]:
        return ["169.254.169.254"]

    sources = Sources(hosts=("media.example.com",), network=Network(resolve=private))
    for address in ("https://media.example.com/x.png", "http://other.example.com/x.png", "http://127.0.0.1/x.png"):
        with pytest.raises(ModelportError, match="does not fetch media from"):
            read(sources, images=[address])


def test_media_keep_the_order_they_stand_in() -> None:
    rest, items = take({"video": uri(MP4), "prompt": "x", "images": [uri(PNG), b64(PNG)], "top_k": None})
    assert rest == {"prompt": "x"}
    assert [item.name for item in items] == ["video", "images[0]", "images[1]"]


@pytest.mark.parametrize("cap", ["image", "video"])
def test_caps_hold_for_each_medium_and_for_all_together(cap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (PNG if cap == "image" else MP4) + bytes(1000)
    monkeypatch.setitem(inputs.MAX_BYTES, cap, 500)
    with pytest.raises(ModelportError, match="more than") as raised:
        read(media=b64(data))
    assert raised.value.kind.status == 413
    monkeypatch.setitem(inputs.MAX_BYTES, cap, 5000)
    monkeypatch.setattr(inputs, "MAX_TOTAL_BYTES", 1500)
    assert len(read(media=[b64(data)])) == 1
    with pytest.raises(ModelportError, match="The media of a request are more than"):
        read(media=[b64(data), b64(data)])


@given(st.binary(min_size=1, max_size=200))
def test_base64_comes_back_as_it_was_or_is_refused(data: bytes) -> None:
    text = b64(data)
    if by_signs(data):
        assert read(input=text)[0].data == data
    else:
        with pytest.raises(ModelportError):
            read(input=text)
    assert read(image=f"data:image/png;base64,{text}")[0].data == data
    assert read(image="data:image/png;base64," + base64.encodebytes(data).decode())[0].data == data


@given(st.text(max_size=100))
def test_no_text_is_ever_read_as_a_path_or_breaks_the_server(text: str) -> None:
    try:
        found = read(media=text)
    except ModelportError as error:
        assert text not in error.message or len(text) < 12
        return
    assert found[0].data and by_signs(found[0].data)


@given(st.text(max_size=300))
def test_a_name_never_shows_a_directory(path: str) -> None:
    name = named(f"/home/someone/{path}")
    assert "/" not in name and "\\" not in name and "someone" not in name.replace(path, "")
    assert name.isprintable() and len(name) <= 200


def test_a_chat_learns_what_its_media_are() -> None:
    mark: dict[str, Any] = {"type": "image"}
    decoded([Item("messages[0].content[0]", uri(MP4, "image/png"), "image", mark=mark)])
    assert mark == {"type": "video"}


def test_a_local_file_is_never_opened(tmp_path: Path) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(PNG)
    for text in (str(picture), f"file://{picture}", f"FILE:{picture}"):
        with pytest.raises(ModelportError) as raised:
            read(images=[text])
        assert str(tmp_path) not in raised.value.message
