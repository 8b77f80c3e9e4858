"""Joint rules give probabilities of all combinations, correct what is dependent, and leave the rest alone.

Legend: N samples, H heads, J joint classes.
"""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from ensemble.combine import compose
from ensemble.joint import JOINT_RULES, JointFit, Product, stacker, train_joint
from ensemble.metrics import log_loss
from ensemble.predictions import Array, EnsembleError, Indices, Predictions

SIZES = (3, 2, 3)
every_rule = pytest.mark.parametrize("fit", JOINT_RULES.values(), ids=JOINT_RULES.keys())
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None)  # a seed is all there is to vary


def seen(joint: Array, n: int, seed: int) -> tuple[list[Array], Indices]:
    """Calibrated probabilities of H heads, each of which sees its own class in noise, and (N,) joint targets.

    Args:
        joint: The frequencies of the classes, one axis a head.
        n: N.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    targets = rng.choice(joint.size, size=n, p=joint.ravel())
    heads = []
    for axis, own in enumerate(np.unravel_index(targets, joint.shape)):
        prior = joint.sum(axis=tuple(other for other in range(joint.ndim) if other != axis))
        noise = rng.normal(size=(n, len(prior)))
        odds = prior * np.exp(1.5 * (noise + 1.5 * np.eye(len(prior))[own]))  # of normals 1.5 apart, Bayes' rule
        heads.append(odds / odds.sum(axis=1, keepdims=True))
    return heads, targets


def frequencies(seed: int, dependent: float = 5.0) -> Array:
    """(3, 2, 3) frequencies; the larger the number, the nearer to those of independent classes."""
    rng = np.random.default_rng(seed)
    independent = np.ones(())
    for size in SIZES:
        independent = np.multiply.outer(independent, rng.dirichlet(np.full(size, 5.0)))
    drawn: Array = rng.dirichlet(dependent * 18 * independent.ravel()).reshape(SIZES)
    return drawn


def independent_of(joint: Array) -> Array:
    """The product of the marginals."""
    marginals = (joint.sum(axis=(1, 2)), joint.sum(axis=(0, 2)), joint.sum(axis=(0, 1)))
    return np.asarray(np.einsum("a,b,c->abc", *marginals))


@every_rule
@few
@given(seed=seeds, n=st.integers(1, 60))
def test_rows_are_probabilities_and_what_was_fitted_is_json(fit: JointFit, seed: int, n: int) -> None:
    heads, targets = seen(frequencies(seed), n, seed)
    rule = fit(heads, targets)
    probs = rule(heads)
    assert probs.shape == (n, 18)
    assert (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert JOINT_RULES[rule.as_dict()["kind"]] is fit
    assert json.loads(json.dumps(rule.as_dict())) == rule.as_dict()
    assert fit(heads, targets) == rule


@every_rule
@pytest.mark.parametrize("shape", [(3,), (2, 2), (2, 3, 2, 2)])
def test_any_number_of_heads_will_do(fit: JointFit, shape: tuple[int, ...]) -> None:
    heads, targets = seen(np.full(shape, 1 / np.prod(shape)), 50, 0)
    assert fit(heads, targets)(heads).shape == (50, np.prod(shape))


@every_rule
def test_certain_heads_and_classes_that_never_occur_break_nothing(fit: JointFit) -> None:
    targets = np.array([0, 4, 0, 4])  # of (3, 2, 3): classes (0, 0, 0) and (0, 1, 1)
    heads = [np.eye(size)[own] for size, own in zip(SIZES, np.unravel_index(targets, SIZES), strict=True)]
    assert fit(heads, targets)(heads).argmax(axis=1).tolist() == targets.tolist()


@few
@given(seed=seeds)
def test_the_product_is_that_of_composed_predictions(seed: int) -> None:
    heads, _ = seen(frequencies(seed), 20, seed)
    ids, unknown = np.arange(20).astype(np.str_), np.full(20, -1)
    parts = [Predictions(ids, tuple("abc"[: head.shape[1]]), head, unknown, unknown) for head in heads]
    composed = compose(parts, classes=tuple(map(str, range(18))))
    np.testing.assert_allclose(Product()(heads), composed.probs, rtol=1e-12)


@few
@given(seed=seeds)
def test_the_product_has_the_heads_as_its_marginals(seed: int) -> None:
    heads, _ = seen(frequencies(seed), 20, seed)
    joint = Product()(heads).reshape(-1, *SIZES)
    for axis, head in enumerate(heads, start=1):
        others = tuple(other for other in (1, 2, 3) if other != axis)
        np.testing.assert_allclose(joint.sum(axis=others), head, rtol=1e-9)


@few
@given(seed=seeds, pseudo_rows=st.sampled_from([0.0, 10.0, 1000.0]))
def test_smoothing_shrinks_towards_the_product_and_keeps_the_marginals(seed: int, pseudo_rows: float) -> None:
    heads, targets = seen(frequencies(seed), 300, seed)
    ratio = np.array(train_joint(heads, targets, pseudo_rows=pseudo_rows).ratio).reshape(SIZES)
    counts = np.zeros(SIZES)
    np.add.at(counts, np.unravel_index(targets, SIZES), 1 / 300)
    independent = independent_of(counts)
    for axes in ((1, 2), (0, 2), (0, 1)):
        np.testing.assert_allclose((ratio * independent).sum(axis=axes), counts.sum(axis=axes), atol=1e-12)
    raw = counts / independent
    np.testing.assert_allclose(ratio - 1, (raw - 1) * 300 / (300 + pseudo_rows), atol=1e-9)


def test_classes_that_are_exactly_independent_are_not_corrected() -> None:
    targets = np.repeat(np.arange(18), 4)
    heads, _ = seen(frequencies(0), 72, 0)
    np.testing.assert_allclose(train_joint(heads, targets).ratio, 1)
    np.testing.assert_allclose(train_joint(heads, targets)(heads), Product()(heads))


@pytest.mark.parametrize("seed", range(5))
def test_the_true_joint_frequencies_give_the_true_posterior(seed: int) -> None:
    joint = frequencies(seed)
    heads, _ = seen(joint, 50, seed)
    targets = np.repeat(np.arange(18), np.round(joint.ravel() * 1e6).astype(np.int64))
    many = [np.resize(head, (len(targets), head.shape[1])) for head in heads]
    marginals = (joint.sum(axis=(1, 2)), joint.sum(axis=(0, 2)), joint.sum(axis=(0, 1)))
    likelihoods = [head / prior for head, prior in zip(heads, marginals, strict=True)]
    posterior = np.einsum("abc,na,nb,nc->nabc", joint, *likelihoods).reshape(50, 18)
    posterior /= posterior.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(train_joint(many, targets, pseudo_rows=0)(heads), posterior, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_on_independent_classes_nobody_loses_much_and_on_dependent_ones_all_gain(seed: int) -> None:
    for dependent, least, most in ((1e9, -0.03, 0.005), (1.0, 0.02, 9.0)):
        joint = frequencies(seed, dependent)
        heads, targets = seen(joint, 3000, seed)
        fresh, truth = seen(joint, 5000, seed + 1000)
        plain = log_loss(truth, Product()(fresh))
        for fit in (train_joint, stacker):
            assert least < plain - log_loss(truth, fit(heads, targets)(fresh)) < most


@few
@given(seed=seeds)
def test_a_strong_ridge_gives_the_product(seed: int) -> None:
    heads, targets = seen(frequencies(seed), 100, seed)
    np.testing.assert_allclose(stacker(heads, targets, ridge=1e9)(heads), Product()(heads), atol=1e-7)


def test_the_stacker_adds_nothing_more_when_a_head_grows_surer_than_sure() -> None:
    heads, targets = seen(frequencies(0), 300, 0)
    rule, added = stacker(heads, targets, ridge=0.01), []
    for rest in (1e-5, 1e-9):
        sure = [np.array([[1 - rest] + [rest / (size - 1)] * (size - 1)]) for size in SIZES]
        logits = np.log(rule(sure)) - np.log(Product()(sure))
        added.append(logits - logits[:, :1])
    np.testing.assert_allclose(added[0], added[1], atol=1e-4)


@few
@given(seed=seeds)
def test_the_less_ridge_the_less_loss_on_the_rows_of_the_fit(seed: int) -> None:
    heads, targets = seen(frequencies(seed), 100, seed)
    losses = [log_loss(targets, stacker(heads, targets, ridge=ridge)(heads)) for ridge in (0.01, 0.1, 1.0, 1e9)]
    assert losses == sorted(losses)


@pytest.mark.parametrize("seed", range(3))
def test_the_stacker_is_what_another_solver_finds(seed: int) -> None:
    heads, targets = seen(np.full((2, 2), 0.25), 60, seed)
    logs = [np.log(np.maximum(head, 1e-4)) for head in heads]
    features = np.hstack([log - log.mean(axis=1, keepdims=True) for log in logs] + [np.ones((60, 1))])
    offset = (np.log(heads[0])[:, :, None] + np.log(heads[1])[:, None, :]).reshape(60, 4)

    def loss(flat: Array) -> float:
        logits = offset + features @ flat.reshape(4, 5).T
        normaliser = np.logaddexp.reduce(logits, axis=1)
        return float((normaliser - logits[np.arange(60), targets]).mean() + 0.05 * flat @ flat)

    solved = minimize(loss, np.zeros(20), method="BFGS").x.reshape(4, 5)
    found = stacker(heads, targets, ridge=0.1)
    np.testing.assert_allclose(np.column_stack([found.weights, found.biases]), solved, atol=1e-4)


@pytest.mark.parametrize("fit", [train_joint, stacker])
def test_what_cannot_be_fitted_is_refused(fit: JointFit) -> None:
    heads, targets = seen(frequencies(0), 30, 0)
    with pytest.raises(EnsembleError, match=r"targets run from -1 to \d+, outside 0 to 17"):
        fit(heads, np.where(np.arange(30) == 3, -1, targets))
    with pytest.raises(EnsembleError, match="got 29 targets for 30 rows of heads; give one target a row"):
        fit(heads, targets[1:])
    with pytest.raises(
        EnsembleError, match=r"heads have \(3, 2\) classes, but the joint rule was fitted on \(3, 2, 3\)"
    ):
        fit(heads, targets)(heads[:2])


@every_rule
def test_heads_that_do_not_fit_together_are_refused(fit: JointFit) -> None:
    heads, targets = seen(frequencies(0), 30, 0)
    rule = fit(heads, targets)
    with pytest.raises(EnsembleError, match=r"heads have \[29, 30, 30\] rows; give at least one head"):
        rule([heads[0][1:], *heads[1:]])
    with pytest.raises(EnsembleError, match=r"heads have \[\] rows; give at least one head"):
        rule([])


def test_without_smoothing_certain_heads_may_contradict_the_counts() -> None:
    targets = np.array([0, 17])
    heads = [np.eye(size)[[0, size - 1]] for size in SIZES]
    swapped = [heads[0][::-1], *heads[1:]]
    rule = train_joint(heads, targets, pseudo_rows=0)
    assert rule(swapped).argmax(axis=1).tolist() == [12, 5]


def test_settings_of_nothing_are_refused() -> None:
    with pytest.raises(EnsembleError, match="ridge is 0; give one above 0"):
        stacker(*seen(frequencies(0), 30, 0), ridge=0)
    with pytest.raises(EnsembleError, match="pseudo_rows is -1; give 0 or more"):
        train_joint(*seen(frequencies(0), 30, 0), pseudo_rows=-1)
