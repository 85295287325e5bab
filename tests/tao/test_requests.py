"""What a request to a TAO service says: sampling, messages, media."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.errors import ModelportError
from modelport.tao import arch as archs
from modelport.tao import content, requests, sampling

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
DEFAULTS = {
    "cosmos-rl": {"max_tokens": 1024, "top_p": 0.8, "temperature": 0.7},
    "cosmos-predict2.5": {"max_tokens": 77, "guidance": 7, "num_steps": 35, "seed": 0},
    "tao-dataservices": {"max_tokens": 1024, "top_p": 0.8, "temperature": 0.7},
}
"""request.yaml of the skill. The negative prompt's default is the service's own."""


@pytest.mark.parametrize("arch", DEFAULTS)
def test_the_defaults_are_the_contracts(arch: str) -> None:
    assert sampling.defaults(sampling.missing(arch, {})) == DEFAULTS[arch]


def test_a_value_is_used_as_it_is_and_only_what_is_open_gets_a_default() -> None:
    values = sampling.read("tao-dataservices", {"temperature": "1.5", "max_tokens": "5"})
    assert values == {"temperature": 1.5, "max_tokens": 5}
    assert [p.name for p in sampling.missing("tao-dataservices", values)] == ["top_p"]


@pytest.mark.parametrize(
    ("arch", "name", "value", "sentence"),
    [
        ("cosmos-rl", "temperature", "2.1", "temperature is 2.1, but it is from 0 to 2"),
        ("cosmos-rl", "temperature", -0.1, "from 0 to 2"),
        ("cosmos-predict2.5", "guidance", "8", "guidance is 8, but it is from 0 to 7"),
        ("cosmos-predict2.5", "guidance", 6.5, "but it is a whole number"),
        ("cosmos-predict2.5", "top_p", 0.5, "cosmos-predict2.5 has no top_p; it has max_tokens, guidance"),
        ("cosmos-rl", "seed", 1, "cosmos-rl has no seed"),
        ("cosmos-rl", "max_tokens", "0", "from 1 to 2,147,483,647"),
        ("cosmos-rl", "max_tokens", "many", "'many', but it is a whole number"),
        ("cosmos-rl", "max_tokens", True, "but it is a whole number"),
        ("cosmos-rl", "top_p", "nan", "but it is a number"),
        ("cosmos-rl", "top_p", None, "but it is a number"),
    ],
)
def test_a_value_out_of_range_is_refused_and_never_moved(arch: str, name: str, value: object, sentence: str) -> None:
    with pytest.raises(ModelportError) as error:
        sampling.read(arch, {name: value})
    assert sentence in error.value.message


def test_a_temperature_above_two_is_tao_dataservices_own_business() -> None:
    assert sampling.read("tao-dataservices", {"temperature": 3})["temperature"] == 3


@given(st.sampled_from(sorted(archs.ARCHS)), st.sampled_from(sampling.names()), st.text() | st.floats() | st.integers())
def test_whatever_is_given_it_is_a_value_of_its_type_or_one_sentence(arch: str, name: str, value: object) -> None:
    try:
        found = sampling.read(arch, {name: value})[name]
    except ModelportError as error:
        assert error.param == name
    else:
        assert str(found) == str(value) or float(found) == float(value)  # type: ignore[arg-type]


def test_a_text_alone_is_content_as_text_and_media_makes_a_list() -> None:
    assert requests.build("tao-dataservices", "Hi", system="Be kind") == {
        "messages": [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]
    }
    url = "https://host.test/a.jpg?size=1"
    made = requests.build("cosmos-rl", "What?", images=[url], videos=["https://host.test/clip"])
    assert made["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What?"},
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "video_url", "video_url": {"url": "https://host.test/clip"}},
            ],
        }
    ]
    with pytest.raises(ModelportError, match="There is nothing to ask"):
        requests.build("tao-dataservices", "  ")


def test_a_file_of_this_machine_goes_along_as_a_data_uri(tmp_path: Path) -> None:
    file = tmp_path / "a.PNG"
    file.write_bytes(b"\x89PNG\r\n\x1a\n")
    item = content.item("cosmos-rl", "image", str(file))
    assert item == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}


@pytest.mark.parametrize(
    ("arch", "kind", "url", "sentence"),
    [
        *(
            ("cosmos-rl", "image", f"{scheme}://b/a.png", "is in cloud storage")
            for scheme in ("s3", "gs", "az", "cs", "aws")
        ),
        ("cosmos-rl", "image", "file:///etc/passwd", "give an http(s) URL or a data: URI"),
        ("cosmos-rl", "image", "ftp://host/a.png", "give an http(s) URL or a data: URI"),
        ("cosmos-rl", "image", f"data:image/webp;base64,{PIXEL}", "no image that cosmos-rl reads; it reads jpg"),
        ("cosmos-predict2.5", "image", f"data:image/gif;base64,{PIXEL}", "it reads png, jpg, jpeg, webp"),
        ("cosmos-predict2.5", "video", "https://host/a.webm", "it reads mp4"),
        ("cosmos-rl", "image", "https://host/a.mp4", "is no image that cosmos-rl reads"),
        ("cosmos-rl", "video", f"data:image/png;base64,{PIXEL}", "is no video that cosmos-rl reads"),
        ("cosmos-rl", "image", f"data:application/pdf;base64,{PIXEL}", "Unsupported media type: application/pdf"),
        ("cosmos-rl", "image", "data:image/png;base64,***", "is not base64"),
        ("cosmos-rl", "image", "data:image/png,abc", "data:TYPE;base64"),
        ("cosmos-rl", "image", "/nowhere/a.png", "cannot be read"),
        ("cosmos-rl", "image", "/nowhere/a", "its name must end in jpg"),
    ],
)
def test_media_that_a_service_does_not_read_is_refused(arch: str, kind: Any, url: str, sentence: str) -> None:
    with pytest.raises(ModelportError) as error:
        content.item(arch, kind, url)
    assert sentence in error.value.message


@pytest.mark.parametrize("mime", ["image/jpeg", "image/jpg", "image/png", "image/webp"])
def test_cosmos_predict_reads_the_types_of_the_contract(mime: str) -> None:
    content.check("cosmos-predict2.5", "image", f"data:{mime};base64,{PIXEL}")
    content.check("cosmos-predict2.5", "video", f"data:video/mp4;base64,{PIXEL}")


def test_cosmos_predict_says_what_kind_of_inference_it_is() -> None:
    def kind(**media: Any) -> str:
        return requests.finish("cosmos-predict2.5", requests.build("cosmos-predict2.5", "A cat", **media), {})[
            "inference_type"
        ]

    picture, clip = f"data:image/png;base64,{PIXEL}", f"data:video/mp4;base64,{PIXEL}"
    assert [kind(), kind(images=[picture]), kind(videos=[clip]), kind(images=[picture], videos=[clip])] == [
        *("text2world", "image2world", "video2world", "video2world")
    ]
    with pytest.raises(ModelportError, match="inference_type is 'video2world', and the message makes it text2world"):
        requests.finish(
            "cosmos-predict2.5", {**requests.build("cosmos-predict2.5", "A cat"), "inference_type": "video2world"}, {}
        )


def test_values_come_before_those_of_a_body_and_the_rest_of_it_goes_on_as_it_is() -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 7, "top_k": 40}
    assert requests.finish("tao-dataservices", body, {"max_tokens": 9}) == {**body, "max_tokens": 9}


@pytest.mark.parametrize(
    ("arch", "body", "sentence"),
    [
        ("tao-dataservices", {}, "needs `messages`"),
        ("tao-dataservices", {"messages": []}, "needs `messages`"),
        ("tao-dataservices", {"messages": ["x"]}, "has the role 'None'"),
        ("tao-dataservices", {"messages": [{"role": "assistant", "content": "x"}]}, "there is system and user"),
        ("tao-dataservices", {"messages": [{"role": "system", "content": "x"}]}, "a message of the role user"),
        ("tao-dataservices", {"messages": [{"role": "user", "content": ""}]}, "needs content"),
        ("tao-dataservices", {"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "type 'audio'"),
        ("tao-dataservices", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "lacks its url"),
        ("tao-dataservices", {"messages": [{"role": "user", "content": "x"}], "stream": True}, "comes whole here"),
        ("tao-dataservices", {"messages": [{"role": "user", "content": "x"}], "max_tokens": "x"}, "a whole number"),
        ("cosmos-predict2.5", {"messages": [{"role": "user", "content": "x"}], "top_p": 1}, "knows no top_p"),
        (
            "tao-dataservices",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "s3://b/a.png"}}]}]},
            "is in cloud storage",
        ),
    ],
)
def test_a_body_that_would_be_refused_is_one_sentence(arch: str, body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelportError) as error:
        requests.finish(arch, body, {})
    assert sentence in error.value.message


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["messages", "role", "content", "type", "image_url", "url"]) | st.text(), inner)))  # fmt: skip
def test_whatever_a_body_holds_it_is_sent_or_refused_with_a_sentence(value: Any) -> None:
    for body in (value if isinstance(value, dict) else {}, {"messages": [{"role": "user", "content": value}]}):
        try:
            requests.finish("tao-dataservices", body, {})
        except ModelportError as error:
            assert error.message


def test_a_file_that_is_no_object_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    with pytest.raises(ModelportError, match="cannot be read"):
        requests.from_file(file)
    for text, sentence in (("{", "is not JSON"), ("[1]", "must hold a JSON object")):
        file.write_text(text)
        with pytest.raises(ModelportError, match=sentence):
            requests.from_file(file)
    file.write_text(json.dumps({"messages": []}))
    assert requests.from_file(file) == {"messages": []}


def test_a_secret_of_this_environment_does_not_leave_in_a_request() -> None:
    body = requests.build("tao-dataservices", "my token is hf_0123456789abcdef, use it")
    with pytest.raises(ModelportError) as error:
        requests.no_secrets(body, {"HF_TOKEN": "hf_0123456789abcdef"})
    assert "HF_TOKEN" in error.value.message and "hf_0123" not in error.value.message
    requests.no_secrets(body, {"HF_TOKEN": "", "WANDB_API_KEY": "another-secret"})
