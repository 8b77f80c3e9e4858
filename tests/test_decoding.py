"""Every decoder obeys the same laws; each finds what a search through all possibilities finds, or falls short as told.

Legend: N samples, J classes, H heads.
"""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from ensemble.biases import LIMIT, Labelled, best_shift
from ensemble.decoding import DECODERS, LOOKS_AT_TARGETS, TAUS, Fit, LogitAdjust, groups
from ensemble.metrics import macro_f1
from ensemble.plug_in import expected, plug_in
from ensemble.predictions import Array, EnsembleError, Indices

SIZES = (3, 2, 3)
every_decoder = pytest.mark.parametrize("fit", DECODERS.values(), ids=DECODERS.keys())
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=12, deadline=None)  # a seed is all there is to vary


def known(seed: int, n: int = 200, sizes: tuple[int, ...] = SIZES) -> tuple[Array, Indices, Array]:
    """(N, J) probabilities that are calibrated, the targets they speak of, and weights; some classes are rare."""
    rng = np.random.default_rng(seed)
    n_classes = int(np.prod(sizes))
    prior = rng.dirichlet(np.ones(n_classes))
    probs = rng.dirichlet(prior * n_classes * 0.5, size=n)
    targets = (probs.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=n_classes - 1)
    return probs, targets, rng.exponential(size=n)


def small(seed: int) -> tuple[Array, Array]:
    """At most 7 rows of at most 3 classes, and weights."""
    rng = np.random.default_rng(seed)
    n, n_classes = int(rng.integers(1, 8)), int(rng.integers(2, 4))
    return rng.dirichlet(np.full(n_classes, rng.choice([0.3, 1, 3])), size=n), rng.integers(1, 4, size=n) / 1.0


def expected_macro_f1(probs: Array, labels: Indices, weights: Array) -> float:
    """Mean over classes of expected hits over expected size, in plain loops."""
    total = 0.0
    for k in range(probs.shape[1]):
        hits = sum(float(w * p[k]) for p, label, w in zip(probs, labels, weights, strict=True) if label == k)
        called = sum(float(w) for label, w in zip(labels, weights, strict=True) if label == k)
        size = called + sum(float(w * p[k]) for p, w in zip(probs, weights, strict=True))
        total += 2 * hits / size if size > 0 else 0.0
    return float(total / probs.shape[1])


def most_expected(probs: Array, weights: Array) -> float:
    """The highest expected macro F1 of all labellings."""
    n, n_classes = probs.shape
    every = itertools.product(range(n_classes), repeat=n)
    shares = weights / weights.sum()
    return max(float(expected(probs, np.array(labels), shares).f1.mean()) for labels in every)


@every_decoder
@few
@given(seed=seeds, n=st.integers(1, 30))
def test_labels_are_classes_and_what_was_fitted_is_json(fit: Fit, seed: int, n: int) -> None:
    probs, targets, weights = known(seed, n)
    decoder = fit(probs, targets, weights, SIZES)
    labels = decoder(probs, weights)
    assert labels.shape == (n,)
    assert labels.dtype == np.int64
    assert ((labels >= 0) & (labels < 18)).all()
    assert DECODERS[decoder.as_dict()["kind"]] is fit
    assert json.loads(json.dumps(decoder.as_dict())) == decoder.as_dict()
    assert fit(probs, targets, weights, SIZES) == decoder


@pytest.mark.parametrize("name", sorted(LOOKS_AT_TARGETS))
@few
@given(seed=seeds)
def test_what_is_fitted_on_targets_is_never_worse_there_than_argmax(name: str, seed: int) -> None:
    probs, targets, weights = known(seed)
    labels = DECODERS[name](probs, targets, weights, SIZES)(probs, weights)
    plain = macro_f1(targets, probs.argmax(axis=1), 18, weights)
    assert macro_f1(targets, labels, 18, weights) >= plain - 1e-12


@pytest.mark.parametrize("name", sorted(DECODERS.keys() - LOOKS_AT_TARGETS))
def test_the_others_do_not_look_at_targets(name: str) -> None:
    probs, targets, weights = known(0)
    assert DECODERS[name](probs, np.full_like(targets, -1), weights, SIZES) == DECODERS[name](
        probs, targets, weights, SIZES
    )


@every_decoder
@few
@given(seed=seeds)
def test_a_row_of_weight_n_is_n_rows(fit: Fit, seed: int) -> None:
    probs, targets, _ = known(seed, 80)
    each = np.random.default_rng(seed).integers(1, 4, size=80)
    weighted = fit(probs, targets, each / 1.0, SIZES)(probs, each / 1.0)
    copies, ones = np.repeat(probs, each, axis=0), np.ones(each.sum())
    decoder = fit(copies, np.repeat(targets, each), ones, SIZES)
    assert np.array_equal(decoder(copies, ones), np.repeat(weighted, each))


