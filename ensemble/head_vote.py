"""One head's vote: views weighted, members calibrated, blended, and the blend calibrated once more.

Legend: N samples, n of them to fit on, C classes, M members, V views, B rows of a block.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ensemble.blends import BLENDS, Blend
from ensemble.calibration import CALIBRATIONS, Calibration
from ensemble.choice import Key, Trial, best_of, keys, rows_for
from ensemble.logs import FLOOR
from ensemble.members import Members
from ensemble.mixture import mixture_weights
from ensemble.predictions import Array, EnsembleError, Indices, Names
from ensemble.voting import Voter
from ensemble.weights import given_to_truth

FIT_BYTES = 512 * 2**20  # of probabilities that are fitted on; more rows would hardly change a fit


@dataclass(frozen=True, slots=True)
class Plan:
    """A way to make one head's vote.

    Attributes:
        views: Numbers of the views that are averaged.
        learned: Whether their weights are fitted; else they are equal.
        calibration: Key of ``CALIBRATIONS``.
        weights: Key of ``BLENDS``.
    """

    views: tuple[int, ...]
    learned: bool = False
    calibration: str = "none"
    weights: str = "uniform"


@dataclass(frozen=True, slots=True, eq=False)
class HeadFit:
    """A plan, fitted: (M, V, B, C) probabilities of members and views -> (B, C) of the head.

    Attributes:
        views: (V,) weights of the views.
        members: M calibrations.
        blend: How calibrated members become one.
        after: The blend's calibration.
    """

    views: Array
    members: tuple[Calibration, ...]
    blend: Blend
    after: Calibration

    def __call__(self, probs: Array) -> Array:
        """(B, C) probabilities of (M, V, B, C)."""
        return self.after(self.blend(self.calibrated(probs)))

    def calibrated(self, probs: Array) -> Array:
        """(M, B, C) members, views averaged, each calibrated."""
        seen = averaged(probs, self.views)
        return np.stack([calibrate(member) for calibrate, member in zip(self.members, seen, strict=True)])

    def as_dict(self) -> dict[str, Any]:
        """What was fitted, for JSON."""
        return {
            "views": self.views.tolist(),
            "calibrations": [calibration.as_dict() for calibration in self.members],
            "blend": self.blend.as_dict(),
            "calibration_after": self.after.as_dict(),
        }


def averaged(probs: Array, views: Array) -> Array:
    """(M, B, C) weighted mean over the views of (M, V, B, C)."""
    if probs.shape[1] == 1:
        return probs[:, 0]
    made: Array = np.einsum("v,mvbc->mbc", views, probs)
    return made


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What a head's plans are fitted on.

    Attributes:
        probs: (M, V, n, C) out-of-fold probabilities.
        targets: (n,) true classes.
        folds: (n,) folds.
        persons: (n,) who is in the photo.
        votes_on: The folds that are voted on; in some of them no class may be known.
    """

    probs: Array
    targets: Indices
    folds: Indices
    persons: Names
    votes_on: Indices


