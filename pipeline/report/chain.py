"""What the ensemble stage did, as ``ensemble.json`` keeps it: choices, fits, scores, what each part costs or adds.

N samples, C classes, J joint classes, E photos to predict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ensemble.chain import HeadVote
from ensemble.choice import Trial
from ensemble.head_vote import Plan
from ensemble.line import Choices, Outcome
from ensemble.metrics import macro_f1
from ensemble.predictions import Predictions
from ensemble.reliability import reliability
from heads.base import IntArray
from heads.registry import JOINT
from pipeline.files import SCHEMA
from pipeline.report.shown import with_truth

MOST_PAIRS = 12  # class pairs that a correction or decoder moves photos between


def describe(outcome: Outcome, views: Sequence[str], choices: Choices, runs: Mapping[str, str]) -> dict[str, Any]:
    """The contents of ``ensemble.json``.

    Args:
        outcome: What the chain gave.
        views: Names of the views that were read.
        choices: What was asked for.
        runs: Run -> SHA-256 of its ``run.json``.
    """
    end = outcome.ends
    moved = outcome.mix.moved
    return {
        "schema": SCHEMA,
        "asked": {"views": list(views)} | asdict(choices),
        "runs": dict(runs),
        "heads": {vote.members.name: _head(vote) for vote in outcome.votes},
        "joint": outcome.late.as_dict() | _joint_trial(outcome),
        "prior": _prior(outcome),
        "decoder": {"name": end.decoded.name, "trials": end.decoded.trials} | end.decoded.decoder.as_dict(),
        "steps": _steps(outcome),
        "cross_fitted": end.scored.summary(end.labels),
        "as_trained": end.trained.summary(end.as_trained.labels),
        "in_sample": end.scored.summary(end.in_sample),
        "mix": "eval" if moved else "train",
        "attribution": _attribution(outcome),
        "submission_rows": len(end.answers),
        **({} if outcome.direct is None else {"joint_runs": _head(outcome.direct)}),
        **({"submission": _submission(outcome)} if len(end.answers) else {}),
    }


def _joint_trial(outcome: Outcome) -> dict[str, Any]:
    """What the stacker saves of the product's log-loss, where that was to be decided."""
    trial = outcome.late_trial
    return {} if trial is None else {"trial": {"gain": trial.gain, "error": trial.error, "kept": trial.kept}}


def _head(vote: HeadVote) -> dict[str, Any]:
    fit = vote.fit.as_dict()
    weights = fit["blend"].get("weights", [None] * len(vote.members.runs))
    known = vote.fair.take(vote.fair.targets >= 0)
    plain = vote.steps["vote"].take(vote.fair.targets >= 0)
    persons = vote.members.persons[vote.fair.targets >= 0]
    return {
        "members": [
            {"run": run, "weight": weight, "macro_f1": float(alone), "calibration": calibration}
            for run, weight, alone, calibration in zip(
                vote.members.runs, weights, vote.alone, fit["calibrations"], strict=True
            )
        ],
        "views": dict(zip(vote.members.views, fit["views"], strict=True)),
        "calibration": vote.plan.calibration,
        "calibration_after": fit["calibration_after"],
        "weights": vote.plan.weights,
        "blend": fit["blend"],
        "trials": {step: [_trial(vote, trial) for trial in trials] for step, trials in vote.trials.items()},
        "macro_f1_cross_fitted": f1_of(known),
        "macro_f1_in_sample": f1_of(vote.fitted.take(vote.fitted.targets >= 0)),
        "reliability": {
            "before": reliability(plain.targets, plain.probs, persons),
            "after": reliability(known.targets, known.probs, persons),
        },
        "ties": {"oof": vote.ties[0], "test": vote.ties[1]},
    }


def _trial(vote: HeadVote, trial: Trial[Plan]) -> dict[str, Any]:
    plan = trial.candidate
    return {
        "views": [vote.members.views[view] for view in plan.views],
        "view_weights": "learned" if plan.learned else "equal",
        "calibration": plan.calibration,
        "weights": plan.weights,
        "gain": trial.gain,
        "error": trial.error,
        "kept": trial.kept,
    }


def f1_of(predictions: Predictions) -> float:
    """Macro F1 over all classes, once over all rows."""
    return macro_f1(predictions.targets, predictions.labels, len(predictions.classes))


def _prior(outcome: Outcome) -> dict[str, Any]:
    mix, end = outcome.mix, outcome.ends
    return {
        "moved": mix.moved,
        "strength": end.strength,
        "strengths": {str(power): score for power, score in end.strengths.items()},
        "shifts": {name: shift.as_dict() for name, shift in mix.shifts.items()},
    }


def _steps(outcome: Outcome) -> list[dict[str, Any]]:
    """Macro F1 after each step in both mixes, and the paired difference to the step before in the eval set's mix."""
    end, before = outcome.ends, None
    rows: list[dict[str, Any]] = []
    for step in outcome.steps:
        rows.append(
            {
                "step": step.name,
                "as_trained": None if step.trained is None else end.trained.score(step.trained),
                "eval_mix": end.scored.score(step.moved) if outcome.mix.moved else None,
                "added": None if before is None else end.scored.difference(before.moved, step.moved),
            }
        )
        before = step
    return rows


def _attribution(outcome: Outcome) -> dict[str, Any]:
    """What each head costs, and what each member adds, in macro F1 with 95 % intervals, people drawn."""
    end = outcome.ends
    return {
        "heads": {
            vote.members.name: end.scored.difference(
                end.labels, with_truth(end.labels, end.scored.targets, number, end.scored.sizes)
            )
            for number, vote in enumerate(outcome.votes)
        },
        "members": [
            {"head": head, "run": run} | end.scored.difference(labels, outcome.all_in)
            for (head, run), labels in outcome.left_out.items()
        ],
    }


def _submission(outcome: Outcome) -> dict[str, Any]:
    end = outcome.ends
    return {
        "mix": np.bincount(end.answers, minlength=len(JOINT.classes)).tolist(),
        "moved_by_prior": _moves(end.uncorrected, end.answers),
        "moved_from_plain_vote": _moves(outcome.plain, end.answers),
    }


def _moves(before: IntArray, after: IntArray) -> dict[str, Any]:
    """How many answers changed, and from which class to which, the most frequent first."""
    changed = before != after
    pairs = Counter(zip(before[changed].tolist(), after[changed].tolist(), strict=True))
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:MOST_PAIRS]
    return {
        "rows": int(changed.sum()),
        "pairs": [{"from": JOINT.classes[a], "to": JOINT.classes[b], "rows": rows} for (a, b), rows in ordered],
    }
