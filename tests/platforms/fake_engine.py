"""A fake engine: answers /health and does what its switches say. A real process, for tests of platforms and the shim."""

import argparse
import http.server
import os
import signal
import subprocess
import sys
import threading
import time

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--exit-after", type=float, help="seconds")
parser.add_argument("--code", type=int, default=0, help="the exit code then")
parser.add_argument("--die", type=int, help="the signal to die of then, instead")
parser.add_argument("--ignore-term", action="store_true")
parser.add_argument("--on-term", type=int, default=0, help="the exit code after SIGTERM")
parser.add_argument("--say", action="append", default=[], help="a line to print")
parser.add_argument("--spew", type=int, default=0, help="so many numbered lines")
parser.add_argument("--spew-bytes", type=int, default=0, help="that many bytes of one line that never ends")
parser.add_argument("--binary", action="store_true", help="print all byte values")
parser.add_argument("--tick", type=float, help="print a line each so many seconds")
parser.add_argument("--wide", type=int, default=0, help="so many bytes more in each of those")
parser.add_argument("--print-key", action="store_true")
parser.add_argument("--print-env", action="store_true")
parser.add_argument("--children", action="store_true", help="leave grandchildren: in the group, and in a session apart")
parser.add_argument("--starts", help="a file that gets a line for each start")
args = parser.parse_args()

if args.starts:
    with open(args.starts, "a") as file:
        file.write(f"{os.getpid()}\n")
if args.ignore_term:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(args.on_term))
if args.children:
    endless = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)",
    ]
    for apart in (False, True):
        # Their parent, a shell, is gone at once.
        subprocess.Popen(["sh", "-c", '"$@" >/dev/null 2>&1 &', "sh", *endless], start_new_session=apart).wait()
for line in args.say:
    print(line, flush=True)
if args.print_key:
    key = os.environ["ENGINE_KEY"]
    print(f"my key is {key}!", flush=True)
    # Across the place where the shim cuts a line that does not end, and where its reads end.
    sys.stdout.write("x" * (16384 - 20) + key + "y" * 70000 + key + "\n")
    sys.stdout.flush()
if args.print_env:
    print(" ".join(sorted(os.environ)), flush=True)
if args.binary:
    sys.stdout.buffer.write(bytes(range(256)) * 8 + b"\n\x1b[31mred\x1b[0m\r50%\r100%\n")
    sys.stdout.buffer.flush()
if args.spew_bytes:
    sys.stdout.write("z" * args.spew_bytes)
    sys.stdout.flush()
for n in range(args.spew):
    sys.stdout.write(f"line {n} of a lot of output, which goes on for about as long as a real one\n")
sys.stdout.flush()


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def ticking():
    n = 0
    while True:
        print(f"tick {n}{' ' * args.wide}", flush=True)
        n += 1
        time.sleep(args.tick)


def leave():
    time.sleep(args.exit_after)
    print("leaving", flush=True)
    if args.die:
        os.kill(os.getpid(), args.die)
        time.sleep(60)
    os._exit(args.code)


for wanted, work in ((args.tick, ticking), (args.exit_after is not None, leave)):
    if wanted:
        threading.Thread(target=work, daemon=True).start()
http.server.HTTPServer.allow_reuse_address = True
http.server.HTTPServer((args.host, args.port), Health).serve_forever()