@every_decoder
@few
@given(seed=seeds)
def test_the_scale_of_weights_and_the_order_of_rows_do_not_matter(fit: Fit, seed: int) -> None:
    probs, targets, weights = known(seed)
    labels = fit(probs, targets, weights, SIZES)(probs, weights)
    assert np.array_equal(fit(probs, targets, 1e3 * weights, SIZES)(probs, 1e-3 * weights), labels)
    order = np.random.default_rng(seed).permutation(len(probs))
    shuffled = fit(probs[order], targets[order], weights[order], SIZES)
    assert np.array_equal(shuffled(probs[order], weights[order]), labels[order])


@pytest.mark.parametrize("name", ["argmax", "plug-in", "logit-adjust"])  # an ascent takes one class after the other
@few
@given(seed=seeds)
def test_labels_follow_their_classes(name: str, seed: int) -> None:
    probs, targets, weights = known(seed)
    order = np.random.default_rng(seed).permutation(18)  # new class j is old class order[j]
    labels = DECODERS[name](probs, targets, weights, SIZES)(probs, weights)
    moved = DECODERS[name](probs[:, order], np.argsort(order)[targets], weights, SIZES)
    assert np.array_equal(order[moved(probs[:, order], weights)], labels)


@every_decoder
@pytest.mark.parametrize("sharp", [1.0, 0.5])
def test_zeros_and_ties_break_nothing(fit: Fit, sharp: float) -> None:
    targets = np.arange(40) % 5  # of 18 classes, 13 have no probability anywhere
    probs = sharp * np.eye(18)[targets] + (1 - sharp) * np.eye(18)[(targets + 1) % 5]
    decoder = fit(probs, targets, np.ones(40), SIZES)
    assert set(decoder(probs, np.ones(40))) <= set(range(5))
    equal = np.full((3, 18), 1 / 18)
    assert (DECODERS["argmax"](equal, targets[:3], np.ones(3), SIZES)(equal, np.ones(3)) == 0).all()


@pytest.mark.parametrize("tau", TAUS[::10])
def test_a_class_that_nothing_speaks_for_is_never_called(tau: float) -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(4), size=50) @ np.eye(4, 6)
    labels = LogitAdjust(tau, (0.4, 0.3, 0.2, 0.1, 0.0, 0.0))(probs, np.ones(50))
    assert set(labels) <= set(range(4))


@every_decoder
def test_one_class_and_one_row_will_do(fit: Fit) -> None:
    decoder = fit(np.ones((1, 1)), np.zeros(1, dtype=np.int64), np.ones(1), (1,))
    assert decoder(np.ones((2, 1)), np.ones(2)).tolist() == [0, 0]


@few
@given(seed=seeds)
def test_expected_macro_f1_is_that_of_plain_loops(seed: int) -> None:
    probs, weights = small(seed)
    labels = np.random.default_rng(seed).integers(probs.shape[1], size=len(probs))
    assert expected(probs, labels, weights).f1.mean() == pytest.approx(expected_macro_f1(probs, labels, weights))


def test_the_plug_in_rule_is_mostly_the_best_of_all_labellings_and_never_below_argmax() -> None:
    gaps, plain_gaps = [], []
    for seed in range(150):
        probs, weights = small(seed)
        best = most_expected(probs, weights)
        reached = expected_macro_f1(probs, plug_in(probs, weights), weights)
        plain = expected_macro_f1(probs, probs.argmax(axis=1), weights)
        assert plain - 1e-12 <= reached <= best + 1e-12
        gaps.append(best - reached)
        plain_gaps.append(best - plain)
    assert np.mean(np.array(gaps) < 1e-9) >= 0.8  # argmax: six in ten; no ascent is sure of the best
    assert np.mean(gaps) < np.mean(plain_gaps) / 4
    assert max(gaps) < 0.2


@pytest.mark.parametrize("seed", range(20))
def test_with_many_rows_the_plug_in_rule_is_a_fixed_point(seed: int) -> None:
    probs, _, weights = known(seed, 3000, (4,))
    labels = plug_in(probs, weights)
    f1, total = expected(probs, labels, weights)
    asked = ((2 * probs - f1) / total).argmax(axis=1)
    assert np.mean(asked != labels) < 0.005  # but for the rows on the border, which move it


@pytest.mark.parametrize("seed", range(5))
def test_the_plug_in_rule_pays_on_the_truth_that_the_probabilities_speak_of(seed: int) -> None:
    probs, targets, _ = known(seed, 20_000)
    ones = np.ones(len(probs))
    assert macro_f1(targets, plug_in(probs, ones), 18) > macro_f1(targets, probs.argmax(axis=1), 18)
    promised = expected(probs, plug_in(probs, ones), ones).f1.mean()
    assert promised == pytest.approx(macro_f1(targets, plug_in(probs, ones), 18), abs=0.03)


