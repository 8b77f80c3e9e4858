"""Heads, objectives and tasks: every label has one class, every output decodes to probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from heads.base import Head, HeadError
from heads.cuts import above
from heads.losses import LOSSES
from heads.objectives import OBJECTIVES, WITH_LOSS
from heads.recipe import PLAIN, UNKNOWN, Recipe
from heads.registry import HEADS, JOINT, LABELS, head_named
from heads.softmax import binned
from heads.task import Task

AGE = HEADS["age"]
# every objective of every head, with every loss that it takes
CASES = [
    (head, Recipe(objective=name, loss=loss))
    for head in HEADS.values()
    for name in head.objectives
    for loss in (LOSSES if name in WITH_LOSS else ["cross-entropy"])
]
NAMES = [f"{head.name}-{recipe.objective}-{recipe.loss}" for head, recipe in CASES]


def some_values(head: Head, n: int = 200) -> torch.Tensor:
    high = 90 if head.edges else len(head.classes)
    return torch.randint(0, high, (n,), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize(("head", "recipe"), CASES, ids=NAMES)
def test_decoded_outputs_are_probabilities(head: Head, recipe: Recipe) -> None:
    task = Task.of(head, recipe=recipe, values=some_values(head).double().numpy()[:, None])
    outputs = 5 * torch.randn(50, task.n_outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (probs,) = task.decode(outputs)
    assert probs.shape == (50, len(head.classes))
    assert (probs >= 0).all()
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(50, dtype=torch.float64))
    even = np.full(len(head.classes), 1 / len(head.classes))
    mix = task.mix(0, even)
    assert (mix > 0).all()
    assert mix.sum() == pytest.approx(1)


@pytest.mark.parametrize(("head", "recipe"), CASES, ids=NAMES)
def test_minimising_the_loss_decodes_to_the_truth(head: Head, recipe: Recipe) -> None:
    """Free outputs for every value: what the loss wants is what decode must read, at the start and at the end."""
    values = some_values(head)
    task = Task.of(head, recipe=recipe, values=values.double().numpy()[:, None])
    apart = torch.tensor([20.0, 25, 40, 45, 70, 75]) if head.edges else torch.arange(len(head.classes)).float()
    outputs = torch.zeros(len(apart) + 1, task.n_outputs, requires_grad=True)
    optimizer = torch.optim.Adam([outputs], lr=0.5)
    with_missing = torch.cat([apart, torch.tensor([torch.nan])])[:, None]
    for step in range(30):
        optimizer.zero_grad()
        task.losses(outputs, with_missing, step / 30).sum().backward()  # type: ignore[no-untyped-call]
        assert outputs.grad is not None
        assert outputs.grad.isfinite().all()
        assert (outputs.grad[-1] == 0).all()
        optimizer.step()
    decoded = task.decode(outputs.detach()[:-1])[0].argmax(dim=1).numpy()
    assert (decoded == head.labels(apart.double().numpy())).all()


@pytest.mark.parametrize(("head", "recipe"), CASES, ids=NAMES)
def test_no_labels_and_one_label_are_losses_too(head: Head, recipe: Recipe) -> None:
    task = Task.of(head, recipe=recipe)
    outputs = torch.zeros(2, task.n_outputs, requires_grad=True)
    for values in ([torch.nan, torch.nan], [1.0, torch.nan]):
        task.losses(outputs, torch.tensor(values)[:, None]).sum().backward()  # type: ignore[no-untyped-call]
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    assert (outputs.grad[1] == 0).all()


@given(st.integers(0, 120))
def test_a_bin_lies_in_the_class_of_the_years_in_it(age: int) -> None:
    objective = binned(AGE)
    bin_of_age = int(above(torch.tensor([float(age)]), AGE.bins[1:-1]))
    certain = F.one_hot(torch.tensor([bin_of_age]), objective.n_outputs).float() * 100
    assert int(objective.decode(certain).argmax()) == int(AGE.labels(np.array([float(age)]))[0])


@given(st.floats(-3, 3), st.floats(-4, 4))
def test_regression_gives_the_mass_of_a_normal_distribution(mean: float, raw: float) -> None:
    outputs = torch.tensor([[mean, raw]], dtype=torch.float64)
    years = 40 + 25 * mean
    spread = 25 * (float(F.softplus(torch.tensor(raw, dtype=torch.float64))) + 0.02)
    cuts = norm.cdf([29.5, 59.5], loc=years, scale=spread)
    probs = OBJECTIVES["regression"](AGE, PLAIN, UNKNOWN).decode(outputs)[0].numpy()
    np.testing.assert_allclose(probs, np.diff(np.concatenate([[0.0], cuts, [1.0]])), atol=1e-9)


def test_expected_years_are_where_the_mass_is() -> None:
    objective = binned(AGE)
    assert objective.expect is not None
    sure = torch.full((1, 10), -50.0)
    sure[0, [2, 3]] = 0.0  # half in 25-30, half in 30-35
    assert float(objective.expect(sure)) == pytest.approx(30)


def test_joint_label_is_mask_times_6_plus_gender_times_3_plus_age() -> None:
    columns = {
        "mask": np.array(["wear", "incorrect", "normal", "normal", ""]),
        "gender": np.array(["male", "female", "Female", "male", "male"]),
        "age": np.array(["29", "30", "60", "59", "40"]),
    }
    assert JOINT.labels(JOINT.values(columns)).tolist() == [0, 6 + 3 + 1, 12 + 3 + 2, 12 + 1, -1]
    assert JOINT.classes[17] == "normal/female/old"
    assert [len(head.classes) for head in LABELS] == [3, 2, 3]


@pytest.mark.parametrize(
    ("head", "raw"), [("age", "thirty"), ("age", "121"), ("age", "-1"), ("mask", "none"), ("age", "nan")]
)
def test_a_wrong_label_is_refused_by_name(head: str, raw: str) -> None:
    with pytest.raises(HeadError, match=raw):
        HEADS[head].values({HEADS[head].column: np.array([raw])})


def test_unknown_heads_and_objectives_have_a_neighbour() -> None:
    with pytest.raises(HeadError, match="did you mean 'gender'"):
        head_named("gendr")
    with pytest.raises(
        HeadError, match="unknown objective 'ordinal'; mask has classes; age has classes, bins, regression"
    ):
        Task.of(HEADS["mask"], AGE, recipe=Recipe(objective="ordinal"))
    with pytest.raises(HeadError, match="given twice"):
        Task.of(AGE, AGE)


@pytest.mark.parametrize(
    ("bins", "message"),
    [((15, 25, 30, 65), "lack 60"), ((15, 30, 30, 60, 65), "two or more and increase"), ((30, 60), "lack 30, 60")],
)
def test_bins_must_hold_the_class_edges(bins: tuple[float, ...], message: str) -> None:
    with pytest.raises(HeadError, match=message):
        Task.of(AGE, recipe=Recipe(objective="bins", bins=bins))


def test_heads_side_by_side_lose_what_they_lose_alone() -> None:
    task = Task.of(HEADS["mask"], AGE)
    outputs = torch.randn(8, task.n_outputs, generator=torch.Generator().manual_seed(0))
    values = torch.stack([some_values(HEADS["mask"], 8), some_values(AGE, 8)], dim=1)
    losses = task.losses(outputs, values)
    for index, head in enumerate(task.heads):
        alone = Task.of(head).losses(task.split(outputs)[index], values[:, index : index + 1])
        torch.testing.assert_close(losses[:, index], alone[:, 0])


def test_a_missing_label_neither_counts_nor_pulls() -> None:
    task = Task.of(HEADS["mask"], AGE)
    outputs = torch.randn(4, task.n_outputs, generator=torch.Generator().manual_seed(0), requires_grad=True)
    values = torch.tensor([[0, 25], [1, torch.nan], [torch.nan, 61], [torch.nan, torch.nan]])
    losses = task.losses(outputs, values)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(losses).all()
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()
    assert (losses == 0).tolist() == [[False, False], [False, True], [True, False], [True, True]]
    assert (outputs.grad[3] == 0).all()
    assert (outputs.grad[1, 3:] == 0).all()
