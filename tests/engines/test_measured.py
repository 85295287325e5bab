"""What engines print about memory, in lines as they were printed: by real starts here, or in public logs."""

import pytest

from modelport import engines
from modelport.domain.measured import Measured

GIB, MIB = 1 << 30, 1 << 20

V0 = """\
INFO 01-15 10:00:00 model_runner.py:1099] Loading model weights took 2.8875 GB
INFO 01-15 10:00:03 worker.py:241] Memory profiling takes 2.50 seconds
INFO 01-15 10:00:03 worker.py:241] the current vLLM instance can use total_gpu_memory (44.52GiB) x gpu_memory_utilization (0.90) = 40.07GiB
INFO 01-15 10:00:03 worker.py:241] model weights take 2.89GiB; non_torch_memory takes 0.23GiB; PyTorch activation peak memory takes 1.40GiB; the rest of the memory reserved for KV Cache is 35.55GiB.
INFO 01-15 10:00:03 gpu_executor.py:76] # GPU blocks: 83208, # CPU blocks: 9362
INFO 01-15 10:00:03 gpu_executor.py:80] Maximum concurrency for 4096 tokens per request: 325.03x
INFO 01-15 10:00:20 model_runner.py:1535] Graph capturing finished in 16 secs, took 0.21 GiB
"""
V1_TWO_WORKERS = """\
(VllmWorker rank=0 pid=1) INFO 08-01 [gpu_model_runner.py:1892] Model loading took 27.6656 GiB and 9.1 seconds
(VllmWorker rank=1 pid=2) INFO 08-01 [gpu_model_runner.py:1892] Model loading took 27.6600 GiB and 9.2 seconds
(VllmWorker rank=0 pid=1) INFO 08-01 [gpu_worker.py:255] Available KV cache memory: 35.65 GiB
(VllmWorker rank=1 pid=2) INFO 08-01 [gpu_worker.py:255] Available KV cache memory: 36.12 GiB
INFO 08-01 [kv_cache_utils.py:833] GPU KV cache size: 1,590,736 tokens
INFO 08-01 [kv_cache_utils.py:837] Maximum concurrency for 32,768 tokens per request: 48.55x
INFO 08-01 [kv_cache_utils.py:833] GPU KV cache size: 1,611,664 tokens
(VllmWorker rank=0 pid=1) INFO 08-01 [gpu_model_runner.py:2485] Graph capturing finished in 21 secs, took 0.62 GiB
"""
V1_CPU = """\
(Worker pid=21741) INFO 11-21 12:10:53 [cpu_worker.py:260] Explicitly set (1.0/10.71) GiB for KV cache on node 0.
(EngineCore pid=21728) INFO 11-21 12:10:53 [kv_cache_utils.py:2327] CPU KV cache size: 46,592 tokens, Maximum concurrency for 1,024 tokens per request: 45.50x
"""
SGLANG = """\
[2025-02-20 11:00:00 TP0] Load weight begin. avail mem=21.63 GB
[2025-02-20 11:00:09 TP0] Load weight end. type=Qwen2ForCausalLM, dtype=torch.float16, avail mem=6.09 GB, mem usage=15.54 GB.
[2025-02-20 11:00:09 TP0] KV Cache is allocated. #tokens: 46611, K size: 1.42 GB, V size: 1.42 GB.
[2025-02-20 11:00:09 TP0] Memory pool end. avail mem=2.09 GB
[2025-02-20 11:00:30 TP0] Capture cuda graph end. Time elapsed: 20.11 s. mem usage=0.31 GB. avail mem=1.78 GB.
[2025-02-20 11:00:31 TP0] max_total_num_tokens=46611, chunked_prefill_size=2048, max_prefill_tokens=16384, max_running_requests=2049, context_len=32768
"""
SGLANG_OLD = """\
[gpu_id=0] Load weight begin. avail mem=78.94 GB
[gpu_id=0] Load weight end. type=LlamaForCausalLM, dtype=torch.bfloat16, avail mem=30.65 GB
[gpu_id=0] Memory pool end. avail mem=9.28 GB
[gpu_id=0] max_total_num_tokens=79301, max_prefill_tokens=16384, max_running_requests=4097, context_len=131072
"""
SGLANG_MLA = """\
[2026-03-01 TP0] Load weight end. elapsed=40.10 s, type=DeepseekV3ForCausalLM, avail mem=90.00 GB, mem usage=90.07 GB.
[2026-03-01 TP0] KV Cache is allocated. dtype: torch.bfloat16, #tokens: 131072, KV size: 8.58 GB
[2026-03-01 TP0] Capture decode cuda graph end. elapsed=12.00 s, mem usage=2.25 GB, avail mem=70.00 GB.
"""
LLAMACPP = """\
load_tensors:        CUDA0 model buffer size =  4095.05 MiB
load_tensors:   CPU_Mapped model buffer size =   281.81 MiB
llama_context: n_ctx         = 8192
llama_kv_cache_unified:      CUDA0 KV buffer size =  1024.00 MiB
llama_context:      CUDA0 compute buffer size =   560.00 MiB
llama_context:  CUDA_Host compute buffer size =    24.01 MiB
"""
XLLAMACPP = "0.00.460.912 I srv    load_model: initializing, n_slots = 2, n_ctx_slot = 512, kv_unified = 'false'"


