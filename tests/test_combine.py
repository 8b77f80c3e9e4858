"""Members are matched by id, and heads compose and come apart.

Legend: N samples, C classes, M members.
"""

import dataclasses
import re
import subprocess
import sys
from collections.abc import Sequence
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.combine import average_views, compose, marginal
from ensemble.members import Members
from ensemble.predictions import Array, EnsembleError, MisalignedPredictions, Predictions

NAMES = ("sharp", "blunt", "third")
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None)  # a seed is all there is to vary


def member_of(truth: Predictions, seed: int) -> Predictions:
    """A member with other probabilities and another order of rows."""
    rng = np.random.default_rng([seed, 1])
    probs = rng.dirichlet(np.ones(len(truth.classes)), size=len(truth.ids))
    return dataclasses.replace(truth, probs=probs).take(rng.permutation(len(truth.ids)))


def members(seed: int = 0, n: int = 30, n_classes: int = 3) -> list[Predictions]:
    """Three members of three folds; a tenth of the targets is unknown."""
    rng = np.random.default_rng(seed)
    first = Predictions(
        ids=np.array([f"s{i:03d}" for i in range(n)], dtype=np.str_),
        classes=tuple(f"c{i}" for i in range(n_classes)),
        probs=rng.dirichlet(np.ones(n_classes), size=n),
        folds=np.arange(n) % 3,
        targets=np.where(rng.random(n) < 0.1, -1, rng.integers(n_classes, size=n)),
    )
    return [first, member_of(first, seed + 1), member_of(first, seed + 2)]


def alter(made: Predictions, field: str, row: int, value: object) -> Predictions:
    """A copy with one value of one array replaced."""
    array = getattr(made, field).copy()
    array[row] = value
    return dataclasses.replace(made, **{field: array})


def align(run: list[Predictions], names: Sequence[str]) -> tuple[Members, Array]:
    """The members aligned, and the (M, N, C) probabilities in the first one's order."""
    aligned = Members.of(run, names)
    return aligned, np.stack([read(slice(0, len(aligned.ids))) for read in aligned.readers])


def refuse(second: Predictions, message: str) -> None:
    """Check that members with this second one are refused, by both names."""
    first, _, third = members()
    with pytest.raises(MisalignedPredictions, match=rf"'sharp'.*'blunt'.*{message}"):
        align([first, second, third], NAMES)


def test_members_are_matched_by_id() -> None:
    run = members()
    reference, probs = align(run, NAMES)
    assert reference.ids is run[0].ids
    for member, aligned in zip(run, probs, strict=True):
        rows = dict(zip(member.ids, member.probs, strict=True))
        assert np.array_equal(aligned, [rows[name] for name in reference.ids])


def test_members_with_other_ids_are_refused() -> None:
    second = members()[1]
    refuse(second.take(np.arange(28)), r"predict other samples: asked for 30 ids of 28 predictions: 2 missing here")
    refuse(alter(second, "ids", 0, "zzz"), r"1 missing here.*1 here but not asked for, e\.g\. 'zzz'")


def test_members_with_other_classes_are_refused() -> None:
    refuse(dataclasses.replace(members()[1], classes=("c1", "c0", "c2")), r"has \('c1', 'c0', 'c2'\); combine members")


def test_members_with_other_folds_or_targets_are_refused() -> None:
    second = members()[1]
    name = re.escape(repr(str(second.ids[4])))
    refuse(alter(second, "folds", 4, 9), rf"other folds for 1 of 30 samples, e\.g\. {name}: \d and 9; combine")
    other = (second.targets[4] + 1) % 3
    refuse(alter(second, "targets", 4, other), rf"other targets for 1 of 30 samples, e\.g\. {name}: -?\d and {other}")


def test_every_member_has_a_name() -> None:
    with pytest.raises(EnsembleError, match="got 3 members and 2 names"):
        align(members(), NAMES[:2])
    with pytest.raises(EnsembleError, match="got 0 members and 0 names"):
        average_views([])


def test_views_are_averaged_with_equal_weights() -> None:
    run = members()
    mean = average_views(run)
    ordered = [member.ordered_as(mean.ids).probs for member in run]
    np.testing.assert_allclose(mean.probs, np.mean(ordered, axis=0))
    np.testing.assert_allclose(average_views(run[:1]).probs, run[0].probs)


