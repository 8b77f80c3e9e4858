"""The steps of one head's vote, each kept only where it pays on out-of-fold rows: calibration, views, weights.

Legend: N samples, C classes, M members, V views, B rows of a block.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.blends import Weighted
from ensemble.choice import Key, Trial, distinct
from ensemble.combine import RowWise, row_by_row
from ensemble.head_vote import Bench, HeadFit, Plan, averaged, rows_to_fit
from ensemble.members import Members
from ensemble.metrics import macro_f1
from ensemble.predictions import Array, Indices, Names, Predictions
from ensemble.voting import VOTERS, tied

AUTO = "auto"
MOST_LEFT_OUT = 64 * 2**20  # bytes of votes without each member
Variants = Callable[[Plan], Sequence[Plan]]
STEPS = ("vote", "calibration", "views", "weights")  # of a head, in order; the first is the plain soft or hard vote


@dataclass(frozen=True, slots=True, eq=False)
class HeadMembers:
    """Who votes on a head.

    Attributes:
        name: The head's name.
        runs: M names of runs.
        views: V names of views.
        oof: M * V aligned out-of-fold members, the views of one run side by side.
        test: The same of the photos to predict; None when there are none.
        persons: (N,) who is in each out-of-fold photo.
    """

    name: str
    runs: tuple[str, ...]
    views: tuple[str, ...]
    oof: Members
    test: Members | None
    persons: Names


@dataclass(frozen=True, slots=True)
class HeadChoices:
    """How heads are voted on; ``auto`` decides by what pays.

    Attributes:
        strategy: Key of ``VOTERS``.
        calibration: Key of ``CALIBRATIONS``, or ``auto``: temperature where it pays.
        weights: Key of ``BLENDS``, or ``auto``: greedy where it pays, else uniform.
        view_weights: ``auto`` (equal, views that do not pay left out), ``equal`` or ``learned``.
    """

    strategy: str = "soft"
    calibration: str = AUTO
    weights: str = AUTO
    view_weights: str = AUTO


@dataclass(frozen=True, slots=True, eq=False)
class HeadVote:
    """What the members say of one head together.

    Attributes:
        members: Who voted.
        fit: The chosen plan, fitted on all out-of-fold rows.
        plan: That plan.
        trials: Step -> what was tried in it, judged on all rows.
        steps: Step -> the out-of-fold vote up to there, each fold's rows by a fit and choices that did not see them.
        fitted: The out-of-fold vote by ``fit``, which has seen these very rows.
        test: The vote on the photos to predict, where there are any.
        plain_test: The same by the first step alone.
        alone: (M,) macro F1 of each member by itself.
        left_out: Member -> the last step's vote without it; empty where the blend cannot do without one.
        ties: Hard votes that were tied, out-of-fold and on the photos to predict.
    """

    members: HeadMembers
    fit: HeadFit
    plan: Plan
    trials: dict[str, list[Trial[Plan]]]
    steps: dict[str, Predictions]
    fitted: Predictions
    test: Predictions | None
    plain_test: Predictions | None
    alone: Array
    left_out: dict[int, Predictions]
    ties: tuple[int, int]

    @property
    def fair(self) -> Predictions:
        """The out-of-fold vote by all steps, cross-fitted."""
        return self.steps[STEPS[-1]]


def vote_on_head(head: HeadMembers, choices: HeadChoices) -> HeadVote:
    """Let the members vote, step by step.

    Raises:
        EnsembleError: Out-of-fold members that cannot be cross-fitted, or weights that do not go with the strategy.
    """
    n_views = len(head.views)
    bench = Bench(rows_to_fit(head.oof, head.persons, n_views), VOTERS[choices.strategy])
    plans, trials = decided(bench, choices, n_views)
    first, last = plans[STEPS[0]], plans[STEPS[-1]]
    fit = bench.fit(last[None], None)
    differing = distinct(tuple(by_key.items()) for by_key in plans.values())  # steps that changed nothing are one
    fair = {by_key: {key: bench.fit(plan, key) for key, plan in by_key} for by_key in differing}
    shape = _shaped(n_views)
    functions = [
        *(shape(_by_fold(by_key, head.oof.folds)) for by_key in fair.values()),
        shape(lambda rows, probs: fit(probs)),
        shape(lambda rows, probs: averaged(probs, fit.views).argmax(axis=2).T),
        shape(_ties(choices.strategy, fit)),
        shape(_without_each(fair[tuple(last.items())], head)),
    ]
    found = row_by_row(head.oof, *functions)
    fitted, labels, tied_oof, without = found[len(fair) :]
    by_plans = {by_key: head.oof.decided(probs) for by_key, probs in zip(fair, found, strict=False)}
    test, plain_test, ties = _on_test(head, fit, bench.fit(first[None], None), choices.strategy)
    return HeadVote(
        members=head,
        fit=fit,
        plan=last[None],
        trials=trials,
        steps={step: by_plans[tuple(by_key.items())] for step, by_key in plans.items()},
        fitted=head.oof.decided(fitted),
        test=test,
        plain_test=plain_test,
        alone=_alone(labels, head.oof.targets, len(head.oof.classes)),
        left_out={m: head.oof.decided(without[:, m]) for m in range(without.shape[1])},
        ties=(int(tied_oof.sum()), ties),
    )


def decided(
    bench: Bench, choices: HeadChoices, n_views: int
) -> tuple[dict[str, dict[Key, Plan]], dict[str, list[Trial[Plan]]]]:
    """Step -> the plan up to there for all rows and for each fold; and what was tried in each step.

    Args:
        bench: Fits plans.
        choices: What the user asked for.
        n_views: V.
    """
    plans: dict[Key, Plan] = dict.fromkeys(bench.keys, Plan(tuple(range(n_views))))
    history, trials = {STEPS[0]: plans}, dict[str, list[Trial[Plan]]]()
    for step, (variants, errors) in zip(STEPS[1:], _variants(choices, n_views), strict=True):
        plans, trials[step] = bench.decide(plans, variants, errors=errors)
        history[step] = plans
    return history, trials


def _variants(choices: HeadChoices, n_views: int) -> list[tuple[Variants, float | None]]:
    """For each step after the first: candidates, and how many standard errors they must gain (see `best_of`)."""
    calibrations, bar = _candidates(choices.calibration, "none", "temperature")
    weights, weights_bar = _candidates(choices.weights, "uniform", "greedy")
    return [
        (lambda plan: [replace(plan, calibration=name) for name in calibrations], bar),
        _views(choices.view_weights, n_views),
        (lambda plan: [replace(plan, weights=name) for name in weights], weights_bar),
    ]


def _candidates(asked: str, simplest: str, usual: str) -> tuple[list[str], float | None]:
    """What is tried: the usual where it pays, or what was asked for, whether it pays or not."""
    return ([simplest, usual], 1.0) if asked == AUTO else (distinct([simplest, asked]), None)


def _views(asked: str, n_views: int) -> tuple[Variants, float | None]:
    """Equal weights fit nothing, so no set of views is the simpler one, and the best is taken."""
    if asked != AUTO:
        return lambda plan: distinct([plan, replace(plan, learned=asked == "learned")]), None
    others = range(1, n_views)
    subsets = [(0, *more) for size in range(n_views) for more in combinations(others, size)]
    return lambda plan: [replace(plan, views=subset) for subset in subsets], 0.0


def _shaped(n_views: int) -> Callable[[RowWise], RowWise]:
    """A function of (M, V, B, C) as one of (M * V, B, C)."""
    return lambda function: lambda rows, probs: function(rows, probs.reshape(-1, n_views, *probs.shape[1:]))


def _by_fold(fits: Mapping[Key, HeadFit], folds: Indices) -> RowWise:
    """Each fold's rows by the fit without it."""

    def decide(rows: slice, probs: Array) -> Array:
        made = np.empty(probs.shape[2:])
        for fold in np.unique(folds[rows]).tolist():
            held_out = folds[rows] == fold
            made[held_out] = fits[fold](probs[:, :, held_out])
        return made

    return decide


