"""The xllamacpp package's llama.cpp server as a program of its own: the flags of llama-server that we use.

Run by path, so that it imports nothing of ours. The key comes by LLAMA_API_KEY. SIGTERM keeps its default action:
the gateway has drained by then, and while C++ code loads a model no Python handler could run.
"""

import argparse
import os
import signal
import sys
from importlib import import_module
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(prog="llamacpp_server")
    for flag in ("--model", "--alias", "--host"):
        parser.add_argument(flag, required=True)
    for flag in ("--port", "--ctx-size", "--parallel"):
        parser.add_argument(flag, type=int, required=True)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--n-gpu-layers", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--ubatch-size", type=int, default=512)
    parser.add_argument("--embeddings", action="store_true")
    parser.add_argument("--pooling", choices=["mean"])
    parser.add_argument("--mmproj", default="")
    parser.add_argument("--no-mmproj-offload", action="store_true")
    options = parser.parse_args()

    xllamacpp: Any = import_module("xllamacpp")  # only now: --help and wrong usage need no C++ library

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = [options.host]
    params.port = options.port
    params.api_keys = [os.environ.pop("LLAMA_API_KEY")]
    params.n_ctx = options.ctx_size
    params.n_parallel = options.parallel
    if options.threads:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.n_gpu_layers = options.n_gpu_layers
    params.n_batch = options.batch_size
    params.n_ubatch = options.ubatch_size
    params.embedding = options.embeddings
    if options.pooling:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    if options.mmproj:
        params.mmproj.path = options.mmproj
        params.mmproj_use_gpu = not options.no_mmproj_offload
    params.cache_ram_mib = int(os.environ.get("LLAMA_ARG_CACHE_RAM", "0"))
    params.fit_params = False
    params.endpoint_slots = False
    params.ui = False
    try:
        server = xllamacpp.Server(params)  # listens at once, returns when the model is loaded
    except RuntimeError as error:
        sys.exit(f"llama.cpp could not start: {error}")
    print(f"serving on {server.listening_address}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
