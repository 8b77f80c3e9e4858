"""Ways from drawn members to answers: plain votes, references that are told the eval set's mix, the product's chain.

Legend: N out-of-fold rows, E eval rows, C classes of a head, J joint classes, M members, V views.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from benchmarks.people_model import Draw
from benchmarks.scenarios import CLASSES, SIZES, VIEWS
from ensemble.calibration import CALIBRATIONS, Calibration
from ensemble.chain import HeadChoices, HeadMembers
from ensemble.line import Choices, run_chain
from ensemble.members import Members
from ensemble.metrics import macro_f1
from ensemble.plug_in import plug_in
from ensemble.predictions import Array, Indices, Predictions, order_of
from ensemble.priors import corrected, mix_of
from heads.registry import JOINT

PLAIN, CALIBRATED, CORRECTED = "plain", "calibrated", "calibrated + true mix"
J = int(np.prod(SIZES))
Heads = dict[str, Array]  # head -> (N, C) or (E, C)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way to answers came to.

    Attributes:
        test: Macro F1 on the eval set.
        estimate: Macro F1 that it claims, from out-of-fold rows.
        oracle: Macro F1 of its out-of-fold labels, re-weighted to the eval set's true mix.
        moved: Whether it corrected for another mix; None where there was no such decision.
        unmoved: What ``test`` is without the correction; None where there was no such decision.
    """

    test: float
    estimate: float
    oracle: float
    moved: bool | None = None
    unmoved: float | None = None


@dataclass(frozen=True, eq=False)  # no slots: votes are computed when first asked for, and kept
class Case:
    """A draw, with what several ways look at.

    Attributes:
        drawn: The draw.
    """

    drawn: Draw

    @cached_property
    def ratios(self) -> dict[str, Array]:
        """Head -> (C,) true share in the eval set over share in training."""
        mixes = (
            {head: mix_of(side.truth[head], len(CLASSES[head])) for head in CLASSES}
            for side in (self.drawn.eval, self.drawn.oof)
        )
        new, old = mixes
        return {head: new[head] / np.maximum(old[head], 1 / len(self.drawn.oof.persons)) for head in CLASSES}

    @cached_property
    def weights(self) -> Array:
        """(N,) what out-of-fold rows count in the eval set's true mix, heads taken as independent."""
        truth = self.drawn.oof.truth
        made: Array = np.prod([self.ratios[head][truth[head]] for head in CLASSES], axis=0)
        return made

    @cached_property
    def plain(self) -> tuple[Heads, Heads]:
        """Plain averages over members and views: out of fold, and of the eval set."""
        sides = (self.drawn.oof, self.drawn.eval)
        oof, test = ({head: stacked(s.members[head]).mean(axis=(0, 1)) for head in CLASSES} for s in sides)
        return oof, test

    @cached_property
    def calibrated(self) -> tuple[Heads, Heads]:
        """The same with a temperature for each member and for each head's vote, cross-fitted out of fold."""
        both = {
            head: calibrated_vote(*(s.members[head] for s in (self.drawn.oof, self.drawn.eval))) for head in CLASSES
        }
        return {head: oof for head, (oof, _) in both.items()}, {head: test for head, (_, test) in both.items()}

    def in_true_mix(self, heads: Heads) -> Heads:
        """Probabilities moved to the eval set's true mix."""
        return {head: corrected(probs, self.ratios[head]) for head, probs in heads.items()}

    def outcome(self, oof: Indices, test: Indices, *, knows_mix: bool) -> Outcome:
        """The scores of (N,) and (E,) labels."""
        truth = self.drawn.oof.joint
        oracle = macro_f1(truth, oof, J, weights=self.weights)
        estimate = oracle if knows_mix else macro_f1(truth, oof, J)
        return Outcome(macro_f1(self.drawn.eval.joint, test, J), estimate, oracle)


Way = Callable[[Case], Outcome]


def stacked(members: list[list[Predictions]]) -> Array:
    """(M, V, N, C) probabilities."""
    return np.stack([[view.probs for view in views] for views in members])


def calibrated_vote(oof: list[list[Predictions]], test: list[list[Predictions]]) -> tuple[Array, Array]:
    """(N, C) and (E, C): views averaged, members calibrated and averaged, and the mean calibrated."""
    known, unknown = stacked(oof).mean(axis=1), stacked(test).mean(axis=1)
    targets, folds = oof[0][0].targets, oof[0][0].folds
    made = np.empty_like(known[0])
    for fold in np.unique(folds):
        kept = folds != fold
        made[~kept] = _fitted_vote(known[:, kept], targets[kept])(known[:, ~kept])
    return made, _fitted_vote(known, targets)(unknown)


