"""The package layout: which part may import which, no import cycles, no long files."""

import ast
import graphlib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rpfnet_jax"

EVERYTHING_BELOW = "files runtime native ops model losses metrics baselines data scenes video registration weights "
EVERYTHING_BELOW += "training inference export reports recipes measuring"

# Part of the package (a folder or file of its top level) -> the parts that it may import.
ALLOWED = {
    "files": "",
    "runtime": "",
    "native": "",
    "ops": "files native runtime",
    "model": "ops",
    "losses": "ops",
    "metrics": "ops",
    "baselines": "ops",
    "data": "files runtime",
    "scenes": "files data",
    "video": "files runtime data",
    "registration": "files runtime data",
    "weights": "files model",
    "training": "files runtime ops model losses data weights",
    "inference": "files runtime native ops model baselines data registration weights",
    "export": "files native ops model data weights __init__",
    "reports": "files runtime metrics",
    "measuring": "runtime data metrics",
    "recipes": "model losses training",
    "pipeline": EVERYTHING_BELOW,
    "cli": f"{EVERYTHING_BELOW} pipeline __init__",
    "__main__": "cli",
    # For type checkers; at run time the public names are imported on first use.
    "__init__": "model inference",
}


def modules():
    """Dotted name -> path of every module of the package."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(path, known):
    """The modules of the package that a file imports, and the names imported from each."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, None) if inner in known else (node.module, alias.name)


KNOWN = modules()
IMPORTS = {module: set(imports(path, KNOWN)) for module, path in KNOWN.items()}


def part(module):
    """The part of the package that a module belongs to."""
    return [*module.split("."), "__init__"][1]


def test_every_part_imports_only_the_parts_that_it_may():
    forbidden = [
        f"{module} imports {target}"
        for module, found in IMPORTS.items()
        for target, _ in sorted(found, key=str)
        if part(target) not in (part(module), *ALLOWED[part(module)].split())
    ]
    assert not forbidden


def test_recipes_import_only_configurations():
    names = {
        name for module, found in IMPORTS.items() for target, name in found if part(module) == "recipes" != part(target)
    }
    assert names
    assert all(name in ("Reading", "Compute") or name.endswith("Config") for name in names), names


def test_there_are_no_import_cycles():
    """Between modules, not only between parts; raises an error that shows the cycle."""
    graph = {module: {target for target, _ in found} for module, found in IMPORTS.items()}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_no_file_has_more_than_500_lines():
    folders = [ROOT / name for name in ("rpfnet_jax", "configs", "studies", "benchmarks")]
    # Benchmarks make environments of their own, in hidden folders.
    ours = [path.relative_to(ROOT) for folder in folders for path in folder.rglob("*.py")]
    ours = [path for path in ours if not any(part.startswith(".") for part in path.parts)]
    lines = {str(path): len((ROOT / path).read_text().splitlines()) for path in ours}
    assert not {path: count for path, count in lines.items() if count > 500}
