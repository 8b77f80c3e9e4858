"""Class mixes: what exact re-weighting, likelihoods on a grid and known models say, the estimators say too."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.predictions import Array, EnsembleError, Indices
from ensemble.priors import (
    ESTIMATORS,
    bbse_soft,
    class_means,
    corrected,
    em,
    likelihoods,
    mix_of,
    most_likely,
    require_mix,
    right_in_the_large,
)

SEEDS = st.integers(0, 10_000)
CLASSES = st.integers(2, 6)
PLACES = np.array([-1.0, 0.5, 2.5])
TRAINED = np.array([0.5, 0.4, 0.1])


def drawn_rows(seed: int, n_classes: int, n: int = 400) -> tuple[Array, Indices]:
    """Probabilities that know something of the truth, and the truth; every class is there."""
    rng = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=n - n_classes)])
    odds = np.exp(rng.normal(size=(n, n_classes)) + 2 * np.eye(n_classes)[targets])
    return odds / odds.sum(axis=1, keepdims=True), targets


def model(seed: int, mix: Array, n: int) -> tuple[Array, Indices]:
    """Numbers that lie normally about the place of their class, and the classes."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(len(mix), size=n, p=mix)
    return PLACES[targets] + rng.normal(size=n), targets


def posterior(seen: Array, mix: Array) -> Array:
    """The exact probabilities of the model: Bayes' theorem."""
    likelihood = np.exp(-0.5 * (seen[:, None] - PLACES) ** 2)
    probs: Array = likelihood * mix / (likelihood @ mix)[:, None]
    return probs


@given(seed=SEEDS, n_classes=CLASSES)
def test_a_ratio_of_ones_changes_nothing(seed: int, n_classes: int) -> None:
    probs, _ = drawn_rows(seed, n_classes, 50)
    np.testing.assert_allclose(corrected(probs, np.ones(n_classes)), probs, atol=1e-14)


@given(seed=SEEDS, n_classes=CLASSES, scale=st.floats(0.01, 100))
def test_there_and_back_changes_nothing_and_the_scale_of_a_ratio_does_not_matter(
    seed: int, n_classes: int, scale: float
) -> None:
    probs, _ = drawn_rows(seed, n_classes, 50)
    ratio = np.random.default_rng(seed).uniform(0.1, 10, size=n_classes)
    np.testing.assert_allclose(corrected(corrected(probs, ratio), 1 / ratio), probs, atol=1e-12)
    np.testing.assert_allclose(corrected(probs, ratio), corrected(probs, scale * ratio), atol=1e-12)


@given(seed=SEEDS)
def test_the_corrected_posterior_is_the_posterior_under_the_new_mix(seed: int) -> None:
    new = np.random.default_rng(seed).dirichlet(np.ones(3))
    seen, _ = model(seed, TRAINED, 100)
    np.testing.assert_allclose(corrected(posterior(seen, TRAINED), new / TRAINED), posterior(seen, new), atol=1e-9)


def test_what_was_ruled_out_stays_finite() -> None:
    assert np.isfinite(corrected(np.array([[1.0, 0.0]]), np.array([0.0, 1.0]))).all()


@given(seed=SEEDS, n_classes=CLASSES)
@pytest.mark.parametrize("name", ["bbse-soft", "bbse-hard"])
def test_bbse_recovers_the_mix_of_an_exact_re_weighting(name: str, seed: int, n_classes: int) -> None:
    probs, targets = drawn_rows(seed, n_classes)
    rng = np.random.default_rng(seed)
    copies = rng.integers(1, 6, size=n_classes)[targets]  # all rows of a class come equally often
    copied = np.repeat(np.arange(len(targets)), copies)
    found = ESTIMATORS[name](probs, targets, probs[copied])
    np.testing.assert_allclose(found, mix_of(targets[copied], n_classes), atol=1e-6)


@given(seed=SEEDS, n_classes=CLASSES)
def test_soft_bbse_solves_the_linear_equations_where_their_solution_is_a_mix(seed: int, n_classes: int) -> None:
    probs, targets = drawn_rows(seed, n_classes)
    shown, _ = drawn_rows(seed + 1, n_classes)
    solution = np.linalg.solve(class_means(probs, targets).T, shown.mean(axis=0))
    found = bbse_soft(probs, targets, shown)
    if (solution >= 0).all():
        np.testing.assert_allclose(found, solution, atol=1e-5)
    assert found.min() >= 0


@given(seed=SEEDS)
def test_soft_bbse_is_the_best_mix_of_a_grid_where_the_equations_lead_out_of_the_simplex(seed: int) -> None:
    probs, targets = drawn_rows(seed, 3)
    shown = np.random.default_rng(seed).dirichlet([0.1, 0.1, 3], size=200)

    def miss(mix: Array) -> float:
        return float(((class_means(probs, targets).T @ mix - shown.mean(axis=0)) ** 2).sum())

    assert miss(bbse_soft(probs, targets, shown)) <= min(miss(mix) for mix in simplex(3, 20)) + 1e-9


@given(seed=SEEDS)
def test_soft_bbse_does_not_mind_that_networks_are_averaged(seed: int) -> None:
    """Averages are linear: the mean of averaged probabilities is the average of the means."""
    probs, targets = drawn_rows(seed, 3)
    others = np.stack([drawn_rows(seed, 3)[0], drawn_rows(seed + 1, 3)[0]])
    apart = np.mean([other.mean(axis=0) for other in others], axis=0, keepdims=True)
    averaged = bbse_soft(probs, targets, others.mean(axis=0))
    np.testing.assert_allclose(averaged, bbse_soft(probs, targets, apart), atol=1e-9)


