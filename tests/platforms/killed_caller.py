"""Launches an instance and kills itself at a step: the nth thing it does to its state directory, or so long after it
started the shim. Arguments: STATE_DIR, a file with the pickled Launch, `step N` or `after SECONDS`."""

import asyncio
import os
import pickle
import signal
import sys
import threading
from pathlib import Path

from modelport.platforms.process import ProcessPlatform

state_dir, pickled, how, when = sys.argv[1:]
launch = pickle.loads(Path(pickled).read_bytes())
steps = 0


def end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def watch(event: str, args: tuple) -> None:
    global steps
    if event == "subprocess.Popen" and how == "after":
        threading.Timer(float(when), end).start()
    if event == "subprocess.Popen" or (
        event in ("open", "os.mkdir", "os.link", "os.rename") and state_dir in str(args)
    ):
        steps += 1
        if how == "step" and steps == int(when):
            end()


sys.addaudithook(watch)
asyncio.run(ProcessPlatform(Path(state_dir)).launch(launch))
