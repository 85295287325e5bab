"""Models on the Hub, by way of a fake one: real HTTP with ranges, refusals and misbehaviour."""

import re
import time

import pytest

from bench.truth import config_of_row, rows
from modelport.catalog import hub as hub_module
from modelport.catalog import resolve
from modelport.catalog.hub_name import HubName, hub_name
from modelport.errors import BUSY, FORBIDDEN, INVALID, MODEL_NOT_FOUND, NOT_READY, Kind, ModelportError
from tests.fakes.checkpoint import weight_bytes
from tests.fakes.hub import GOOD_TOKEN, MODELS, OTHER_TOKEN, SMALL, Running

MOST_BYTES = 350_000  # "a few hundred kB"
BY_NAME = {row["model_id"]: row for row in rows("models")}


def refused(source: str) -> ModelportError:
    with pytest.raises(ModelportError) as caught:
        resolve(source)
    return caught.value


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_known_from_its_config_and_headers(hub: Running, model: str) -> None:
    facts = resolve(model)
    served = hub.served()
    config = config_of_row(BY_NAME[model])
    assert served["bytes"] < MOST_BYTES
    assert (facts.source, facts.path, facts.format) == (model, model, "safetensors")
    assert (facts.layers, facts.vocabulary) == (config["num_hidden_layers"], config["vocab_size"])
    assert facts.weight_bytes == pytest.approx(weight_bytes(config), rel=1e-4)
    assert facts.download_bytes == pytest.approx(weight_bytes(config), rel=1e-3)
    assert facts.chat_template and facts.licence == "apache-2.0" and re.fullmatch(r"[0-9a-f]{40}", facts.revision)


def test_headers_are_read_where_they_are_small_and_the_total_taken_where_they_are_not(hub: Running) -> None:
    assert resolve("Qwen/Qwen3-8B").precision == "tensors"
    assert resolve("Qwen/Qwen3-30B-A3B").precision == "total"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("org/name", HubName("org/name")),
        ("org/name@v1.0", HubName("org/name", "v1.0")),
        ("org/name@refs/pr/3", HubName("org/name", "refs/pr/3")),
        ("hf_model://org/name@main", HubName("org/name", "main")),
        ("hf://gpt2", HubName("gpt2")),
        ("org/name/Q4/m-00001-of-00002.gguf", HubName("org/name", file="Q4/m-00001-of-00002.gguf")),
        ("hf://org/name@main/m.gguf", HubName("org/name", "main", "m.gguf")),
        ("org/name/m.gguf@main", HubName("org/name", "main", "m.gguf")),
        ("org/name:Q4_K_M", HubName("org/name", tag="Q4_K_M")),
        ("gpt2", None),
        ("./org/name", None),
        ("/org/name", None),
        ("~/org/name", None),
        ("models/m.gguf", None),
        ("a/b/c", None),
        ("org/na--me", None),
        ("org/..", None),
        ("org/name@", None),
        ("org/name@..", None),
        ("s3://bucket/name", None),
    ],
)
def test_a_source_names_a_repository_by_its_form(source: str, name: HubName | None) -> None:
    assert hub_name(source) == name


@pytest.mark.parametrize(
    "source", ["hf://", "hf://a/b/c", "hf_model://datasets/a/b", "hf://org/name/../m.gguf", "hf://o@ "]
)
def test_what_says_it_is_of_the_hub_and_cannot_be_is_a_sentence(source: str) -> None:
    assert refused(source).kind is INVALID


