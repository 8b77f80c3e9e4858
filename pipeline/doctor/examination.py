"""The doctor's checks in their order, what they find together, and how that is told."""

from __future__ import annotations

import warnings

from pipeline.doctor import folders, libraries, machine, training
from pipeline.doctor.case import Case, Check
from pipeline.findings import Finding, Findings, error, many, said, warning

# a check is a function that yields findings; a new one is a line here
CHECKS: dict[str, tuple[Check, ...]] = {
    "environment": (libraries.python, libraries.versions, libraries.torch_pair, libraries.loading),
    "machine": (machine.device, machine.memory, machine.threads, machine.shared_memory),
    "training": (training.data, training.folds, training.network, training.weights),
    "artifacts": (folders.writable, folders.disk, folders.runs),
}


def examine(case: Case) -> Findings:
    """Run every check; whatever one of them raises becomes a finding.

    A broken environment fails many checks for one reason, which is told already: those are named in one warning.
    """
    groups: dict[str, list[Finding]] = {}
    skipped: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries while they load; what matters is what the checks find
        for name, checks in CHECKS.items():
            groups[name] = []
            for check in checks:
                try:
                    groups[name] += list(check(case))
                except Exception as reason:
                    title = check.__name__.replace("_", " ")
                    if any(finding.status == "error" for finding in groups["environment"]):
                        skipped.append(title)
                    else:
                        groups[name].append(unforeseen(title, reason))
    if skipped:
        text = f"not checked, because the environment is broken: {', '.join(skipped)}"
        groups["environment"].append(warning(text, "mend the environment first, then ask again"))
    return Findings({name: findings for name, findings in groups.items() if findings})


def unforeseen(title: str, reason: Exception) -> Finding:
    """A check that failed itself: what it met, a training would meet as well."""
    fix = "try `pipe train-head mask --dry-run`; if that works, this is a bug of `pipe doctor`"
    if isinstance(reason, ImportError):
        fix = "install this program and what it needs again: `pip install .` in its folder"
    return error(f"{title}: not checked, {type(reason).__name__}: {said(reason)}", fix)


def verdict(found: Findings) -> str:
    """What it comes to, in one line."""
    errors, warned = found.count("error"), found.count("warning")
    noted = f"; {many(warned, 'warning')}" if warned else ""
    if errors:
        return f"{many(errors, 'thing')} would stop or spoil a training{noted}"
    return f"ready to train{noted}"
