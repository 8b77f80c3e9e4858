"""Checks of the environment: Python, the libraries' versions, torch with torchvision, and whether all can be loaded."""

from __future__ import annotations

import importlib
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata

from pipeline.doctor.case import Case
from pipeline.findings import Finding, error, ok, said, warning

DISTRIBUTION = "headfold"
# what a training loads, each after what it needs, and the distribution to install when it cannot be
MODULES = {
    "numpy": "numpy",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "safetensors.torch": "safetensors",
    "cv2": "opencv-python-headless",
    "PIL.Image": "pillow",
    "albumentations": "albumentations",
    "sklearn.model_selection": "scikit-learn",
    "joblib": "joblib",
    "rich.progress": "rich",
}
ONE_SOURCE = "install both from one source: pip install --force-reinstall torch torchvision"


def python(case: Case) -> Iterator[Finding]:
    """The Python version and the system."""
    from packaging.specifiers import SpecifierSet

    needed = metadata.metadata(DISTRIBUTION)["Requires-Python"] or ""
    here = ".".join(map(str, sys.version_info[:3]))
    text = f"Python {here} on {platform.system()} {platform.machine()}"
    if not SpecifierSet(needed).contains(here):
        yield error(f"{text}; {needed} is needed", f"make a new environment with a Python {needed}")
    elif platform.system() != "Linux":
        yield warning(f"{text}; only Linux is tested", "run `pipe demo` first: it goes the whole way in minutes")
    else:
        yield ok(text)


def versions(case: Case) -> Iterator[Finding]:
    """The installed versions against what this distribution requires; its extras are left out."""
    from packaging.requirements import Requirement

    needed = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or ()]
    needed = [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    here = {}
    for each in needed:
        version, pip = installed(each.name), f"pip install '{each.name}{each.specifier}'"
        if not version:
            yield error(f"{each.name} is not installed", pip)
        elif not each.specifier.contains(version, prereleases=True):
            yield error(f"{each.name} {version} is installed, {each.specifier} is needed", pip)
        else:
            here[each.name] = version
    if len(here) == len(needed):
        yield ok("as required: " + ", ".join(f"{name} {version}" for name, version in here.items()))


def torch_pair(case: Case) -> Iterator[Finding]:
    """Whether torch and torchvision are made for each other and load together; timm needs both."""
    torch, vision = installed("torch"), installed("torchvision")
    if not torch or load_fault("numpy"):
        return  # told by the other checks
    if fault := load_fault("torch"):
        yield error(f"torch {torch} cannot be loaded: {fault}", ONE_SOURCE)
    elif not vision:
        yield error("torchvision, which timm needs, is not installed", "pip install torchvision")
    elif (needed := torch_that("torchvision", wants=torch)) is not None:
        yield error(f"torchvision {vision} is made for torch{needed}, torch {torch} is installed", ONE_SOURCE)
    elif fault := load_fault("torchvision"):
        yield error(f"torchvision {vision} cannot be loaded beside torch {torch}: {fault}", ONE_SOURCE)
    else:
        yield _builds(build("torch", torch), build("torchvision", vision))


def _builds(torch: str, vision: str) -> Finding:
    """The two versions, each with the build that it is of."""
    of_torch, of_vision = (re.search(r"\+(cpu|cu\d+|rocm[\d.]+|xpu)$", each) for each in (torch, vision))
    if of_torch and of_vision and of_torch[1] != of_vision[1]:
        return error(f"torch {torch} and torchvision {vision} are of different builds", ONE_SOURCE)
    return ok(f"torch {torch} and torchvision {vision} load together")


def torch_that(name: str, *, wants: str) -> str | None:
    """The versions of torch that distribution ``name`` is made for, None when ``wants`` is one of them."""
    from packaging.requirements import Requirement

    for line in metadata.requires(name) or ():
        each = Requirement(line)
        if each.name == "torch" and not each.specifier.contains(wants, prereleases=True):
            return str(each.specifier)
    return None


def build(module: str, version: str) -> str:
    """The version that the loaded module itself names: wheels leave ``+cpu`` or ``+cu130`` out of their metadata."""
    return str(getattr(sys.modules.get(module), "__version__", version))


def loading(case: Case) -> Iterator[Finding]:
    """Whether all that a training loads can be loaded; the first that cannot is told, others may fail because of it."""
    for module, distribution in MODULES.items():
        if fault := load_fault(module):
            if installed(distribution) and "torch" not in module:  # else told by the other checks
                yield error(f"{module} cannot be loaded: {fault}", f"pip install --force-reinstall {distribution}")
            return
    yield ok("all libraries can be loaded")


def installed(distribution: str) -> str:
    """The installed version; the empty text when there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def load_fault(module: str) -> str:
    """Why ``module`` cannot be imported; the empty text when it can."""
    try:
        importlib.import_module(module)
    except Exception as reason:  # broken libraries raise whatever they like
        return said(reason)
    return ""
