"""GPUs: the table of known kinds, and how a name that anybody writes finds its row.

Memory is what a process may use (torch's total_memory), in GiB, which nvidia-smi overstates by 0.2 to 7 GiB; the lower
where prints differ with the driver. H100, A100-80GB, A10, L40S, RTX3090, V100-32GB, H100-NVL and RTXPRO6000 are printed
in bench/data/cases.jsonl, and what is not in `ESTIMATED` in start-up logs and out-of-memory messages of vLLM and
PyTorch ("GPU 0 has a total capacity of 94.50 GiB"); the rest is the maker's size less what its relatives lose.
Bandwidth, capability and links are the data sheets'.

FP8 means fp8e4nv in the engines' kernels: Hopper and newer, and AMD's gfx94x, gfx950 and gfx12; Ada (L4, L40S, RTX 40)
has FP8 units, but the endpoint contract counts them out. FP4 is NVFP4 from compute capability 10, MXFP4 on gfx950.
"""

import re

from modelport.domain.gpu import Accelerators, Gpu
from modelport.domain.plan import Device
from modelport.errors import ModelportError, nearest

_GIB = 1 << 30
MOST_GPUS = 4096
_NVLINK = {
    1: "NVLink 300 GB/s",
    2: "NVLink 600 GB/s",
    3: "NVLink 400 GB/s",
    4: "NVLink 900 GB/s",
    5: "NVLink 1800 GB/s",
}


def _nvidia(name: str, gib: float, capability: float, gb_s: float, link: str, unified: bool = False) -> Gpu:
    fp8, fp4 = capability >= 9.0, capability >= 10.0
    return Gpu(name, int(gib * _GIB), "nvidia", capability, gb_s * 1e9, fp8, fp4, link, unified)


def _amd(name: str, gib: float, gfx: float, gb_s: float, link: str) -> Gpu:
    return Gpu(name, int(gib * _GIB), "amd", gfx, gb_s * 1e9, gfx in (942, 950, 1201), gfx == 950, link)


GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        _nvidia("T4", 14.58, 7.5, 300, "PCIe 3"),
        _nvidia("V100", 15.77, 7.0, 900, _NVLINK[1]),
        _nvidia("V100-32GB", 31.73, 7.0, 900, _NVLINK[1]),
        _nvidia("A10", 22.09, 8.6, 600, "PCIe 4"),
        _nvidia("A10G", 21.99, 8.6, 600, "PCIe 4"),
        _nvidia("A30", 23.50, 8.0, 933, "PCIe 4"),
        _nvidia("A40", 44.34, 8.6, 696, "PCIe 4"),
        _nvidia("A5000", 23.57, 8.6, 768, "PCIe 4"),
        _nvidia("A6000", 47.40, 8.6, 768, "PCIe 4"),
        _nvidia("A100", 39.39, 8.0, 1555, _NVLINK[2]),
        _nvidia("A100-80GB", 79.14, 8.0, 2039, _NVLINK[2]),
        _nvidia("A800-80GB", 79.14, 8.0, 2039, _NVLINK[3]),
        _nvidia("RTX2080Ti", 10.75, 7.5, 616, "PCIe 3"),
        _nvidia("TITAN-RTX", 23.62, 7.5, 672, "PCIe 3"),
        _nvidia("RTX8000", 47.46, 7.5, 672, "PCIe 3"),
        _nvidia("A2", 14.62, 8.6, 200, "PCIe 4"),
        _nvidia("A4000", 15.73, 8.6, 448, "PCIe 4"),
        _nvidia("A4500", 19.55, 8.6, 640, "PCIe 4"),
        _nvidia("RTX3060", 11.76, 8.6, 360, "PCIe 4"),
        _nvidia("RTX3070", 7.78, 8.6, 448, "PCIe 4"),
        _nvidia("RTX3080", 9.77, 8.6, 760, "PCIe 4"),
        _nvidia("RTX3080Ti", 11.76, 8.6, 912, "PCIe 4"),
        _nvidia("RTX3090Ti", 23.56, 8.6, 1008, "PCIe 4"),
        _nvidia("RTX3090", 23.58, 8.6, 936, "PCIe 4"),
        _nvidia("RTX4080", 15.57, 8.9, 717, "PCIe 4"),
        _nvidia("RTX4060Ti-16GB", 15.60, 8.9, 288, "PCIe 4"),
        _nvidia("RTX4070Ti-Super", 15.70, 8.9, 672, "PCIe 4"),
        _nvidia("RTX4080-Super", 15.70, 8.9, 736, "PCIe 4"),
        _nvidia("RTX4000-Ada", 19.56, 8.9, 360, "PCIe 4"),
        _nvidia("RTX4090", 23.52, 8.9, 1008, "PCIe 4"),
        _nvidia("RTX5000-Ada", 31.48, 8.9, 576, "PCIe 4"),
        _nvidia("RTX6000-Ada", 47.38, 8.9, 960, "PCIe 4"),
        _nvidia("L4", 22.03, 8.9, 300, "PCIe 4"),
        _nvidia("L20", 44.53, 8.9, 864, "PCIe 4"),
        _nvidia("L40", 44.39, 8.9, 864, "PCIe 4"),
        _nvidia("L40S", 44.39, 8.9, 864, "PCIe 4"),
        _nvidia("H20", 95.00, 9.0, 4000, _NVLINK[4]),
        _nvidia("H20-141GB", 139.80, 9.0, 4800, _NVLINK[4]),
        _nvidia("H100", 79.18, 9.0, 3350, _NVLINK[4]),
        _nvidia("H100-PCIE", 79.18, 9.0, 2000, "PCIe 5"),
        _nvidia("H100-MEGA-80GB", 79.18, 9.0, 3350, _NVLINK[4]),
        _nvidia("H100-NVL", 93.02, 9.0, 3900, "PCIe 5, NVLink in pairs"),
        _nvidia("H800", 79.18, 9.0, 3350, _NVLINK[3]),
        _nvidia("H200", 139.80, 9.0, 4800, _NVLINK[4]),
        _nvidia("GH200", 94.50, 9.0, 4000, "NVLink-C2C to the CPU"),
        _nvidia("B200", 178.36, 10.0, 8000, _NVLINK[5]),
        _nvidia("GB200", 184.31, 10.0, 8000, _NVLINK[5]),
        _nvidia("B300", 267.69, 10.3, 8000, _NVLINK[5]),
        _nvidia("RTX5070Ti", 15.47, 12.0, 896, "PCIe 5"),
        _nvidia("RTX5080", 15.47, 12.0, 960, "PCIe 5"),
        _nvidia("RTX5090", 31.36, 12.0, 1792, "PCIe 5"),
        _nvidia("RTXPRO6000", 94.97, 12.0, 1597, "PCIe 5"),
        _nvidia("GB10", 119.70, 12.1, 273, "none", unified=True),
        _amd("MI100", 31.98, 908, 1229, "Infinity Fabric"),
        _amd("MI210", 63.98, 910, 1638, "Infinity Fabric"),
        _amd("MI250X", 63.98, 910, 1638, "Infinity Fabric"),
        _amd("MI300X", 191.98, 942, 5300, "Infinity Fabric 896 GB/s"),
        _amd("MI308X", 191.98, 942, 5300, "Infinity Fabric 896 GB/s"),
        _amd("MI325X", 255.98, 942, 6000, "Infinity Fabric 896 GB/s"),
        _amd("MI355X", 287.98, 950, 8000, "Infinity Fabric 1075 GB/s"),
        _amd("R9700", 31.86, 1201, 640, "PCIe 5"),
        _amd("RX9070XT", 15.92, 1201, 640, "PCIe 5"),
        _amd("RX7900XT", 19.98, 1100, 800, "PCIe 4"),
        _amd("RX7900XTX", 23.98, 1100, 960, "PCIe 4"),
    )
}
ESTIMATED = frozenset(
    {
        "A10G",
        "A2",
        "A30",
        "A40",
        "A4000",
        "A4500",
        "A5000",
        "A6000",
        "A800-80GB",
        "H100-MEGA-80GB",
        "H100-PCIE",
        "H20",
        "H20-141GB",
        "H200",
        "H800",
        "L20",
        "L4",
        "L40",
        "MI100",
        "MI210",
        "MI250X",
        "MI300X",
        "MI308X",
        "MI325X",
        "MI355X",
        "RTX2080Ti",
        "RTX3060",
        "RTX3070",
        "RTX3080",
        "RTX3080Ti",
        "RTX3090Ti",
        "RTX4000-Ada",
        "RTX4060Ti-16GB",
        "RTX4070Ti-Super",
        "RTX4080",
        "RTX4080-Super",
        "RTX5000-Ada",
        "RTX5070Ti",
        "RTX5080",
        "RTX6000-Ada",
        "RTX8000",
        "RX7900XT",
        "RX7900XTX",
        "RX9070XT",
        "T4",
        "TITAN-RTX",
        "V100",
    }
)