def _fitted_vote(probs: Array, targets: Indices) -> Callable[[Array], Array]:
    fit = CALIBRATIONS["temperature"]
    members: list[Calibration] = [fit(member, targets) for member in probs]

    def mean(given: Array) -> Array:
        each = [calibrate(member) for calibrate, member in zip(members, given, strict=True)]
        return np.asarray(np.mean(each, axis=0))

    after = fit(mean(probs), targets)
    return lambda given: after(mean(given))


def composed(heads: Heads) -> Array:
    """(N, J) product of heads."""
    mask, gender, age = (heads[head] for head in CLASSES)
    return np.asarray(np.einsum("nm,ng,na->nmga", mask, gender, age).reshape(len(mask), -1))


def called(probs: Array, weights: Array) -> Indices:
    """(N,) most probable classes."""
    labels: Indices = probs.argmax(axis=1)
    return labels


def reference(
    votes: Callable[[Case], tuple[Heads, Heads]], decode: Callable[[Array, Array], Indices], *, knows_mix: bool
) -> Way:
    """A way that averages heads in one of two ways, moves them to the true mix or not, and decodes."""

    def run(case: Case) -> Outcome:
        oof, test = votes(case)
        if knows_mix:
            oof, test = case.in_true_mix(oof), case.in_true_mix(test)
        weights = case.weights if knows_mix else np.ones(len(case.weights))
        labels = decode(composed(oof), weights), decode(composed(test), np.ones(len(case.drawn.eval.persons)))
        return case.outcome(*labels, knows_mix=knows_mix)

    return run


def head_members(drawn: Draw, head: str) -> HeadMembers:
    """A head's members as the chain takes them."""
    runs = tuple(f"run{number}" for number in range(len(drawn.oof.members[head])))
    names = [run for run in runs for _ in VIEWS]
    oof, test = (
        Members.of([view for views in side.members[head] for view in views], names) for side in (drawn.oof, drawn.eval)
    )
    return HeadMembers(head, runs, VIEWS, oof, test, drawn.oof.persons)


def chain(choices: Choices) -> Way:
    """The product's chain; it decides for itself whether the eval set has another mix."""

    def run(case: Case) -> Outcome:
        drawn = case.drawn
        done = run_chain([head_members(drawn, head) for head in CLASSES], None, JOINT.classes, choices)
        ids, test_ids = (side.members["age"][0][0].ids for side in (drawn.oof, drawn.eval))
        truth = drawn.eval.joint[order_of(test_ids, done.test_ids)]
        labels, weights = done.ends.labels, case.weights[order_of(ids, done.oof.ids)]
        return Outcome(
            test=macro_f1(truth, done.ends.answers, J),
            estimate=done.ends.scored.score(labels),
            oracle=macro_f1(done.oof.targets, labels, J, weights=weights),
            moved=None if choices.prior == "none" else done.mix.moved,
            unmoved=None if choices.prior == "none" else macro_f1(truth, done.ends.uncorrected, J),
        )

    return run


VOTE = HeadChoices(calibration="none", weights="uniform", view_weights="equal")
ALONE = Choices(joint="product", prior="none", decoder="argmax")

# the first is what others are compared with
WAYS: dict[str, Way] = {
    PLAIN: reference(lambda case: case.plain, called, knows_mix=False),
    CALIBRATED: reference(lambda case: case.calibrated, called, knows_mix=False),
    "calibrated + plug-in": reference(lambda case: case.calibrated, plug_in, knows_mix=False),
    "plain + true mix": reference(lambda case: case.plain, called, knows_mix=True),
    CORRECTED: reference(lambda case: case.calibrated, called, knows_mix=True),
    "calibrated + true mix + plug-in": reference(lambda case: case.calibrated, plug_in, knows_mix=True),
    "chain, heads": chain(ALONE),
    "chain, joint": chain(replace(ALONE, joint="auto")),
    "chain, prior": chain(Choices(decoder="argmax")),
    "chain": chain(Choices()),
    "chain: calibration": chain(replace(ALONE, heads=replace(VOTE, calibration="auto"))),
    "chain: + views": chain(replace(ALONE, heads=replace(VOTE, calibration="auto", view_weights="auto"))),
    "chain, no mix": chain(Choices(prior="none")),
    "chain, full correction": chain(Choices(prior="bbse-soft")),
    "chain, em": chain(Choices(prior="em")),
    "chain, class-bias": chain(Choices(decoder="class-bias")),
    "chain, head-bias": chain(Choices(decoder="head-bias")),
    "chain, equal weights": chain(Choices(heads=HeadChoices(weights="uniform"))),
}