def _without_each(fits: Mapping[Key, HeadFit], head: HeadMembers) -> RowWise:
    """(B, M, C) the vote without each member, each fold's rows by the fit without it; (B, 0, C) where that is not told.

    It is not told of a member that is alone, of a stacked model, and of so many that memory would not hold it.
    """
    votes = {key: fit.blend for key, fit in fits.items() if isinstance(fit.blend, Weighted)}
    n_members, n_classes = len(head.runs), len(head.oof.classes)
    if n_members < 2 or len(votes) < len(fits) or 8 * n_members * n_classes * len(head.oof.ids) > MOST_LEFT_OUT:
        n_members = 0

    def decide(rows: slice, probs: Array) -> Array:
        made, folds = np.empty((probs.shape[2], n_members, n_classes)), head.oof.folds[rows]
        for fold in np.unique(folds).tolist() if n_members else []:
            held_out = folds == fold
            members = fits[fold].calibrated(probs[:, :, held_out])
            for member in range(n_members):
                made[held_out, member] = fits[fold].after(votes[fold].without(member)(members))
        return made

    return decide


def _ties(strategy: str, fit: HeadFit) -> RowWise:
    """Which rows of a hard vote are tied; in other votes none is."""
    if strategy == "hard":
        weights = np.asarray(fit.blend.as_dict()["weights"])
        return lambda rows, probs: tied(fit.calibrated(probs), weights)
    return lambda rows, probs: np.zeros(probs.shape[2], dtype=bool)


def _on_test(
    head: HeadMembers, fit: HeadFit, plain: HeadFit, strategy: str
) -> tuple[Predictions | None, Predictions | None, int]:
    """The photos to predict by all steps and by the first alone, and how many hard votes are tied."""
    if head.test is None:
        return None, None, 0
    functions = ((lambda rows, probs: fit(probs)), (lambda rows, probs: plain(probs)), _ties(strategy, fit))
    answers, before, ties = row_by_row(head.test, *map(_shaped(len(head.views)), functions))
    return head.test.decided(answers), head.test.decided(before), int(ties.sum())


def _alone(labels: npt.NDArray[Any], targets: Indices, n_classes: int) -> Array:
    """(M,) macro F1 of each member's labels (N, M), where the class is known."""
    known = targets >= 0
    return np.asarray([macro_f1(targets[known], column, n_classes) for column in labels[known].T])