@few
@given(seed=seeds)
def test_tau_is_that_of_a_search_through_the_grid(seed: int) -> None:
    probs, targets, weights = known(seed)
    prior = np.average(probs, axis=0, weights=weights)
    scores = []
    for tau in TAUS:
        labels = (probs / np.maximum(prior, 1e-300) ** tau).argmax(axis=1)
        every = {"labels": range(18), "average": "macro", "zero_division": 0}
        scores.append(f1_score(targets, labels, sample_weight=weights, **every))
    found = DECODERS["logit-adjust"](probs, targets, weights, SIZES).as_dict()
    assert scores[int(np.flatnonzero(np.isclose(TAUS, found["tau"]))[0])] == pytest.approx(max(scores))
    np.testing.assert_allclose(found["prior"], prior)


@few
@given(seed=seeds, group=st.integers(1, 2**6 - 2))
def test_no_point_of_a_fine_grid_beats_the_best_shift(seed: int, group: int) -> None:
    probs, targets, weights = known(seed, 40, (6,))
    rows = Labelled(np.log(np.maximum(probs, 1e-9)), targets, weights / weights.sum())
    lifted = np.array([group >> k & 1 for k in range(6)], dtype=bool)
    shift = best_shift(rows, lifted, -LIMIT, LIMIT)
    assert -LIMIT <= shift <= LIMIT
    reached = rows._replace(scores=rows.scores + shift * lifted).macro_f1()
    grid = np.linspace(-LIMIT, LIMIT, 801)
    assert reached >= max(rows._replace(scores=rows.scores + at * lifted).macro_f1() for at in grid) - 1e-12


@pytest.mark.slow
def test_head_biases_gain_most_of_what_a_grid_over_all_of_them_gains() -> None:
    grid = np.linspace(-2, 2, 17)
    every = np.array(list(itertools.product([0.0], grid, [0.0], grid, grid))) @ groups((2, 3))
    gained, possible = [], []
    for seed in range(8):
        probs, targets, weights = known(seed, 60, (2, 3))
        plain = macro_f1(targets, probs.argmax(axis=1), 6, weights)
        labels = DECODERS["head-bias"](probs, targets, weights, (2, 3))(probs, weights)
        gained.append(macro_f1(targets, labels, 6, weights) - plain)
        lifted = [(np.log(probs + 1e-16) + bias).argmax(axis=1) for bias in every]
        possible.append(max(macro_f1(targets, labels, 6, weights) for labels in lifted) - plain)
    assert sum(gained) >= 0.8 * sum(possible)  # one bias after the other may end in a local optimum


@pytest.mark.parametrize("name", ["head-bias", "class-bias"])
def test_biases_are_counted_from_the_first_class_of_each_head(name: str) -> None:
    biases = DECODERS[name](*known(0), SIZES).as_dict()["biases"]
    assert tuple(map(len, biases)) == (SIZES if name == "head-bias" else (18,))
    assert all(row[0] == 0 and max(map(abs, row)) <= LIMIT for row in biases)


def test_groups_are_the_classes_of_the_heads() -> None:
    joint = np.arange(18)
    heads = np.unravel_index(joint, SIZES)
    expected_rows = [head == k for head, size in zip(heads, SIZES, strict=True) for k in range(size)]
    assert np.array_equal(groups(SIZES), expected_rows)


@pytest.mark.parametrize("name", sorted(LOOKS_AT_TARGETS))
def test_what_cannot_be_fitted_is_refused(name: str) -> None:
    fit, (probs, targets, weights) = DECODERS[name], known(0)
    with pytest.raises(EnsembleError, match=r"targets run from -1 to \d+, outside 0 to 17"):
        fit(probs, np.where(np.arange(200) == 3, -1, targets), weights, SIZES)
    with pytest.raises(EnsembleError, match="got 199 targets for 200 rows of probs; give one target a row"):
        fit(probs, targets[1:], weights, SIZES)
    with pytest.raises(EnsembleError, match=r"weights have shape \(199,\) for 200 samples"):
        fit(probs, targets, weights[1:], SIZES)
    decoder = fit(probs, targets, weights, SIZES)
    with pytest.raises(EnsembleError, match="probs have 17 classes, but the decoder was fitted on 18; fit anew"):
        decoder(probs[:, 1:], weights)


def test_sizes_that_do_not_make_the_classes_are_refused() -> None:
    with pytest.raises(EnsembleError, match=r"sizes \(3, 2\) make 6 joint classes, but probs have 18"):
        DECODERS["head-bias"](*known(0), (3, 2))


@every_decoder
def test_weights_that_count_nothing_are_refused(fit: Fit) -> None:
    probs, targets, weights = known(0)
    with pytest.raises(EnsembleError, match="weights run from 0 to 0; give finite, non-negative weights"):
        fit(probs, targets, weights, SIZES)(probs, np.zeros(200))
