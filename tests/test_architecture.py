"""The house's rules, read from the source: who may import whom, what belongs in one room only, how long files get."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(file for room in ("heads", "ensemble", "pipeline") for file in (ROOT / room).rglob("*.py"))
# what only these may import
RESERVED = {
    "timm": {
        "pipeline/network.py",
        "pipeline/optimizers.py",
        "pipeline/averages.py",
        "pipeline/freezing.py",
    },
    "albumentations": {"pipeline/augment.py", "pipeline/recipes.py"},
    "cv2": {
        "pipeline/images.py",
        "pipeline/eda/looking.py",
        "pipeline/augment.py",
        "pipeline/recipes.py",
        "pipeline/mixing.py",
        "pipeline/canvas.py",
        "pipeline/drawing.py",
    },
    "PIL": {"pipeline/images.py", "pipeline/opening.py"},
    "pydantic": {"pipeline/schema.py"},
    "sklearn": {"pipeline/folds.py", "ensemble/calibration.py"},
    "jinja2": {"pipeline/page/render.py"},
}
# from the top of the line to its foot; nobody imports from a floor above
FLOORS = [
    {"__main__"},
    {"cli"},
    {
        "cli_ensemble",
        "cli_checks",
        "cli_cache",
        "cli_submission",
        "cli_track",
        "cli_train",
        "cli_augment",
        "cli_search",
        "cli_runs",
        "cli_eda",
        "cli_audit",
    },
    {"demo", "tune", "lr_find", "contact_sheet", "eda", "audit"},
    {"again"},
    {"submit"},
    {"train", "report", "check", "verify", "doctor", "ballots", "submission_check", "submission_diff"},
    {"side_by_side", "full"},
    {"ordering"},
    {"orders", "pools"},
    {"tracking"},
    {"finish", "members", "recover", "cache_list", "submissions", "page"},
    {"plan"},
    {"extra"},
    {"fold", "precision"},
    {"work"},
    {"pseudo"},
    {"phases"},
    {"job"},
    {"averages", "inner"},
    {"fold_data"},
    {"engine"},
    {"ranks"},
    {"cache"},
    {"optimizers", "schedules", "sampling"},
    {"network", "images", "folds", "layouts", "store", "pictures", "demo_data", "checkpoints", "contents", "entries"},
    {"augmentation"},
    {"recipes", "mixing", "necks", "freezing", "hub"},
    {"augment", "batchnorm", "schema", "opening", "locks", "state", "stored", "link"},
    {"files"},
    {"competition", "fixes", "drawing"},
    {"inside"},
    {"survey", "looks"},
    {"canvas"},
    {"samples"},
    {"options", "findings"},
    {"config"},
    {"rules", "arguments", "tables", "progress", "interrupts", "launch", "heap"},
    {"reading", "terminal"},
    {"errors"},
]


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(module: str) -> int | None:
    name = module.split(".")[1] if module.startswith("pipeline.") else None
    return next((number for number, names in enumerate(FLOORS) if name in names), None)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_down_only(file: Path) -> None:
    place = str(file.relative_to(ROOT).as_posix())
    room = place.split("/")[0]
    own = floor(place.removesuffix(".py").replace("/", "."))
    if room == "pipeline" and file.name != "__init__.py":
        assert own is not None, f"{place} has no floor; put it on one"
    for module in imports(file):
        top = module.split(".")[0]
        if room == "heads":
            assert top not in ("ensemble", "pipeline", "timm"), f"{place} imports {module}"
        if room == "ensemble":
            assert top not in ("heads", "pipeline", "torch"), f"{place} imports {module}"
        if top in RESERVED:
            assert place in RESERVED[top], f"{place} imports {module}"
        below = floor(module)
        if own is not None and below is not None:
            assert below > own or module.split(".")[1] == place.split("/")[1].removesuffix(".py"), (
                f"{place} imports {module}"
            )


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_and_functions_stay_short(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= 300
    assert ast.get_docstring(ast.parse(text)), f"{file} does not say what it is"


def test_help_and_the_ensemble_stage_import_no_torch() -> None:
    import subprocess
    import sys

    code = """
import sys, pipeline.cli
print({'torch', 'numpy'} & sys.modules.keys())
import pipeline.submit, pipeline.report.text, pipeline.report.runs
print({'torch', 'timm', 'sklearn', 'cv2'} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ["set()", "set()"]


def test_help_reports_and_votes_on_real_runs_import_no_torch(artifacts: Path) -> None:
    import subprocess
    import sys

    code = """
import contextlib, io, sys
from pipeline.cli import main
where = ["--artifacts", ARTIFACTS]
for command in (["--help"], ["oof-report", *where], ["ensemble", "--name", "quick", *where]):
    sys.argv = ["pipe", *command]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main()
    print(len(out.getvalue()) > 100, {"torch", "timm", "sklearn", "cv2"} & sys.modules.keys())
"""
    command = [sys.executable, "-c", f"ARTIFACTS = {str(artifacts)!r}\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines() == ["True set()"] * 3
