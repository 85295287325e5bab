"""Our gateway beside its peers, in front of one stub engine.

    python bench/gateway.py --setup                              once: compiles the clients, installs the peers
    python bench/gateway.py --out gateway.jsonl                  everybody, three rounds, a table at the end
    python bench/gateway.py --quick --rounds 1 modelport nginx   some, in half the time
    python bench/gateway.py --soak 10                            our gateway under 1,000 streams for 10 minutes
    python bench/gateway.py --profile profile.txt                where our gateway's microseconds go

CPU per request is user and system time of a gateway's whole process tree over what the load client counted: the figure
to trust on a machine that others use too. Rates and latencies are what one core gave at that moment. Everything stays
on this machine's loopback.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from gateway_peers import phases, profile, soak, table, toolbox
from gateway_peers.load import stub
from gateway_peers.targets import TARGETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(t.name for t in TARGETS))
    parser.add_argument("--setup", action="store_true", help="install what is missing, then end")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="half as long each")
    parser.add_argument("--out", type=Path, help="append each round as a line of JSON")
    parser.add_argument("--table", type=Path, metavar="JSONL", help="print the table of an earlier run, then end")
    parser.add_argument("--soak", type=float, metavar="MINUTES", nargs="?", const=10.0, help="10 minutes by default")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="write the profile's stacks here")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - {target.name for target in TARGETS}:
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    if asked.setup:
        return toolbox.install()
    if asked.table:
        return print(table.markdown([json.loads(line) for line in asked.table.read_text().splitlines()]))
    with stub(phases.LOAD_CORE) as engine:
        if asked.profile:
            return profile.run(engine, asked.profile)
        if asked.soak:
            return sys.exit(not soak.run(engine, asked.soak, asked.out))
        chosen = [target for target in TARGETS if not asked.targets or target.name in asked.targets]
        for target in [target for target in chosen if target.package and not toolbox.installed(target.package)]:
            print(f"{target.name} is left out: it is not installed (--setup)", file=sys.stderr)
            chosen.remove(target)
        lines = []
        for number in range(asked.rounds):
            for target in (None, *chosen):
                began = time.monotonic()
                try:
                    found = (
                        phases.through(target, engine, asked.quick) if target else phases.direct(engine, asked.quick)
                    )
                except RuntimeError as error:
                    found = {"error": str(error)}
                found |= {
                    "target": target.name if target else "direct", "round": number,
                    "version": toolbox.version(target.package) if target and target.package else "",
                    "load": os.getloadavg()[0], "took_s": round(time.monotonic() - began, 1),
                }  # fmt: skip
                lines.append(found)
                print(table.progress(found), file=sys.stderr, flush=True)
                if asked.out:
                    with asked.out.open("a") as out:
                        out.write(json.dumps(found) + "\n")
    print(table.markdown(lines))


if __name__ == "__main__":
    main()
