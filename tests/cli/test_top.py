"""`modelport top`: requests under way, on a terminal and off it."""

import json
import os
import pty
import re
import subprocess
import sys
import threading

from modelport.domain.key import KeySpec
from tests.harness import ROOT, Serving, environment, modelport, until


def test_top_shows_requests_that_are_under_way(shared: Serving) -> None:
    shared.start("watched")
    shared.ready("watched")
    threading.Thread(target=lambda: shared.ask("watched", stub={"delay_s": 8}), daemon=True).start()

    def shown(*options: str, **more: str) -> str:
        done = modelport("top", *options, state_dir=shared.state_dir, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (view,) = until(lambda: json.loads(shown("--json")))
    assert (view["service"], view["state"], view["route"]) == ("watched", "sent", "/v1/chat/completions")
    text = shown("--once")
    assert text.startswith("REQUEST") and view["id"] in text and "watched" in text
    narrow = shared.client.create_key(KeySpec(name="narrow")).secret or ""
    done = modelport("top", state_dir=shared.state_dir, MODELPORT_KEY=narrow)
    assert done.returncode == 1 and "scope operate" in done.stderr

    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.modelport", "top", "--every", "0.1"], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**environment(shared.state_dir), "TERM": "xterm", "COLUMNS": "200"}, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        seen = b""
        while len(re.findall(rb"\d+ under way", seen)) < 3:
            seen += os.read(ours, 65536)
        process.send_signal(2)
        assert process.wait(10) == 130
    os.close(ours)
    shared.client.remove("watched")