@given(seed=SEEDS, n_classes=CLASSES)
def test_em_ends_at_a_fixed_point_of_expectation_maximisation(seed: int, n_classes: int) -> None:
    probs, targets = drawn_rows(seed, n_classes)
    shown, _ = drawn_rows(seed + 1, n_classes, 200)
    likelihood, mix = likelihoods(probs, targets, shown), most_likely(probs, targets, shown)
    joint = likelihood * mix
    again = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)  # equation 2.9
    np.testing.assert_allclose(again, mix, atol=1e-4)


@given(seed=SEEDS, n_classes=st.integers(2, 3))
def test_em_is_the_maximum_of_the_likelihood(seed: int, n_classes: int) -> None:
    probs, targets = drawn_rows(seed, n_classes)
    shown, _ = drawn_rows(seed + 1, n_classes, 200)
    likelihood, mix = likelihoods(probs, targets, shown), most_likely(probs, targets, shown)
    best = max(float(np.log(likelihood @ tried).mean()) for tried in simplex(n_classes, 40))
    assert float(np.log(likelihood @ mix).mean()) >= best - 1e-7


@given(seed=SEEDS, n_classes=CLASSES)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_photos_like_those_out_of_fold_have_their_mix(name: str, seed: int, n_classes: int) -> None:
    probs, targets = drawn_rows(seed, n_classes)
    found = ESTIMATORS[name](probs, targets, probs)
    np.testing.assert_allclose(found, mix_of(targets, n_classes), atol=1e-3 if name == "em" else 1e-6)


@given(seed=SEEDS, n_classes=CLASSES)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimates_are_mixes_permute_with_the_classes_and_forget_the_order_of_rows(
    name: str, seed: int, n_classes: int
) -> None:
    probs, targets = drawn_rows(seed, n_classes)
    shown, _ = drawn_rows(seed + 1, n_classes, 200)
    rng = np.random.default_rng(seed)
    order, rows = rng.permutation(n_classes), rng.permutation(len(targets))
    found = ESTIMATORS[name](probs, targets, shown)
    permuted = ESTIMATORS[name](probs[:, order], np.argsort(order)[targets], shown[:, order])
    shuffled = ESTIMATORS[name](probs[rows], targets[rows], shown[::-1])
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(), 1)
    np.testing.assert_allclose(permuted, found[order], atol=1e-3 if name == "em" else 1e-6)
    np.testing.assert_allclose(shuffled, found, atol=1e-3 if name == "em" else 1e-9)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimates_come_near_the_truth_of_a_known_model_under_a_strong_shift(name: str) -> None:
    new = np.array([0.2, 0.2, 0.6])
    seen, targets = model(0, TRAINED, 20_000)
    shown, _ = model(1, new, 20_000)
    found = ESTIMATORS[name](posterior(seen, TRAINED), targets, posterior(shown, TRAINED))
    assert np.abs(found - new).max() < 0.03  # some three standard errors


def test_em_bears_probabilities_that_are_too_sure_and_biased() -> None:
    new = np.array([0.2, 0.2, 0.6])
    seen, targets = model(0, TRAINED, 20_000)
    shown, _ = model(1, new, 20_000)

    def told(at: Array) -> Array:
        return corrected(posterior(at, TRAINED) ** 1.8, np.array([2.0, 1.0, 0.4]))

    assert np.abs(em(told(seen), targets, told(shown)) - new).max() < 0.03


@given(seed=SEEDS, n_classes=CLASSES)
def test_right_in_the_large_is_right_in_the_large(seed: int, n_classes: int) -> None:
    probs, _ = drawn_rows(seed, n_classes)
    mix = np.random.default_rng(seed).dirichlet(np.full(n_classes, 3.0))
    factors = right_in_the_large(probs, mix)
    np.testing.assert_allclose(corrected(probs, factors).mean(axis=0), mix, atol=1e-7)
    assert factors.max() == 1


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_class_nobody_has_seen_gets_no_share(name: str) -> None:
    probs, targets = drawn_rows(0, 3)
    known = targets < 2
    found = ESTIMATORS[name](probs[known], targets[known], probs)
    assert found[2] == 0
    np.testing.assert_allclose(found.sum(), 1)


@pytest.mark.parametrize("name", ["bbse-soft", "bbse-hard"])  # to EM every mix is then as likely
def test_a_head_that_knows_nothing_leaves_the_mix_of_training(name: str) -> None:
    targets = np.repeat(np.arange(3), [50, 30, 20])
    flat = np.tile([0.5, 0.3, 0.2], (100, 1))
    np.testing.assert_allclose(ESTIMATORS[name](flat, targets, flat[:40]), [0.5, 0.3, 0.2], atol=1e-3)


@pytest.mark.parametrize("given_mix", [[0.5, 0.5], [0.5, 0.6, -0.1], [0.5, 0.5, 0.5], [1.0, 0.0, 0.0]])
def test_what_is_no_mix_is_refused(given_mix: list[float]) -> None:
    with pytest.raises(EnsembleError, match=r"class mix given for 'age' .* give 3 positive shares that sum to 1"):
        require_mix("age", np.array(given_mix), 3)


def simplex(n_classes: int, steps: int) -> list[Array]:
    """All mixes whose shares are multiples of 1 / steps."""
    counts = product(range(steps + 1), repeat=n_classes - 1)
    return [np.array([*c, steps - sum(c)]) / steps for c in counts if sum(c) <= steps]