@pytest.mark.parametrize(
    ("source", "token", "kind", "words"),
    [
        ("acme/nothing", "", MODEL_NOT_FOUND, "or it is private: check the spelling, and set HF_TOKEN"),
        ("acme/nothing", OTHER_TOKEN, MODEL_NOT_FOUND, "that your token may see: check the spelling"),
        ("acme/private", "", MODEL_NOT_FOUND, "or it is private"),
        ("acme/private", OTHER_TOKEN, MODEL_NOT_FOUND, "your token may see"),
        ("acme/gated", "", FORBIDDEN, r"is gated: accept its licence at http://127\.0\.0\.1:\d+/acme/gated, then set HF_TOKEN"),
        ("acme/gated", OTHER_TOKEN, FORBIDDEN, "is gated: .*/acme/gated, ask for access there with the account of your"),
        ("Qwen/Qwen3-8B", "hf_wrong", FORBIDDEN, "does not accept your token: set HF_TOKEN"),
        ("Qwen/Qwen3-8B", "hf_a\nb\x7fc", FORBIDDEN, "HF_TOKEN holds characters|does not accept your token"),
        ("Qwen/Qwen3-8B@v9", "", MODEL_NOT_FOUND, "has no revision 'v9'"),
        ("acme/one-gguf/other.gguf", "", MODEL_NOT_FOUND, "there is no file 'other.gguf'"),
        ("acme/several-gguf:Q5_K_M", "", MODEL_NOT_FOUND, "quantization 'Q5_K_M'. There is BF16, Q4_K_M, Q8_0"),
        ("acme/several-gguf", "", INVALID, "holds 3 GGUF models; choose one .*m-Q4_K_M.gguf, m-Q8_0.gguf"),
        ("acme/empty", "", INVALID, "holds no model"),
        ("acme/hostile", "", INVALID, "holds no model: none of its 0 files"),
        ("acme/part", "", INVALID, "lacks 1 of 2 weight files"),
        ("acme/429", "", BUSY, "too many requests from here: try again in 17 s or set HF_TOKEN"),
        ("acme/500", "", NOT_READY, "with status 500; try again later"),
        ("acme/short", "", NOT_READY, r"sent \d+ bytes of config.json of acme/short where \d+ were due"),
        ("acme/break", "", NOT_READY, "broke off its answer for config.json"),
        ("acme/wrong-range", "", NOT_READY, "another part of config.json of acme/wrong-range than was asked for"),
        ("acme/other-size", "", NOT_READY, "sent|shorter"),
        ("acme/redirect-loop", "", NOT_READY, "with a redirect that cannot be followed"),
        ("acme/redirect-file", "", NOT_READY, "with a redirect that cannot be followed"),
        ("acme/dash-sha", "", NOT_READY, "a name or commit that cannot be"),
        ("acme/dash-id", "", NOT_READY, "a name or commit that cannot be"),
        ("acme/nonsense", "", NOT_READY, "what is no model's description"),
        ("acme/adapter-of-path", "", INVALID, "is an adapter of '/etc', which is no Hub id"),
        ("acme/adapter-of-adapter", "", INVALID, "is an adapter of another adapter"),
    ],
)  # fmt: skip
def test_each_refusal_is_one_sentence_that_says_what_to_do(
    hub: Running, monkeypatch: pytest.MonkeyPatch, source: str, token: str, kind: Kind, words: str
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    error = refused(source)
    assert error.kind is kind and re.search(words, error.message), error.message
    assert "hf_" not in error.message and "\n" not in error.message


def test_a_rate_limit_says_when_to_come_back_and_is_not_tried_again(hub: Running) -> None:
    assert refused("acme/429").retry_after_s == 17
    assert hub.served()["requests"] == 1


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_a_token_opens_what_is_gated_or_private(hub: Running, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, GOOD_TOKEN)
    assert resolve("acme/gated").gated
    assert not resolve("acme/private").gated


def test_the_token_stays_with_the_hub_when_a_file_lies_elsewhere(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    assert resolve("acme/storage").layers == 2
    assert hub.served()["tokens_at_storage"] == 0


@pytest.mark.parametrize("trouble", ["slow", "drip", "header-drip"])
def test_a_hub_that_takes_too_long_is_given_up(hub: Running, monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    monkeypatch.setattr(hub_module, "SILENCE_S", 0.5)
    monkeypatch.setattr(hub_module, "TOTAL_S", 1.0)
    error = refused(f"acme/{trouble}")
    assert error.kind is NOT_READY and re.search("was still busy with", error.message)


def test_a_header_that_never_ends_is_not_waited_for(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "TOTAL_S", 0.5)
    started = time.monotonic()
    refused("acme/header-drip")
    assert time.monotonic() - started < 8  # the fake goes on for 10 s


def test_sizes_that_the_hub_does_not_say_are_computed(hub: Running) -> None:
    facts = resolve("acme/no-sizes")
    assert (facts.precision, facts.format) == ("computed", "safetensors")
    assert facts.weight_bytes == facts.download_bytes == pytest.approx(weight_bytes(SMALL), rel=0.01)


def test_words_of_the_hub_are_fit_for_a_terminal(hub: Running) -> None:
    assert resolve("acme/escape").licence == "[31mmit"
    assert "is no model's description" in refused("acme/surrogate").message


def test_a_hub_without_ranges_is_read_from_the_start_of_each_file(hub: Running) -> None:
    assert resolve("acme/no-ranges").layers == 2


def test_a_hub_that_cannot_be_reached_is_a_sentence(hub: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://user:secret@127.0.0.1:9")
    error = refused("org/name")
    assert error.kind is NOT_READY and "http://127.0.0.1:9 cannot be reached" in error.message
    assert "secret" not in error.message


@pytest.mark.parametrize(
    "endpoint",
    ["hub.example", "http://h:99999", "http://h:port", "http://[::1", "https://h/?a=b", "https://h/#top", "https://h?"],
)
def test_an_endpoint_that_is_no_url_is_a_sentence(hub: Running, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert "HF_ENDPOINT is not a URL" in refused("org/name").message


@pytest.mark.parametrize("source", ["acme/one-gguf", "acme/several-gguf:q4_k_m", "acme/several-gguf/m-Q8_0.gguf"])
def test_one_gguf_file_is_a_model(hub: Running, source: str) -> None:
    facts = resolve(source)
    assert (facts.format, facts.layers, facts.vocabulary) == ("gguf", 2, 30_000)
    assert re.fullmatch(r"acme/[a-z-]+/m-(Q4_K_M|Q8_0)\.gguf", facts.path) and facts.download_bytes > 500_000


def test_all_parts_of_a_split_gguf_model_are_counted(hub: Running) -> None:
    facts = resolve("acme/several-gguf:BF16")
    assert facts.parameters == 2 * 64 * 3 and facts.path.endswith("-00001-of-00002.gguf")


def test_safetensors_are_preferred_to_the_gguf_files_beside_them(hub: Running) -> None:
    assert resolve("acme/both").format == "safetensors"
    assert resolve("acme/both:Q8_0").format == "gguf"


def test_weights_of_pickles_are_counted_by_their_files(hub: Running) -> None:
    facts = resolve("acme/pytorch")
    assert (facts.format, facts.precision, facts.download_bytes) == ("pytorch", "total", 2_000_000)


def test_the_same_weights_are_never_counted_twice(hub: Running) -> None:
    assert resolve("acme/doubled").weight_bytes == weight_bytes(SMALL)


def test_mistrals_own_form_of_config_is_understood(hub: Running) -> None:
    facts, usual = resolve("acme/params"), resolve("acme/both")
    assert (facts.layers, facts.kv_heads, facts.context_tokens) == (usual.layers, usual.kv_heads, 512)
    assert facts.weight_bytes == pytest.approx(usual.weight_bytes, rel=0.1)


def test_a_quantization_said_in_a_file_of_its_own_is_seen(hub: Running) -> None:
    quantized = resolve("acme/modelopt").quantized
    assert quantized and quantized.method == "modelopt" and quantized.bits == 8


def test_a_repository_that_pools_makes_embeddings(hub: Running) -> None:
    facts = resolve("acme/pooling")
    assert facts.pooling and facts.task == "embed"


def test_an_adapter_is_its_base_with_it(hub: Running) -> None:
    facts, base = resolve("acme/adapter"), resolve("Qwen/Qwen3-8B")
    assert facts.adapter and (facts.adapter.path, facts.adapter.rank, facts.adapter.bytes) == (
        "acme/adapter",
        16,
        1_000_000,
    )
    assert (facts.source, facts.path, facts.parameters) == ("acme/adapter", base.path, base.parameters)


def test_a_directory_here_wins_over_the_hub(hub: Running, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "Qwen" / "Qwen3-8B").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    refused("Qwen/Qwen3-8B")
    assert hub.served()["requests"] == 0


@pytest.mark.parametrize("page", ["https://huggingface.co/org/name", "https://huggingface.co/org/name/tree/main"])
def test_the_address_of_a_models_page_is_told_how_to_be_written(hub: Running, page: str) -> None:
    assert refused(page).message.endswith("For a model of the Hub write org/name.")