_ALIASES = {
    "rtxa4000": "A4000", "rtxa4500": "A4500", "rtxa5000": "A5000", "rtxa6000": "A6000", "rtx6000ada": "RTX6000-Ada",
    "6000ada": "RTX6000-Ada", "rtxpro6000maxq": "RTXPRO6000", "gh200480gb": "GH200", "h203e": "H20-141GB",
    "h100mega": "H100-MEGA-80GB", "aipror9700": "R9700", "dgxspark": "GB10", "7900xt": "RX7900XT",
    "7900xtx": "RX7900XTX", "h200nvl": "H200", "3060": "RTX3060", "3080": "RTX3080", "3090": "RTX3090",
    "4080": "RTX4080", "4090": "RTX4090", "5090": "RTX5090", "a800": "A800-80GB",
}  # fmt: skip
"""Normalised spellings that are neither a row's nor a row's with its memory behind."""
_VENDOR = {"nvidia", "geforce", "tesla", "amd", "instinct", "radeon", "quadro", "gpu", "graphics", "generation"}
_FORM = {
    "sxm", "sxm2", "sxm3", "sxm4", "sxm5", "sxm6", "pcie", "hbm2", "hbm2e", "hbm3", "hbm3e", "oam", "vf", "ac",
    "blackwell", "workstation", "server", "edition", "unified", "class",
}  # fmt: skip


def find(name: str) -> Gpu | None:
    """The row of a GPU by any spelling: SkyPilot's, nvidia-smi's, rocm-smi's, with or without its memory behind.

    `H100`, `h100_80gb` and `NVIDIA H100 80GB HBM3` are one row; a memory size that is not the row's is no match.
    """
    words = re.split(r"[^a-z0-9.]+", re.sub(r"\(.*?\)", " ", name.lower()))
    words = [word for word in words if word and word not in _VENDOR]
    for kept in (words, [word for word in words if word not in _FORM]):
        if row := _row("".join(kept)):
            return GPUS[row]
        sizes = [int(match[1]) for word in kept if (match := _SIZE.fullmatch(word))]
        row = _row("".join(word for word in kept if not _SIZE.fullmatch(word)))
        if row and all(0.97 <= size * _GIB / GPUS[row].memory_bytes <= 1.15 for size in sizes):
            return GPUS[row]
    return None


def accelerators(text: str) -> Accelerators:
    """`NAME:COUNT`, like `A100:8`. Raises ModelportError: no colon, no whole number, below 1, or an unknown name."""
    name, colon, number = text.partition(":")
    name, number = name.strip(), number.strip()
    if not colon or not name:
        raise _wrong(f"Accelerators are NAME:COUNT, like A100:8, not {text.strip()!r}.")
    if not re.fullmatch(r"-?[0-9]{1,9}", number):
        raise _wrong(f"The number of GPUs must be a whole number, not {number!r}; write {name}:1 or more.")
    count = int(number)
    if not 1 <= count <= MOST_GPUS:
        raise _wrong(f"The number of GPUs must be from 1 to {MOST_GPUS}, not {count}.")
    gpu = find(name)
    if gpu is None:
        known = {row.lower(): row for row in GPUS}
        hint = nearest(name.lower(), known)
        for lowered, row in known.items():
            hint = hint.replace(repr(lowered), repr(row))
        raise _wrong(f"The GPU type {name!r} is not known.{hint} Known are {', '.join(sorted(GPUS))}.")
    return Accelerators(gpu, count)


def devices_of(wanted: Accelerators) -> list[Device]:
    """The GPUs as Devices that nothing uses, for a plan of machines that are not this one."""
    gpu = wanted.gpu
    return [Device("gpu", gpu.name, gpu.memory_bytes, gpu.memory_bytes, gpu) for _ in range(wanted.count)]


def _row(key: str) -> str:
    return _ALIASES.get(key) or _BY_KEY.get(key, "")


def _wrong(sentence: str) -> ModelportError:
    return ModelportError(sentence, param="accelerators")


_SIZE = re.compile(r"(\d{2,3})gi?b")
_BY_KEY = {re.sub(r"[^a-z0-9]+", "", name.lower()): name for name in GPUS}