def rows_to_fit(members: Members, persons: Names, n_views: int, *, seed: int = 0) -> Rows:
    """The rows that plans are fitted on: all whose class is known, or whole people drawn when those are too many.

    Args:
        members: M * V aligned out-of-fold members, the views of one member side by side.
        persons: (N,) who is in the photo.
        n_views: V.
        seed: Of the draw.

    Raises:
        EnsembleError: If there are test samples, fewer than two folds, or no targets outside of a fold.
    """
    require_folds(members)
    wanted = members.targets >= 0
    most = max(1, FIT_BYTES // (8 * len(members.readers) * len(members.classes)))
    if wanted.sum() > most:
        people, person = np.unique(persons, return_inverse=True)
        place = np.random.default_rng(seed).permutation(len(people))  # people in the order in which they are taken
        last = int(np.searchsorted(np.cumsum(np.bincount(place[person], weights=wanted)), most))
        wanted = wanted & (place[person] < max(last, 1))
    rows = np.flatnonzero(wanted)
    probs = np.empty((len(members.readers), len(rows), len(members.classes)))
    for number, read in enumerate(members.readers):
        probs[number] = read(slice(0, len(members.ids)) if len(rows) == len(members.ids) else rows)
    shaped = probs.reshape(-1, n_views, *probs.shape[1:])
    return Rows(shaped, members.targets[rows], members.folds[rows], persons[rows], np.unique(members.folds))


def require_folds(members: Members) -> None:
    """Refuse members that cannot be cross-fitted.

    Raises:
        EnsembleError: If there are test samples, fewer than two folds, or no targets outside of a fold.
    """
    folds = np.unique(members.folds).tolist()
    if n_test := int((members.folds < 0).sum()):
        raise EnsembleError(f"{n_test} of {len(members.ids)} samples are test samples; give out-of-fold predictions")
    if len(folds) < 2:
        raise EnsembleError(f"cross-fitting takes 2 or more folds, got {folds}; train with more folds")
    for fold in folds:
        if not (members.targets[members.folds != fold] >= 0).any():
            raise EnsembleError(f"no sample outside fold {fold} has a target; a vote needs labelled samples to fit on")


@dataclass(frozen=True, eq=False)
class Bench:
    """Fits plans on all rows and without each fold, and remembers what it fitted."""

    rows: Rows
    voter: Voter
    _fits: dict[tuple[Plan, Key], HeadFit] = field(default_factory=dict)
    _fair: dict[Plan, Array] = field(default_factory=dict)
    _seen: dict[tuple[object, ...], Any] = field(default_factory=dict)

    @cached_property
    def keys(self) -> list[Key]:
        """None for all rows, then the folds."""
        return keys(self.rows.votes_on)

    def fit(self, plan: Plan, key: Key) -> HeadFit:
        """The plan fitted on all rows, or without a fold."""
        if (plan, key) not in self._fits:
            rows = rows_for(key, self.rows.folds)
            views, members, calibrated = self._members(plan, key)
            targets = self.rows.targets[rows]
            blend = BLENDS[plan.weights](self.voter, calibrated, targets, self.rows.persons[rows])
            after = CALIBRATIONS[plan.calibration](blend(calibrated), targets)
            self._fits[plan, key] = HeadFit(views, members, blend, after)
        return self._fits[plan, key]

    def _members(self, plan: Plan, key: Key) -> tuple[Array, tuple[Calibration, ...], Array]:
        """View weights, calibrations and (M, n, C) calibrated members: what plans of several weights share."""
        name = (plan.views, plan.learned, plan.calibration, key)
        if name not in self._seen:
            rows = rows_for(key, self.rows.folds)
            probs, targets = self.rows.probs[:, :, rows], self.rows.targets[rows]
            views = view_weights(plan, probs, targets)
            seen = averaged(probs, views)
            members = tuple(CALIBRATIONS[plan.calibration](member, targets) for member in seen)
            calibrated = np.stack([calibrate(member) for calibrate, member in zip(members, seen, strict=True)])
            self._seen[name] = views, members, calibrated
        found: tuple[Array, tuple[Calibration, ...], Array] = self._seen[name]
        return found

    def fair(self, plan: Plan) -> Array:
        """(n, C) the vote, each fold's rows by the fit without it."""
        if plan not in self._fair:
            made = np.empty(self.rows.probs.shape[2:])
            for fold in self.keys[1:]:
                if (held_out := self.rows.folds == fold).any():
                    made[held_out] = self.fit(plan, fold)(self.rows.probs[:, :, held_out])
            self._fair[plan] = made
        return self._fair[plan]

    def losses(self, plan: Plan) -> Array:
        """(n,) cross-fitted log-loss of each row, in nats."""
        given = np.take_along_axis(self.fair(plan), self.rows.targets[:, None], axis=1)[:, 0]
        return -np.log(np.maximum(given, FLOOR))

    def decide(
        self, plans: Mapping[Key, Plan], variants: Callable[[Plan], Sequence[Plan]], *, errors: float | None
    ) -> tuple[dict[Key, Plan], list[Trial[Plan]]]:
        """The variant of each plan that pays: for a fold judged by the others. Also what was tried for all rows.

        Args:
            plans: What is done so far, for all rows and for each fold.
            variants: A plan -> candidates, from the simplest on.
            errors: How many standard errors a gain must exceed; None = the last variant was asked for.
        """
        chosen: dict[Key, Plan] = {}
        shown: list[Trial[Plan]] = []
        for key, plan in plans.items():
            rows = rows_for(key, self.rows.folds)
            best, trials = best_of(variants(plan), self.losses, self.rows.persons, rows, errors=errors)
            chosen[key] = best
            shown = trials if key is None else shown
        return chosen, shown


def view_weights(plan: Plan, probs: Array, targets: Indices) -> Array:
    """(V,) weights of the views: equal over the plan's, or those of the mixture with the least log-loss.

    Args:
        plan: Which views, and whether weights are learned.
        probs: (M, V, n, C) probabilities.
        targets: (n,) true classes.
    """
    weights = np.zeros(probs.shape[1])
    chosen = list(plan.views)
    weights[chosen] = 1 / len(chosen)
    if plan.learned and len(chosen) > 1:
        weights[chosen] = mixture_weights([given_to_truth(probs[:, chosen].mean(axis=0), targets)])
    return weights
