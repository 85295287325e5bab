"""Models that lie elsewhere, on the Hub or in an object store: sources → ModelFacts, by way of the cache."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from modelport.catalog.cached import noted, remembered
from modelport.catalog.cloud import archive_in_cloud, cloud_repository, told
from modelport.catalog.hub import Hub
from modelport.catalog.hub_name import HubName, hub_name
from modelport.catalog.local import local_facts
from modelport.catalog.repository import Based, Unreachable, facts_of_repository
from modelport.catalog.sized import archive_facts, onnx_of
from modelport.domain.facts import ModelFacts
from modelport.errors import ModelportError
from modelport.storage import is_archive, is_cloud, place_of

GATED = "It is gated: a start needs HF_TOKEN with access to it."
_COMMIT = re.compile(r"[0-9a-f]{40}")


def remote_facts(source: str, env: Mapping[str, str] | None = None) -> ModelFacts | None:
    """What the files of a model elsewhere say; None where `source` has not the form of one. `env` is storage's.

    Raises ModelportError, each with its sentence: unknown, gated without or in spite of a token, private, a bad token,
    an unknown revision or file, too many requests, no answer, an answer broken off, no model. Where nobody answers and
    the facts are kept from earlier, those are given.
    """
    if is_cloud(source):
        return _with_base(source, _cloud(source, env))
    name = hub_name(source)
    return _with_base(source, _hub(source, name)) if name else None


def _hub(source: str, name: HubName) -> ModelFacts | Based:
    with Hub() as hub:
        read: list[bool] = []

        def anew() -> ModelFacts | Based:
            read.append(True)
            return facts_of_repository(source, hub.repository(name), file=name.file, tag=name.tag)

        try:
            found = remembered(
                ("hub", hub.shown, name.repository, name.revision, name.file, name.tag),
                lambda: hub.sha(name),
                anew,
                pinned=bool(_COMMIT.fullmatch(name.revision)),
            )
            return found if isinstance(found, Based) or not found.gated else _gated(hub, found, checked=bool(read))
        except Unreachable:
            if facts := _downloaded(source, name):
                return facts
            raise


def _gated(hub: Hub, facts: ModelFacts, *, checked: bool) -> ModelFacts:
    """The facts with a note of what a start takes. Raises ModelportError where they were read earlier, and who asks now
    has no access: they are public, the weights are not."""
    if not checked and "as last seen" not in facts.note:  # else nobody answers
        repository, file = facts.path, "config.json"
        if facts.format == "gguf":
            repository, file = _parted(facts.path)
        with contextlib.suppress(Unreachable):  # then nobody can say
            hub.read(HubName(repository, facts.revision), file, 0, 1)
    return replace(facts, note=noted(facts.note, GATED))


def _parted(path: str) -> tuple[str, str]:
    """A Hub id and the file in it: ids of old have no organisation."""
    words = path.split("/")
    of_old = len(words) == 2
    return "/".join(words[: 1 if of_old else 2]), "/".join(words[1 if of_old else 2 :])


def _downloaded(source: str, name: HubName) -> ModelFacts | None:
    """What the files say that huggingface_hub has downloaded of a model, and an engine will find there again."""
    from huggingface_hub import constants, try_to_load_from_cache

    file = name.file or "config.json"
    try:
        found = try_to_load_from_cache(
            name.repository, file, cache_dir=constants.HF_HUB_CACHE, revision=name.revision or None
        )
        if not isinstance(found, str) or name.tag:
            return None
        facts = local_facts(source, Path(found) if name.file else Path(found).parent, _base)
    except (ModelportError, OSError, ValueError):  # half a download, or none: then the Hub's silence is what matters
        return None
    if name.file:
        return facts
    note = "What is known of the model is as it was downloaded: the Hub does not answer now."
    return replace(facts, path=name.repository, revision=Path(found).parent.name, note=noted(facts.note, note))


def _base(named: str) -> ModelFacts:
    """The base of a downloaded adapter, which only the Hub may give."""
    name = hub_name(f"hf://{named}")
    found = _hub(named, name) if name else None
    if not isinstance(found, ModelFacts):
        raise ModelportError(f"{named!r} is no model that an adapter could be of.", param="model")
    return found


def _cloud(source: str, env: Mapping[str, str] | None) -> ModelFacts | Based:
    key = ("cloud", told(lambda: place_of(source, env)), source)
    if is_archive(source):
        seen = cache(lambda: archive_in_cloud(source, env))
        return remembered(key, lambda: seen()[2], lambda: archive_facts(source, *seen(), far=True))
    listed = cache(lambda: cloud_repository(source, env))  # one listing tells the revision and what there is to read

    def read() -> ModelFacts | Based:
        repository, file = listed()
        return onnx_of(source, repository, file) or facts_of_repository(source, repository, file=file)

    return remembered(key, lambda: listed()[0].revision, read)


def _with_base(source: str, found: ModelFacts | Based) -> ModelFacts:
    """The facts under the name that the user wrote; of an adapter, those of its base with it."""
    if isinstance(found, ModelFacts):
        return replace(found, source=source)
    name = hub_name(f"hf://{found.base}")
    base = _hub(found.base, name) if name else found  # a scheme in front always gives a name, or a sentence
    if isinstance(base, Based):
        raise ModelportError(f"{source!r} is an adapter of another adapter, {found.base!r}; merge them.", param="model")
    return replace(
        base,
        source=source,
        adapter=found.adapter,
        download_bytes=base.download_bytes + found.adapter.bytes,
        note=noted(found.note, base.note),
    )
