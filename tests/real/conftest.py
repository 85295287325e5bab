"""One Modelport with a real model, for the tests of a file."""

from collections.abc import Iterator

import pytest

from modelport.domain.spec import Spec
from tests.harness import Serving, short_directory


@pytest.fixture(scope="module")
def real() -> Iterator[Serving]:
    """A chat service of SmolLM2 and, of the same model, an embeddings service."""
    for directory in short_directory():
        with Serving(directory) as serving:
            serving.client.apply(
                [
                    Spec(model="smollm2", name="chat", context=1024, parallel=2, idle_timeout=0),
                    Spec(model="smollm2", name="words", task="embed", context=512, parallel=1, idle_timeout=0),
                ]
            )
            serving.ready("chat", 60)
            serving.ready("words", 60)
            yield serving
