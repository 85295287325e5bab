"""What writing requests down costs a row, and what a report over many of them takes. `python -m bench.usage [ROWS]`."""

import random
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from modelport.domain.usage import UsageQuery
from modelport.store import open_store, usage
from modelport.store.tables import requests

BATCH = 2000


def row(random: random.Random, n: int) -> dict[str, Any]:
    return {
        "id": f"{n:012x}" + secrets.token_hex(10), "at": 1.76e9 + n,
        "request_id": f"req-{n}", "key_id": f"key-{n % 50}",
        "team": f"team-{n % 5}", "user": "", "service_id": "s", "service": "chat", "instance_id": "i-1",
        "model": "org/model", "route": "/v1/chat/completions", "status": 200, "stream": True, "input_tokens": 100,
        "output_tokens": 50, "cached_tokens": 0, "reasoning_tokens": 0, "audio_ms": 0, "characters": 0, "images": 0,
        "gpu_ms": 120, "money_nano": 12345, "estimated": False, "queue_s": 0.0, "first_byte_s": random.random(),
        "total_s": random.random() * 5,
    }  # fmt: skip


def main(rows: int) -> None:
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as directory:
        store = open_store(Path(directory) / "state")
        spent: dict[str, list[float]] = {"SQLAlchemy's executemany": [], "usage.add": []}
        for start in range(0, rows, BATCH):
            batch = [row(chance, start + n) for n in range(BATCH)]
            plain = start // BATCH % 10 == 0  # one in ten by the usual way, into the same table
            began = time.process_time()
            with store.write() as tx:
                if plain:
                    tx.execute(requests.insert().prefix_with("OR IGNORE"), batch)
                else:
                    usage.add(tx, batch)
            spent["SQLAlchemy's executemany" if plain else "usage.add"].append(time.process_time() - began)
        for name, times in spent.items():
            print(f"{name}: {sorted(times)[len(times) // 2] / BATCH * 1e6:.1f} µs of CPU a row (median)")
        for by in ((), ("key",), ("service", "key"), ("day", "team")):
            began = time.perf_counter()
            with store.read() as tx:
                found = usage.report(tx, UsageQuery(by=by))  # type: ignore[arg-type]
            print(f"report by {','.join(by) or 'nothing'}: {time.perf_counter() - began:.2f} s, {len(found)} lines")
        store.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000)
