"""From heads that have voted to joint probabilities: by another head's state, over one person's photos, a joint rule.

Legend: N samples, H heads, C classes of a head, J joint classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble.calibration import CALIBRATIONS, Calibration
from ensemble.joint import JOINT_RULES, JointRule
from ensemble.mixture import mixture_weights
from ensemble.predictions import Array, Indices, Names
from ensemble.weights import given_to_truth

DIRECT = "direct"
FEWEST_IN_STATE = 50  # rows; a state with fewer is left as it is


@dataclass(frozen=True, slots=True)
class LateChoices:
    """What is done with heads that have voted.

    Attributes:
        joint: Key of ``JOINT_RULES``; ``direct``: the product mixed with runs over the joint classes; ``auto``: to be
            decided by what pays (see `ensemble.finish.decided`).
        state: Number of the head by whose called class the others are calibrated once more; None = not.
        consistent: Numbers of heads that are averaged over all photos of a person.
    """

    joint: str = "product"
    state: int | None = None
    consistent: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Heads side by side on the same rows.

    Attributes:
        heads: H arrays (N, C).
        direct: (N, J) of the runs over the joint classes; None without them.
        groups: (N,) persons; None where they are not known.
        targets: H times (N,) true classes of each head; empty for photos to predict.
        joint: (N,) true joint classes; empty for photos to predict.
    """

    heads: tuple[Array, ...]
    direct: Array | None
    groups: Names | None
    targets: tuple[Indices, ...] = ()
    joint: Indices | None = None

    def take(self, rows: Any) -> "Table":
        """The given rows of a table with targets."""
        return Table(
            tuple(head[rows] for head in self.heads),
            None if self.direct is None else self.direct[rows],
            None if self.groups is None else self.groups[rows],
            tuple(targets[rows] for targets in self.targets),
            None if self.joint is None else self.joint[rows],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Late:
    """The late steps, fitted: a table -> (N, J) joint probabilities.

    Attributes:
        choices: What is done.
        states: Head -> a calibration for each state of the head that gives it.
        rule: The joint rule.
        share: (2,) weights of its outcome and of the joint runs.
    """

    choices: LateChoices
    states: Mapping[int, tuple[Calibration, ...]]
    rule: JointRule
    share: Array

    def __call__(self, table: Table) -> Array:
        """(N, J) joint probabilities."""
        joint = self.rule(_refined(table, self.choices, self.states))
        if table.direct is None or self.choices.joint != DIRECT:
            return joint
        mixed: Array = self.share[0] * joint + self.share[1] * table.direct
        return mixed

    def as_dict(self) -> dict[str, Any]:
        """What was fitted, for JSON."""
        states = {str(head): [fit.as_dict() for fit in fits] for head, fits in self.states.items()}
        direct = {"joint_runs_weight": float(self.share[1])} if self.choices.joint == DIRECT else {}
        return {"kind": self.choices.joint, "by_state": states, "rule": self.rule.as_dict()} | direct


def fit_late(table: Table, choices: LateChoices) -> Late:
    """The late steps, fitted on a table with targets.

    Args:
        table: N labelled rows.
        choices: What is done.
    """
    states = _state_fits(table, choices)
    heads = _refined(table, choices, states)
    truth = _required(table.joint)
    rule = JOINT_RULES["product" if choices.joint == DIRECT else choices.joint](heads, truth)
    share = np.asarray([1.0, 0.0])
    if choices.joint == DIRECT and table.direct is not None:
        share = mixture_weights([given_to_truth(np.stack([rule(heads), table.direct]), truth)])
    return Late(choices, states, rule, share)


def _required(targets: Indices | None) -> Indices:
    if targets is None:
        raise ValueError("a table without targets cannot be fitted on")
    return targets


def _state_fits(table: Table, choices: LateChoices) -> dict[int, tuple[Calibration, ...]]:
    if choices.state is None:
        return {}
    called = table.heads[choices.state].argmax(axis=1)
    n_states = table.heads[choices.state].shape[1]
    others = [head for head in range(len(table.heads)) if head != choices.state]
    return {
        head: tuple(_calibration(table.heads[head], table.targets[head], called == s) for s in range(n_states))
        for head in others
    }


def _calibration(probs: Array, targets: Indices, rows: Any) -> Calibration:
    name = "temperature" if rows.sum() >= FEWEST_IN_STATE else "none"
    return CALIBRATIONS[name](probs[rows], targets[rows])


def _refined(table: Table, choices: LateChoices, states: Mapping[int, tuple[Calibration, ...]]) -> list[Array]:
    """H arrays (N, C): calibrated by state, then averaged over a person's photos where that was asked for."""
    heads = list(table.heads)
    if choices.state is not None:
        called = heads[choices.state].argmax(axis=1)
        for head, fits in states.items():
            heads[head] = _by_state(heads[head], called, fits)
    if table.groups is not None:
        for head in choices.consistent:
            heads[head] = grouped_means(heads[head], table.groups)
    return heads


def _by_state(probs: Array, called: Indices, fits: Sequence[Calibration]) -> Array:
    made = probs.copy()
    for state, calibrate in enumerate(fits):
        if (rows := called == state).any():
            made[rows] = calibrate(probs[rows])
    return made


def grouped_means(probs: Array, groups: Names) -> Array:
    """(N, C) each row's mean over the rows of its group.

    Args:
        probs: (N, C) probabilities.
        groups: (N,) names.
    """
    _, group = np.unique(groups, return_inverse=True)
    sums = np.stack([np.bincount(group, weights=column) for column in probs.T], axis=1)
    means: Array = (sums / np.bincount(group)[:, None])[group]
    return means
