"""The plan of the house: imports point down and never round, a phase says what is in it, files stay short."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests import ROOT

PACKAGE = ROOT / "pipeline_steps"
PHASES = ("data", "negatives", "training", "evaluation", "survey", "report", "planning")
BELOW = {
    "errors": set(),
    "home": set(),
    "seeds": set(),
    "torchvision_on_cpu": set(),
    "config": {"errors", "home", "inputs"},
    "machine": {"errors"},
    "inputs": {"errors"},
    "method": {"errors"},
    "web": {"errors", "home"},
    "artifacts": {"errors"},
    "cli": {"config", "errors", "machine"},
    "models": {"artifacts", "cli", "config", "errors", "home", "machine", "method"},
    "drawing": {"artifacts", "config", "errors", "home", "method"},
    "mini": {"artifacts", "config", "errors", "method", "models"},
}
"""Each room, and the rooms it may import."""
FOUNDATIONS = set(BELOW)
BELOW |= dict.fromkeys(PHASES, FOUNDATIONS)
BELOW |= dict.fromkeys(("merge_shards", "new_culture", "new_project"), FOUNDATIONS)
BELOW["survey_server"] = FOUNDATIONS | {"survey"}  # an old command that hands over to the new one
LONGEST = 450


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules() -> dict[str, Path]:
    return {module(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Every module of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inside & known.keys()) or {node.module}
    return found & known.keys()


def room(name: str) -> str:
    return name.split(".")[1]


def test_imports_never_go_round():
    known = modules()
    graph = {name: imports(path, known) - {name} for name, path in known.items()}
    for name in graph:  # a package's face hands on what lies inside it
        graph[name] = {found for found in graph[name] if not name.startswith(f"{found}.")}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_imports_point_down():
    known = modules()
    for name, path in known.items():
        if name == "pipeline_steps":
            continue
        above = {
            found
            for found in imports(path, known)
            if found != "pipeline_steps" and room(found) not in BELOW[room(name)] | {room(name)}
        }
        assert not above, f"{name} imports {', '.join(sorted(above))}"


def steps() -> dict[str, Path]:
    return {name: path for name, path in modules().items() if "\n    run_step(" in path.read_text()}


def test_no_step_imports_a_step():
    known, there = modules(), steps()
    for name, path in there.items():
        assert not imports(path, known) & there.keys(), name


@pytest.mark.parametrize("name", sorted(path.name for path in PACKAGE.iterdir() if path.is_dir()))
def test_a_room_opens_with_what_is_in_it(name):
    """Its docstring, which names its steps, and nothing else; three rooms hand their parts on."""
    if name == "__pycache__":
        return
    tree = ast.parse((PACKAGE / name / "__init__.py").read_text())
    said = ast.get_docstring(tree) or ""
    assert len(said) > 20
    if name not in ("artifacts", "config", "models"):
        assert len(tree.body) == 1
    for step, path in steps().items():
        if room(step) == name and path.parent == PACKAGE / name:
            assert re.search(rf"\b{path.stem}\b", said), f"{name}/__init__.py does not name {path.stem}"


def test_no_file_is_long():
    files = [
        *PACKAGE.rglob("*.py"),
        *(ROOT / "benchmarks").rglob("*.py"),
        *(ROOT / "workflow").rglob("*.smk"),
    ]
    long = {str(path.relative_to(ROOT)) for path in files if path.read_text().count("\n") > LONGEST}
    assert not long


def test_a_phase_has_one_word_in_five_places():
    for phase in PHASES:
        assert (PACKAGE / phase / "__init__.py").exists()
        assert (PACKAGE / f"config/{phase}.py").exists()
        assert (ROOT / f"workflow/rules/{phase}.smk").exists()
        assert list((ROOT / f"tests/{phase}").glob("test_*.py"))
        assert (ROOT / f"docs/{phase}.md").exists()
