"""Images and videos reach vision-language models: what is in them, how many, in which order.

`llava` takes images only; `qwen` takes videos as such. Both have random weights, so an answer is a fingerprint of all
that reached the model.
"""

import io
from functools import cache
from typing import Any

import pytest
from PIL import Image

from tests.runtime.torch_env import Model, made

pytestmark = pytest.mark.timeout(600)  # the first test on a machine makes the models

GREEDY = {"temperature": 0, "max_new_tokens": 10}
BOTH = pytest.mark.parametrize("name", ["llava", "qwen"])


@cache
def model(name: str) -> Model:
    return Model(made(name))


def image(colour: str, block: str | None = None) -> tuple[str, bytes]:
    picture = Image.new("RGB", (64, 64), colour)
    if block:
        picture.paste(block, (0, 0, 16, 16))
    data = io.BytesIO()
    picture.save(data, "PNG")
    return "image", data.getvalue()


def video(name: str) -> tuple[str, bytes]:
    return "video", (made("videos") / name).read_bytes()


def text(name: str, *media: tuple[str, bytes], **body: Any) -> str:
    answer = model(name).ask(*media, prompt="What is this?", **GREEDY, **body)
    return answer["text"]


@BOTH
def test_a_block_of_pixels_changes_the_answer(name: str) -> None:
    assert text(name, image("red")) == text(name, image("red"))
    assert len({text(name), text(name, image("red")), text(name, image("red", block="blue"))}) == 3


@BOTH
def test_several_images_reach_the_model_in_their_order(name: str) -> None:
    one, two = image("red"), image("blue")
    assert len({text(name, one), text(name, two), text(name, one, two), text(name, two, one)}) == 4
    results = model(name).ask(one, two, prompt="What?", **GREEDY)["results"]
    assert (results["is_vlm"], results["model_type"], results["total_images"], results["total_videos"]) == (
        True,
        "vlm",
        2,
        0,
    )
    assert results["input_tokens"] > model(name).ask(one, prompt="What?", **GREEDY)["results"]["input_tokens"]


@BOTH
def test_an_image_has_its_place_in_the_conversation(name: str) -> None:
    def asked(*content: dict[str, Any]) -> str:
        return model(name).chat([{"role": "user", "content": list(content)}], image("red"), **GREEDY)["text"]

    words, place = {"type": "text", "text": "Look"}, {"type": "image"}
    assert asked(place, words) != asked(words, place)
    assert "no place" in model(name).chat([{"role": "user", "content": "Look"}], image("red"))["refused"]


@BOTH
@pytest.mark.parametrize("kind", ["mp4", "webm", "avi"])
def test_a_video_reaches_the_model_and_results_say_how_much_of_it(name: str, kind: str) -> None:
    answer = model(name).ask(video(f"red-blue.{kind}"), prompt="What?", **GREEDY)
    results = answer["results"]
    assert (results["total_videos"], results["total_images"]) == (1, 0)
    assert results["frames"] == [8]
    assert results["fps_used"] == [4.0]
    assert results["total_pixels_used"] == [8 * 64 * 48]


@BOTH
def test_the_order_of_a_video_s_frames_changes_the_answer(name: str) -> None:
    assert len({text(name), text(name, video("red-blue.mp4")), text(name, video("blue-red.mp4"))}) == 3


@BOTH
def test_fps_and_total_pixels_decide_how_much_is_seen(name: str) -> None:
    def results(**body: Any) -> dict[str, Any]:
        return model(name).ask(video("red-blue.mp4"), prompt="What?", **GREEDY, **body)["results"]

    assert results(fps=1)["frames"] == [2]
    assert results(fps=2)["frames"] == [4]
    assert results(fps=1)["input_tokens"] < results(fps=4)["input_tokens"]
    assert results(total_pixels=8_000)["total_pixels_used"][0] <= 8_000
    many = model(name).ask(video("long.mp4"), prompt="What?", fps=10, **GREEDY)
    assert many["results"]["frames"] == [16 if name == "llava" else 128]


@BOTH
def test_an_image_and_two_videos_go_together(name: str) -> None:
    media = (image("red"), video("red-blue.mp4"), video("blue-red.mp4"))
    answer = model(name).ask(*media, prompt="What?", fps=2, **GREEDY)
    assert answer["results"]["total_images"] == 1
    assert answer["results"]["frames"] == [4, 4]
    other = model(name).ask(media[0], media[2], media[1], prompt="What?", fps=2, **GREEDY)
    assert other["text"] != answer["text"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cannot be read as a video"),
        (b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 500, "cannot be read as a video"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nFILE\n#EXT-X-ENDLIST\n", "cannot be read as a video"),
        (b"ffconcat version 1.0\nfile 'FILE'\n", "cannot be read as a video"),
        (b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'/>", "cannot be read as a video"),
    ],
)
def test_what_is_no_video_is_refused_and_playlists_open_no_file(data: bytes, words: str) -> None:
    data = data.replace(b"FILE", str(made("videos") / "red-blue.mp4").encode())
    answer = model("qwen").ask(("video", data), prompt="What?")
    assert words in answer["refused"]
    assert answer["status"] == 400 and "red-blue" not in answer["refused"]


def test_a_cut_video_is_used_as_far_as_it_goes_or_refused() -> None:
    whole = video("red-blue.avi")[1]
    answer = model("qwen").ask(("video", whole[: len(whole) // 2]), prompt="What?", **GREEDY)
    assert answer.get("text") or "video" in answer["refused"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"fps": 0}, "`fps` must be a number from 0.01 to 60, not 0."),
        ({"fps": "4"}, "not '4'"),
        ({"total_pixels": 10}, "from 3,136"),
        ({"total_pixels": 4000}, "leaves 500 for each of the 8 frames"),
        ({"prompt": "a <|image_pad|> b"}, "may not hold '<|image_pad|>'"),
    ],
)
def test_wrong_values_are_said(body: dict[str, Any], words: str) -> None:
    answer = model("qwen").ask(video("red-blue.mp4"), **{"prompt": "What?", **body})
    assert words in answer["refused"]
    assert answer["status"] == 400


def test_a_damaged_image_and_a_file_are_refused() -> None:
    assert model("llava").ask(("image", image("red")[1][:60]), prompt="What?")["status"] == 400
    assert "neither an image nor a video" in model("llava").ask(("file", b"x"), prompt="What?")["refused"]


def test_more_images_than_the_context_holds_are_refused_with_numbers() -> None:
    refused = model("llava").ask(*[image("red")] * 70, prompt="What?")["refused"]
    assert "1,024" in refused and "tokens (images and frames count)" in refused


def test_an_answer_about_an_image_streams_and_stops() -> None:
    answer = model("qwen").ask(image("red"), prompt="What?", temperature=0, max_new_tokens=60)
    assert "".join(answer["pieces"]) == answer["text"] and len(answer["pieces"]) > 5
    left = model("qwen").ask(image("red"), prompt="What?", temperature=0, max_new_tokens=400, stop_after=2)
    assert left["output_tokens"] < 100
    assert model("qwen").facts["most"] == 1
