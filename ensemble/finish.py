"""Heads' votes on the same rows: aligned by id, carried through the late steps, each fold by fits without it.

Legend: N samples with all labels, H heads, C classes of a head, J joint classes, E photos to predict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ensemble.bootstrap import Draws
from ensemble.chain import AUTO, HeadVote
from ensemble.choice import Trial, assembled, best_of, keys, rows_for
from ensemble.combine import compose
from ensemble.final import CHOICE_ROUNDS, ROUNDS, Scored, cross_fit
from ensemble.late import Late, LateChoices, Table, fit_late
from ensemble.predictions import (
    Array,
    EnsembleError,
    Indices,
    MisalignedPredictions,
    Names,
    Predictions,
    examples,
)
from ensemble.weights import given_to_truth


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Out-of-fold rows that have all labels.

    Attributes:
        joint: Their ids, folds and joint targets, with the probabilities of the heads' product.
        persons: (N,) who is in each.
        sizes: H class counts.
    """

    joint: Predictions
    persons: Names
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, votes: Sequence[HeadVote], classes: tuple[str, ...]) -> "Rows":
        """The rows that all heads' votes share and whose joint class is known.

        Raises:
            EnsembleError: There is none.
        """
        composed = compose([vote.fair for vote in votes], classes=classes)
        if not (composed.targets >= 0).any():
            raise EnsembleError("no photo has all labels; joint classes need photos that carry every head's label")
        known = composed.take(composed.targets >= 0)
        first = votes[0].members
        persons = first.persons[places(first.oof.ids, known.ids)]
        return cls(known, persons, tuple(len(vote.fair.classes) for vote in votes))

    def table(self, heads: Sequence[Predictions], direct: Predictions | None) -> Table:
        """Predictions of H heads, and of runs over the joint classes, on these rows."""
        truth = self.joint.targets
        return replace(
            table_of(self.joint.ids, heads, direct, self.persons),
            targets=tuple(np.asarray(part) for part in np.unravel_index(truth, self.sizes)),
            joint=truth,
        )

    def scored(self) -> Scored:
        """Their truth, and people drawn for intervals."""
        many, few = (Draws.of(self.persons, rounds=rounds) for rounds in (ROUNDS, CHOICE_ROUNDS))
        return Scored(self.joint.targets, self.joint.folds, many, few, np.ones(len(self.persons)), self.sizes)


def table_of(ids: Names, heads: Sequence[Predictions], direct: Predictions | None, groups: Names | None) -> Table:
    """Predictions of H heads side by side, in the order of (N,) ids that all of them have."""
    arrays = tuple(head.probs[places(head.ids, ids)] for head in heads)
    return Table(arrays, None if direct is None else direct.probs[places(direct.ids, ids)], groups)


def test_table(
    heads: Sequence[HeadVote], direct: HeadVote | None, *, plain: bool, groups: Mapping[str, str] | None
) -> tuple[Names, Table] | None:
    """The photos to predict, in the order of their list; None when there are none."""
    votes = [vote.plain_test if plain else vote.test for vote in heads]
    tests = [vote for vote in votes if vote is not None]
    if len(tests) < len(votes):
        return None
    ids = tests[0].ids
    persons = None if groups is None else _persons(ids, groups)
    return ids, table_of(ids, tests, None if direct is None else direct.test, persons)


def _persons(ids: Names, groups: Mapping[str, str]) -> Names:
    """(E,) who is on each photo.

    Raises:
        EnsembleError: It is not known of one.
    """
    if unknown := [name for name in ids.tolist() if name not in groups]:
        raise EnsembleError(
            f"who is on {len(unknown)} of {len(ids)} photos to predict is not known, e.g. {examples(unknown)}; give "
            "groups of the list that the members predicted"
        )
    return np.asarray([groups[name] for name in ids.tolist()])


def places(ids: Names, wanted: Names) -> Indices:
    """(N,) the rows of ``ids`` in which ``wanted`` stand.

    Raises:
        MisalignedPredictions: One stands in none.
    """
    if ids is wanted:
        return np.arange(len(ids))
    order = np.argsort(ids)
    rows = order[np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)]
    if len(missing := wanted[ids[rows] != wanted]):
        raise MisalignedPredictions(
            f"{len(missing)} of {len(wanted)} samples of one head are missing in another, e.g. {examples(missing)}; "
            "vote with members of the same samples"
        )
    return rows


def progressive(choices: LateChoices) -> dict[str, LateChoices]:
    """Step -> the late choices up to there, for those steps that do something."""
    done, made = LateChoices(), dict[str, LateChoices]()
    for name, changed in (
        ("by state", replace(done, state=choices.state)),
        ("person", replace(done, state=choices.state, consistent=choices.consistent)),
    ):
        if changed != done:
            made[name] = done = changed
    return made


def decided(rows: Rows, table: Table, choices: LateChoices) -> tuple[Late, Array, Trial[LateChoices] | None]:
    """The late steps fitted on all rows, (N, J) probabilities of each fold by what did not see it, and what was tried.

    The joint rule ``auto`` is the stacker where it saves more than a standard error of log-loss over the product, which
    fits nothing; for a fold the others' rows decide.

    Args:
        rows: N labelled rows.
        table: Heads on these rows.
        choices: What is done.
    """
    folds = rows.joint.folds
    if choices.joint != AUTO:
        return *cross_fitted(table, choices, folds), None
    candidates = [replace(choices, joint=rule) for rule in ("product", "stacker")]
    tried = {candidate: cross_fitted(table, candidate, folds) for candidate in candidates}
    fair = {candidate: probs for candidate, (_, probs) in tried.items()}
    losses = {c: -np.log(given_to_truth(probs[None], rows.joint.targets)[0]) for c, probs in fair.items()}
    judged = {
        key: best_of(candidates, losses.__getitem__, rows.persons, rows_for(key, folds), errors=1.0)
        for key in keys(folds)
    }
    best, trials = judged[None]
    return tried[best][0], assembled({key: fair[won] for key, (won, _) in judged.items()}, folds), trials[0]


def cross_fitted(table: Table, choices: LateChoices, folds: Indices) -> tuple[Late, Array]:
    """The late steps fitted on all rows, and the (N, J) probabilities of each fold by the fit without it."""
    fits = cross_fit(lambda rows: fit_late(table.take(rows), choices), folds)
    return fits[None], assembled({key: fit(table) for key, fit in fits.items() if key is not None}, folds)