def heads_of(sizes: tuple[int, ...], seed: int) -> list[Predictions]:
    """One prediction a head, of the same samples and folds, each in its own order of rows."""
    rng = np.random.default_rng(seed)
    ids, folds = np.array([f"s{i}" for i in range(8)], dtype=np.str_), rng.integers(3, size=8)
    heads = []
    for number, size in enumerate(sizes):
        classes = tuple(f"{number}.{i}" for i in range(size))
        probs, targets = rng.dirichlet(np.ones(size), size=8), rng.integers(-1, size, size=8)
        heads.append(Predictions(ids, classes, probs, folds, targets).take(rng.permutation(8)))
    return heads


def joint_names(n: int) -> tuple[str, ...]:
    """Names of joint classes."""
    return tuple(f"joint{i}" for i in range(n))


some_sizes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@few
@given(sizes=some_sizes, seed=seeds)
def test_heads_compose_and_come_apart(sizes: tuple[int, ...], seed: int) -> None:
    heads = heads_of(sizes, seed)
    joint = compose(heads, classes=joint_names(prod(sizes)))
    for axis, head in enumerate(heads):
        back, there = marginal(joint, sizes, axis, head.classes), head.ordered_as(heads[0].ids)
        np.testing.assert_allclose(back.probs, there.probs, atol=1e-12)
        assert np.array_equal(back.ids, there.ids)
        assert np.array_equal(back.folds, there.folds)
        assert np.array_equal(back.targets, np.where(joint.targets < 0, -1, there.targets))


@few
@given(seed=seeds)
def test_eighteen_classes_are_mask_times_six_plus_gender_times_three_plus_age(seed: int) -> None:
    heads = heads_of((3, 2, 3), seed)
    joint = compose(heads, classes=joint_names(18))
    mask, gender, age = (head.ordered_as(joint.ids) for head in heads)
    for row in range(8):
        m, g, a = mask.targets[row], gender.targets[row], age.targets[row]
        assert joint.targets[row] == (-1 if min(m, g, a) < 0 else m * 6 + g * 3 + a)
    product = mask.probs[:, 2] * gender.probs[:, 1] * age.probs[:, 0]
    np.testing.assert_allclose(joint.probs[:, 2 * 6 + 1 * 3 + 0], product)


def test_only_samples_that_have_every_head_are_composed() -> None:
    first, second = heads_of((3, 2), 0)
    joint = compose([first, second.take(np.arange(5))], classes=joint_names(6))
    assert joint.ids.tolist() == [name for name in first.ids if name in second.ids[:5]]


def test_rounding_of_many_heads_is_allowed_for() -> None:
    heads = [dataclasses.replace(head, probs=head.probs * (1 + 9e-5)) for head in heads_of((2, 2, 2), 0)]
    np.testing.assert_allclose(compose(heads, classes=joint_names(8)).probs.sum(axis=1), 1)


def test_heads_that_do_not_fit_are_refused() -> None:
    first, second = heads_of((3, 2), 0)
    with pytest.raises(EnsembleError, match=r"got 5 joint classes for 2 heads of \(3, 2\) classes; give.* 6 joint"):
        compose([first, second], classes=joint_names(5))
    with pytest.raises(EnsembleError, match="0 heads"):
        compose([], classes=("one",))
    with pytest.raises(MisalignedPredictions, match="'head 0' and 'head 1' have other folds for 1 of 8 samples"):
        compose([first, alter(second, "folds", 2, 7)], classes=joint_names(6))
    stranger = dataclasses.replace(second, ids=np.array([f"t{i}" for i in range(8)]))
    with pytest.raises(MisalignedPredictions, match=r"no sample has every head.*\[8, 8\] samples and share none"):
        compose([first, stranger], classes=joint_names(6))


def test_a_marginal_that_does_not_fit_is_refused() -> None:
    joint = heads_of((6,), 0)[0]
    with pytest.raises(EnsembleError, match=r"sizes \(3, 3\) make 9 joint classes, but there are 6"):
        marginal(joint, (3, 3), 0, ("a", "b", "c"))
    with pytest.raises(EnsembleError, match=r"head 1 of sizes \(3, 2\) does not have the 3 classes"):
        marginal(joint, (3, 2), 1, ("a", "b", "c"))
    with pytest.raises(EnsembleError, match=r"head 2 of sizes \(3, 2\)"):
        marginal(joint, (3, 2), 2, ("a", "b"))


def test_combining_loads_numpy_alone() -> None:
    code = (
        "import sys, ensemble.combine, ensemble.metrics\n"
        "print({name.split('.')[0] for name in sys.modules} & {'torch', 'sklearn', 'scipy', 'pandas'})"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
