"""The routes of each engine's own server, per version, read out of its published packages.

    python bench/engine_routes.py [DIR]    writes bench/data/engine_routes.json; DIR keeps the packages (0.7 GB)

Nothing of a package is run: routes are read from the decorators in its syntax trees (`@router.post("/x")`,
`@app.api_route("/x", methods=[…])`). Which of them modelport/engines lets clients reach, and from which version on, is
held against this file by tests/engines/test_routes.py. A route that stands here may still need a kind of model.
"""

import ast
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from engine_flags import DATA, VERSIONS, package, written

FOLDERS = {"vllm": "vllm/entrypoints/", "sglang": "sglang/srt/entrypoints/"}
METHODS = ("get", "post", "put", "delete", "patch")


def main(folder: Path) -> None:
    found: dict[str, dict[str, list[str]]] = {}
    for engine, versions in VERSIONS.items():
        for version in versions:
            routes = set()
            with zipfile.ZipFile(package(folder, engine, version)) as archive:
                for name in archive.namelist():
                    if name.startswith(FOLDERS[engine]) and name.endswith(".py"):
                        routes |= set(routes_of(ast.parse(archive.read(name))))
            for route in routes:
                found.setdefault(engine, {}).setdefault(route, []).append(version)
            print(engine, version, len(routes), "routes", flush=True)
    ordered = {engine: dict(sorted(routes.items())) for engine, routes in found.items()}
    data = {"command": "python bench/engine_routes.py", "versions": VERSIONS, "routes": ordered}
    (DATA / "engine_routes.json").write_text(written(data))


def routes_of(tree: ast.Module) -> Iterator[str]:
    """`METHOD /path` of every decorated function."""
    for node in ast.walk(tree):
        for decorator in getattr(node, "decorator_list", ()):
            if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.args:
                path = decorator.args[0]
                if isinstance(path, ast.Constant) and str(path.value).startswith("/"):
                    yield from (f"{method} {path.value}" for method in methods(decorator))


def methods(decorator: ast.Call) -> Iterator[str]:
    name = getattr(decorator.func, "attr", "")
    if name in METHODS:
        yield name.upper()
    given = next((word.value for word in decorator.keywords if word.arg == "methods"), None)
    if name in ("api_route", "route") and given is not None:
        yield from (str(each.value) for each in ast.walk(given) if isinstance(each, ast.Constant))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