def gib(value: float) -> int:
    return round(value * GIB)


@pytest.mark.parametrize(
    ("engine", "log", "said"),
    [
        ("vllm", V0, Measured(gib(2.8875), gib(35.55), 83208 * 16, gib(1.40), gib(0.21), gib(0.23))),
        ("vllm", V1_TWO_WORKERS, Measured(gib(27.6656), gib(35.65), 1_590_736, graph_bytes=gib(0.62))),
        ("vllm", V1_CPU, Measured(kv_bytes=gib(1.0), kv_tokens=46_592)),
        ("sglang", SGLANG, Measured(gib(15.54), gib(2.84), 46_611, graph_bytes=gib(0.31))),
        ("sglang", SGLANG_OLD, Measured(gib(78.94 - 30.65), kv_tokens=79_301)),
        ("sglang", SGLANG_MLA, Measured(gib(90.07), gib(8.58), 131_072, graph_bytes=gib(2.25))),
        ("llamacpp", XLLAMACPP, Measured(kv_tokens=1024)),
    ],
)
def test_what_was_printed_is_read(engine: str, log: str, said: Measured) -> None:
    assert engines.load(engine).measured(log.splitlines()) == said


def test_llamacpp_s_buffers_are_added_up_over_its_devices() -> None:
    said = engines.load("llamacpp").measured(LLAMACPP.splitlines())
    assert said and said.kv_tokens == 8192 and said.kv_bytes == 1024 * MIB
    assert said.weights_bytes == round((4095.05 + 281.81) * MIB) and said.activation_bytes == round(584.01 * MIB)
    assert said.bytes == said.weights_bytes + said.kv_bytes + said.activation_bytes


def test_blocks_of_another_size_are_told_by_the_concurrency() -> None:
    log = "# cuda blocks: 7054, # CPU blocks: 372\nMaximum concurrency for 1024 tokens per request: 110.22x"
    said = engines.load("vllm").measured(log.splitlines())
    assert said and said.kv_tokens == 7054 * 16
    hpu = engines.load("vllm").measured(
        ["# GPU blocks: 100", "Maximum concurrency for 1280 tokens per request: 10.00x"]
    )
    assert hpu and hpu.kv_tokens == 12_800


def test_nothing_is_made_of_lines_that_say_nothing() -> None:
    for engine in ("vllm", "sglang", "tgi", "llamacpp"):
        assert engines.load(engine).measured(["INFO: Started server process [1]", ""]) is None
