"""The whole chain: heads vote, are composed to joint classes, moved to the eval set's class mix, and decoded.

Legend: N samples with all labels, H heads, C classes of a head, J joint classes, E photos to predict.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from ensemble.chain import AUTO, STEPS, HeadChoices, HeadMembers, HeadVote, vote_on_head
from ensemble.choice import Trial
from ensemble.ends import Ends, at, ends
from ensemble.finish import Rows, cross_fitted, decided, progressive, test_table
from ensemble.joint import Product
from ensemble.late import DIRECT, Late, LateChoices
from ensemble.mix import Mix, find_mix
from ensemble.predictions import Array, EnsembleError, Indices, Names, Predictions

JOINT_STEP = "joint"


@dataclass(frozen=True, slots=True)
class Choices:
    """How everything is combined; defaults decide by what pays.

    Attributes:
        heads: How each head is voted on.
        joint: Key of ``JOINT_RULES``; ``direct``: the product mixed with runs over the joint classes; ``auto``: the
            stacker where it pays, else the product.
        prior: ``none``, or a key of ``ESTIMATORS`` under its safeguards; ``auto`` is soft BBSE.
        prior_over: ``heads`` (a mix for each head) or ``joint`` (one over the J classes).
        given: Head -> class mix of the eval set as the user knows it, which no safeguard holds back.
        decoder: Key of ``DECODERS``, or ``auto``.
        by_state: Name of a head by whose called class the other heads are calibrated once more; empty = not.
        consistent: Names of heads that are averaged over all photos of one person.
    """

    heads: HeadChoices = field(default_factory=HeadChoices)
    joint: str = AUTO
    prior: str = "auto"
    prior_over: str = "heads"
    given: Mapping[str, Sequence[float]] = field(default_factory=dict)
    decoder: str = "auto"
    by_state: str = ""
    consistent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The out-of-fold labels after a step, cross-fitted.

    Attributes:
        name: Of the step.
        trained: (N,) labels in the class mix of training; None for the step that leaves it.
        moved: (N,) labels of rows that are scored in the eval set's mix.
    """

    name: str
    trained: Indices | None
    moved: Indices


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Everything that came of it; what is said of out-of-fold rows is cross-fitted.

    Attributes:
        votes: Each head's vote.
        direct: The vote of the runs over the joint classes, where the joint rule asked for them.
        oof: N joint predictions in the class mix of training.
        late: The late steps, fitted.
        late_trial: The stacker beside the product, where the joint rule was to be decided.
        steps: What each step made of the rows.
        mix: The eval set's class mix.
        ends: Labels.
        test_ids: (E,) the photos to predict.
        plain: (E,) the labels of the plain vote.
        left_out: (head, member) -> (N,) most probable classes by the heads' product without this member, in the eval
            set's mix.
        all_in: (N,) the same with every member.
    """

    votes: tuple[HeadVote, ...]
    direct: HeadVote | None
    oof: Predictions
    late: Late
    late_trial: Trial[LateChoices] | None
    steps: tuple[Step, ...]
    mix: Mix
    ends: Ends
    test_ids: Names
    plain: Indices
    left_out: dict[tuple[str, str], Indices]
    all_in: Indices


def run_chain(
    members: Sequence[HeadMembers],
    direct: HeadMembers | None,
    classes: tuple[str, ...],
    choices: Choices,
    groups: Mapping[str, str] | None = None,
) -> Outcome:
    """Combine everything, step by step.

    Args:
        members: H heads, in the order of the joint classes.
        direct: Runs over the joint classes, for the joint rule ``direct``.
        classes: J joint class names.
        choices: What the user asked for.
        groups: Photo to predict -> person, where the eval table knows; for ``consistent``.

    Raises:
        EnsembleError: Members or choices do not fit together.
    """
    late = _late_choices(choices, members)
    heads, beside = _votes(members, _direct(direct, late), choices.heads)
    rows = Rows.of(heads, classes)
    trained, folds = rows.scored(), rows.joint.folds
    whole = rows.table([vote.fair for vote in heads], None if beside is None else beside.fair)
    fitted, fair, trial = decided(rows, whole, late)
    ids, tests, plain = _test(heads, beside, fitted, groups)
    mix = find_mix(
        heads, fair, tests, trained, rows.persons, prior=choices.prior, over=choices.prior_over, given=choices.given
    )
    seen = rows.table([vote.fitted for vote in heads], None if beside is None else beside.fitted)
    end = ends(fair, fitted(seen), tests, trained, mix, choices.decoder)
    alone = replace(late, joint="product")  # of heads alone, whatever the joint rule adds to them
    called = partial(_called, mix=mix, strength=end.strength)
    probs = [(step, _product(rows, [vote.steps[step] for vote in heads])) for step in STEPS]
    probs += [(step, cross_fitted(whole, refined, folds)[1]) for step, refined in progressive(late).items()]
    probs += [(JOINT_STEP, fair)] if late.joint != "product" else []
    return Outcome(
        votes=heads,
        direct=beside,
        oof=Predictions(rows.joint.ids, classes, fair, folds, rows.joint.targets),
        late=fitted,
        late_trial=trial,
        steps=_steps(probs, mix, end),
        mix=mix,
        ends=end,
        test_ids=ids,
        plain=plain,
        left_out=dict(_left_out(heads, rows, alone, called)),
        all_in=called(fair if alone == late else cross_fitted(whole, alone, folds)[1]),
    )


def _late_choices(choices: Choices, members: Sequence[HeadMembers]) -> LateChoices:
    """The choices, heads by number.

    Raises:
        EnsembleError: A head is named that does not exist.
    """
    names = [head.name for head in members]
    for name in (*choices.consistent, *filter(None, [choices.by_state])):
        if name not in names:
            raise EnsembleError(f"there is no head {name!r}; heads are: {', '.join(names)}")
    state = names.index(choices.by_state) if choices.by_state else None
    return LateChoices(choices.joint, state, tuple(names.index(name) for name in choices.consistent))


def _direct(direct: HeadMembers | None, late: LateChoices) -> HeadMembers | None:
    if late.joint != DIRECT:
        return None
    if direct is None:
        raise EnsembleError("the joint rule 'direct' needs a run over the joint classes; run `pipe train-head joint`")
    return direct


def _votes(
    members: Sequence[HeadMembers], direct: HeadMembers | None, choices: HeadChoices
) -> tuple[tuple[HeadVote, ...], HeadVote | None]:
    asked = [*members, *([] if direct is None else [direct])]
    with ThreadPoolExecutor(2) as pool:  # NumPy computes without Python's lock
        votes = tuple(pool.map(partial(vote_on_head, choices=choices), asked))
    return votes[: len(members)], None if direct is None else votes[-1]


def _test(
    heads: Sequence[HeadVote], direct: HeadVote | None, late: Late, groups: Mapping[str, str] | None
) -> tuple[Names, Array, Indices]:
    """The ids to predict, their (E, J) probabilities, and their labels by the plain vote; empty when there are none."""
    found = test_table(heads, direct, plain=False, groups=groups)
    before = test_table(heads, None, plain=True, groups=None)
    if found is None or before is None:
        return np.empty(0, dtype=np.str_), np.empty((0, 0)), np.empty(0, dtype=np.int64)
    return found[0], late(found[1]), Product()(before[1].heads).argmax(axis=1)


def _product(rows: Rows, heads: Sequence[Predictions]) -> Array:
    return Product()(rows.table(heads, None).heads)


def _called(probs: Array, mix: Mix, strength: float) -> Indices:
    """(N,) most probable classes in the eval set's mix."""
    labels: Indices = at(probs, mix, strength).argmax(axis=1)
    return labels


def _steps(probs: Sequence[tuple[str, Array]], mix: Mix, end: Ends) -> tuple[Step, ...]:
    steps = [Step(name, p.argmax(axis=1), p.argmax(axis=1)) for name, p in probs]
    if mix.moved:
        steps.append(Step("prior", None, end.moved))
    return (*steps, Step("decoder", end.as_trained.labels, end.labels))


def _left_out(
    heads: Sequence[HeadVote], rows: Rows, late: LateChoices, called: Callable[[Array], Indices]
) -> Iterator[tuple[tuple[str, str], Indices]]:
    """For each member that can be left out: the labels without it."""
    for number, vote in enumerate(heads):
        for member, without in vote.left_out.items():
            others = [without if h == number else other.fair for h, other in enumerate(heads)]
            _, fair = cross_fitted(rows.table(others, None), late, rows.joint.folds)
            yield (vote.members.name, vote.members.runs[member]), called(fair)
