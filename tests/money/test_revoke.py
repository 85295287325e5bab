"""A key that is revoked under load, and a gateway whose control is gone."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from modelport.client import Client
from modelport.domain.budget import Budget
from modelport.domain.key import KeySpec
from modelport.domain.limits import Limits
from modelport.errors import ModelportError
from modelport.store import keys
from tests.gateway.world import PLAIN, chat
from tests.harness import ROOT, Serving, environment, modelport, until
from tests.money.world import ENGINE_ROUTES, Till

WITHIN_S = 1.0
Attempt = tuple[float, int]
"""When it began, and its status."""


async def keep_asking(port: int, secret: str, model: str, until_s: Callable[[], float], found: list[Attempt]) -> None:
    """One client after the other on one connection, until that time."""
    data = json.dumps(chat(model, max_tokens=2, stub={"tokens": 1})).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\n"
    request = f"{head}content-length: {len(data)}\r\n\r\n".encode() + data
    while time.monotonic() < until_s():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while time.monotonic() < until_s():
                began = time.monotonic()
                writer.write(request)
                answer = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", answer)
                assert length, answer
                await reader.readexactly(int(length[1]))
                found.append((began, int(answer[9:12])))
        writer.close()


def test_no_request_that_begins_a_second_after_its_keys_revocation_succeeds(till: Till) -> None:
    till.on("revoked", till.engine(), "stub", ENGINE_ROUTES, limits={"queue": 1000})
    key = till.holder()
    found: list[Attempt] = []
    end = time.monotonic() + 30
    revoked_at = 0.0

    def revoke() -> None:
        nonlocal revoked_at, end
        with till.store.write() as tx:
            keys.revoke(tx, key.id, time.time())
        revoked_at = time.monotonic()
        end = revoked_at + 2.5

    async def load() -> None:
        clients = [keep_asking(till.port, key.secret, "revoked", lambda: end, found) for _ in range(24)]
        running = asyncio.gather(*clients)
        await asyncio.sleep(1.5)
        await asyncio.to_thread(revoke)
        await running

    begin = time.monotonic()
    asyncio.run(load())
    before = [status for began, status in found if began < revoked_at]
    after = [status for began, status in found if began > revoked_at + WITHIN_S]
    last = max(began for began, status in found if status == 200) - revoked_at
    print(f"{len(before) / (revoked_at - begin):.0f} requests/s, the last success began {last:.3f} s after")
    assert set(before) == {200} and len(before) > 100
    assert after and 200 not in after and set(after) <= {401, 429}


def test_with_control_gone_limits_budgets_and_revocations_go_on_and_it_finds_what_was_spent(state_dir: Path) -> None:
    state_dir.mkdir()
    serving = Serving(state_dir)  # for what it knows of a state directory; its two parts run apart here
    control = Control(serving)
    with control.running(), Gateway(serving) as gateway:
        serving.start("tiny")
        instance = serving.ready("tiny").instances[0].id
        client = serving.client
        spender = client.create_key(KeySpec(name="a"))
        budget = client.set_budget(Budget(subject=f"key:{spender.id}", unit="requests", cap=5))
        limited = client.create_key(KeySpec(name="b", limits=Limits(requests_per_minute=2)))
        gone = client.create_key(KeySpec(name="c"))
        until(lambda: gateway.ask(gone.secret) == 200, 20, "the gateway to know all of that, the last key too")
        os.kill(control.process.pid, signal.SIGKILL)
        control.process.wait()

        assert [gateway.ask(spender.secret) for _ in range(7)] == [200] * 5 + [402] * 2
        assert [gateway.ask(limited.secret) for _ in range(3)] == [200, 200, 429]
        assert gateway.ask(gone.secret) == 200
        done = modelport("keys", "revoke", gone.id, state_dir=serving.state_dir)
        assert done.returncode == 0, done.stderr
        revoked = time.monotonic()
        until(lambda: gateway.ask(gone.secret) == 401, 5)
        assert time.monotonic() - revoked < WITHIN_S

        with control.running():
            views = {view.id: view for view in serving.client.list_budgets()}
            assert (views[budget.id].spent, views[budget.id].remaining, views[budget.id].state) == (5, 0, "spent")
            assert next(key for key in serving.client.list_keys(old=True) if key.id == gone.id).revoked_at
            assert serving.ready("tiny").instances[0].id == instance, "it was adopted"
            raised = serving.client.override_budget(budget.id, 1, "one more")
            assert raised.extra == 1
            until(lambda: gateway.ask(spender.secret) == 200, 5)
            assert gateway.ask(spender.secret) == 402


class Control:
    """`modelport serve --only control`, which the test kills and starts again."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self.process: subprocess.Popen[bytes]

    def running(self) -> "Control":
        command = [sys.executable, "-m", "tests.fakes.modelport", "serve", "--only", "control"]
        with self._serving.log.open("a") as log:
            environ = environment(self._serving.state_dir)
            self.process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
        until(lambda: _answers(self._serving.client), 20, "control")
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        for pids in self._serving.engines().values():
            for pid in pids:
                os.kill(pid, signal.SIGKILL)


class Gateway:
    """`modelport serve --only gateway`."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def __enter__(self) -> "Gateway":
        command = [sys.executable, "-m", "tests.fakes.modelport", "serve", "--only", "gateway", "--port", "0"]
        log = self._serving.state_dir / "gateway.log"
        with log.open("w") as out:
            environ = environment(self._serving.state_dir)
            self._process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=out, stderr=out)
        self._url = until(lambda: re.search(r"serving at (http://\S+)/v1", log.read_text()), 20)[1]
        return self

    def ask(self, key: str | None) -> int:
        """The status of one chat request."""
        headers = {"authorization": f"Bearer {key}"}
        return PLAIN.post(f"{self._url}/v1/chat/completions", json=chat("tiny"), headers=headers).status_code

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)


def _answers(client: Client) -> bool:
    try:
        return bool(client.info())
    except ModelportError:
        return False
