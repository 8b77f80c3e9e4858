"""Mixed photos: shares are those of the pixels, partners are who they may be, the loss is that of soft labels."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from heads.base import FloatArray, IntArray
from heads.registry import HEADS
from heads.task import Task
from pipeline.augment import Pixels, light
from pipeline.augmentation import Augmentation
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.images import PhotoSet, load_steps
from pipeline.mixing import MIXINGS, Mixing, alike_of, cutmix, halves, mixup, of_class

SEEDS = st.integers(0, 2**32)
AGE, MASK, JOINT = HEADS["age"], HEADS["mask"], HEADS["joint"]
BLACK: Pixels = np.zeros((16, 16, 3), np.uint8)
WHITE: Pixels = np.full((16, 16, 3), 255, np.uint8)


class Certain(np.random.Generator):
    """A generator whose Beta gives one number only."""

    def __init__(self, share: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.share = share

    def beta(self, *_: Any) -> float:  # type: ignore[override]
        """The number."""
        return self.share


@pytest.mark.parametrize("mix", MIXINGS.values(), ids=MIXINGS)
@given(seed=SEEDS, alpha=st.floats(0.01, 10), size=st.integers(3, 33))
def test_the_share_is_that_of_the_pixels(mix: Any, seed: int, alpha: float, size: int) -> None:
    mine, other = WHITE[:1, :1].repeat(size, 0).repeat(size, 1), BLACK[:1, :1].repeat(size, 0).repeat(size, 1)
    mixed, share = mix(mine, other, alpha, np.random.default_rng(seed))
    assert 0 <= share <= 1
    assert (mine == 255).all()
    assert (other == 0).all()
    rounding = 0.5 / 255 if mix is mixup else 1e-12
    assert abs(mixed.mean() / 255 - share) <= rounding + 1e-12


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_a_share_of_one_leaves_the_photo_as_it_is(mix: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    mixed, share = mix(noise[0], noise[1], 1.0, Certain(1.0))
    assert share == 1
    np.testing.assert_array_equal(mixed, noise[0])
    if mix is mixup:
        mixed, share = mix(noise[0], noise[1], 1.0, Certain(0.0))
        assert share == 0
        np.testing.assert_array_equal(mixed, noise[1])


def test_halves_are_left_and_right_and_each_by_chance() -> None:
    lefts = []
    for seed in range(100):
        mixed, _ = halves(WHITE, BLACK, 1.0, np.random.default_rng(seed))
        left, right = mixed[:, :8], mixed[:, 8:]
        assert {int(left.min()), int(left.max())} | {int(right.min()), int(right.max())} == {0, 255}
        assert left.min() == left.max() != right.min() == right.max()
        lefts.append(left.max() == 255)
    assert 30 < sum(lefts) < 70


def config(**chosen: Any) -> TrainConfig:
    return TrainConfig.load(None, {"augment": "none", "image_size": 16} | chosen)


def people(n: int = 24, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Masks and ages of n photos, a sixth not labelled; and the label of the mask."""
    rng = np.random.default_rng(seed)
    values = np.stack([rng.integers(0, 3, n).astype(float), rng.integers(18, 70, n).astype(float)], axis=1)
    values[rng.random((n, 2)) < 1 / 6] = np.nan
    return values, MASK.labels(values[:, 0])


@given(seed=SEEDS, within=st.sampled_from(["", "mask"]), partner=st.sampled_from(["", "old", "wear"]))
def test_partners_are_who_they_may_be(seed: int, within: str, partner: str) -> None:
    values, masks = people(seed=seed % 7)
    groups = masks if within else np.zeros_like(masks)
    train = np.arange(0, 24, 2)
    chosen = config(mixing="mixup", mixing_args={"prob": 1.0, "within": within, "partner": partner})
    mixing = Mixing.of(chosen, (MASK, AGE), values, train, groups)
    assert mixing is not None
    allowed = {
        int(row): [
            int(other)
            for other in train
            if other != row
            and (not within or masks[row] == masks[other] >= 0)
            and (partner != "old" or values[other, 1] >= 60)
            and (partner != "wear" or values[other, 0] == 0)
        ]
        for row in range(24)
    }
    rng = np.random.default_rng(seed)
    for row, others in allowed.items():
        drawn = mixing.partner(row, rng)
        assert drawn in others if others else drawn is None


@pytest.mark.parametrize("within", ["", "mask"])
def test_photos_of_which_it_is_unknown_what_they_share_are_mixed_where_that_is_not_asked(within: str) -> None:
    values, masks = people()
    chosen = config(mixing="mixup", mixing_args={"prob": 1.0, "within": within})
    first = masks[:10] if within else np.zeros(10, dtype=np.int64)
    mixing = Mixing.of(chosen, (MASK, AGE), values, np.arange(24), first)  # as extra photos and eval photos come
    assert mixing is not None
    rng = np.random.default_rng(0)
    partners = {row: {mixing.partner(row, rng) for _ in range(300)} for row in range(24)}
    if within:
        assert all(partners[row] == {None} for row in range(10, 24))
        assert not any(partner is not None and partner >= 10 for row in range(10) for partner in partners[row])
    else:
        assert all(partners[row] == set(range(24)) - {row} for row in range(24))


def test_every_partner_is_as_probable_as_any_other_and_mixing_as_asked() -> None:
    values, masks = people(6)
    chosen = config(mixing="mixup", mixing_args={"prob": 0.4})
    mixing = Mixing.of(chosen, (MASK, AGE), values, np.arange(6), np.zeros_like(masks))
    assert mixing is not None
    rng = np.random.default_rng(0)
    drawn = [mixing.partner(2, rng) for _ in range(5000)]
    counts = [drawn.count(row) for row in range(6)]
    assert counts[2] == 0
    assert all(abs(count - 400) < 80 for row, count in enumerate(counts) if row != 2)  # four standard deviations


def mixed_set(mixing: str, augment: str = "light", **others: Any) -> PhotoSet:
    values, masks = people()
    photos = np.random.default_rng(1).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    chosen = config(mixing=mixing, augment=augment, **others)
    heads = (MASK, AGE)
    augmentation = Augmentation.of(chosen, (0, 1, 2), heads, values, train=np.arange(24), alike=np.zeros_like(masks))
    return PhotoSet(photos, values, augmentation)


@pytest.mark.parametrize("augment", ["light", "medium", "heavy"])
@pytest.mark.parametrize("mixing", ["none", *MIXINGS])
def test_a_batch_is_a_function_of_epoch_and_row_and_its_shares_sum_to_one(mixing: str, augment: str) -> None:
    photos = mixed_set(mixing, augment)
    m = 1 if mixing == "none" else 2
    pixels, values, shares = photos[3, np.arange(24)]
    assert (pixels.shape, pixels.dtype) == ((24, 3, 16, 16), torch.uint8)
    assert values.shape == shares.shape == (24, m, 2)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(24, 2))
    np.testing.assert_array_equal(values[:, 0], photos.values.astype(np.float32))
    mixed = shares[:, 0, 0] < 1
    assert mixed.any() == (m == 2)
    if m == 2:
        np.testing.assert_array_equal(values[~mixed, 1], values[~mixed, 0])
    for row in (0, 7, 23):
        alone = photos[3, np.array([row])]
        for one, all_ in zip(alone, (pixels, values, shares), strict=True):
            torch.testing.assert_close(one[0], all_[row], rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(photos[4, np.arange(24)][0], pixels)


@pytest.mark.parametrize("augment", ["medium", "heavy"])
def test_a_spawned_worker_gets_the_same_recipes(augment: str) -> None:
    photos, step = mixed_set("halves", augment), (1, np.arange(4))
    for one, other in zip(photos[step], pickle.loads(pickle.dumps(photos))[step], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_workers_do_not_matter() -> None:
    steps = [(e, np.array(rows)) for e in (0, 1) for rows in ([3, 4, 5], [0, 1])]
    transforms = [{"name": "GaussNoise"}, {"name": "RandomCrop", "share": [0.5, 1]}]
    photos = mixed_set("cutmix", transforms=transforms, per_class={"old": "heavy"})
    for step, batch in zip(steps, load_steps(photos, steps, 2), strict=True):
        for one, other in zip(photos[step], batch, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_unmixed_photos_are_those_of_a_training_without_mixing() -> None:
    plain, _, _ = mixed_set("none")[0, np.arange(24)]
    pixels, _, shares = mixed_set("cutmix")[0, np.arange(24)]
    alone = shares[:, 0, 0] == 1
    assert 4 < int(alone.sum()) < 20
    torch.testing.assert_close(pixels[alone], plain[alone], rtol=0, atol=0)


def test_the_loss_of_mixed_photos_is_the_cross_entropy_of_soft_labels() -> None:
    task = Task.of(MASK)
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.integers(0, 3, (8, 2, 1))).float()
    share = torch.from_numpy(rng.random((8, 1, 1))).float()
    shares, outputs = (
        torch.cat([share, 1 - share], dim=1),
        torch.randn(8, 3, generator=torch.Generator().manual_seed(0)),
    )
    parts = zip(values.unbind(dim=1), shares.unbind(dim=1), strict=True)
    ours = torch.stack([task.losses(outputs, value) * part for value, part in parts]).sum(dim=0)[:, 0]
    soft = (F.one_hot(values[..., 0].long(), 3) * shares).sum(dim=1)
    torch.testing.assert_close(ours, F.cross_entropy(outputs, soft, reduction="none"))


def test_a_part_without_a_label_leaves_the_share_of_the_other() -> None:
    task, outputs = Task.of(MASK), torch.randn(1, 3)
    values, shares = torch.tensor([[[1.0], [torch.nan]]]), torch.tensor([[[0.3], [0.7]]])
    whole = task.losses(outputs, values[:, 0])
    parts = sum(task.losses(outputs, values[:, m]) * shares[:, m] for m in range(2))
    torch.testing.assert_close(parts, 0.3 * whole)


@settings(max_examples=20)
@given(seed=SEEDS, recipe=st.sampled_from(["none", "heavy"]))
def test_a_recipe_of_a_class_touches_that_class_alone(seed: int, recipe: str) -> None:
    plain, other = mixed_set("none"), mixed_set("none", per_class={"old": recipe})
    rows, epoch = np.arange(24), seed % 1000
    (before, *_), (after, *_) = plain[epoch, rows], other[epoch, rows]
    old = torch.from_numpy(plain.values[:, 1] >= 60)
    assert old.any()
    same = (before == after).flatten(start_dim=1).all(dim=1)
    assert same[~old].all()
    if recipe == "none":
        np.testing.assert_array_equal(after[old].permute(0, 2, 3, 1), plain.photos[old.numpy()])
    else:
        assert not same[old].all()


def test_of_several_classes_the_strongest_recipe_wins_in_any_order() -> None:
    recipes = {"old": "heavy", "wear": "medium"}
    one, other = (dict(items) for items in (recipes.items(), reversed(recipes.items())))
    batches = [mixed_set("none", per_class=table)[0, np.arange(24)][0] for table in (one, other, {"old": "heavy"})]
    torch.testing.assert_close(batches[0], batches[1], rtol=0, atol=0)
    old = torch.from_numpy(people()[0][:, 1] >= 60)
    torch.testing.assert_close(batches[0][old], batches[2][old], rtol=0, atol=0)


def test_photos_of_a_plain_training_are_those_of_the_light_recipe() -> None:
    photos = mixed_set("none")
    pixels, *_ = photos[2, np.array([5])]
    wanted = light(photos.photos[5], np.random.default_rng([0, 1, 2, 2, 5]))
    np.testing.assert_array_equal(pixels[0].permute(1, 2, 0), wanted)


def test_the_joint_head_has_the_classes_of_its_parts() -> None:
    values = np.append(np.arange(18.0), np.nan)[:, None]
    old = of_class([JOINT], values, "old", "x")
    assert old[:18].reshape(3, 2, 3).all(axis=(0, 1)).tolist() == [False, False, True]
    assert int(old.sum()) == 6
    assert np.flatnonzero(of_class([JOINT], values, "wear/male/old", "x")).tolist() == [2]


COLUMNS = {"mask": np.array(["wear", "", "normal"]), "age": np.array(["23", "70", ""])}


def test_groups_are_classes_and_all_alike_when_none_are_asked_for() -> None:
    for within, wanted in (("", [0, 0, 0]), ("mask", [0, -1, 2]), ("age", [0, 2, -1])):
        chosen = config(mixing="cutmix", mixing_args={"within": within})
        assert alike_of(chosen, COLUMNS, 3).tolist() == wanted


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"mixing": "mixup", "mixing_args": {"prop": 1}},
        "'prop' in mixing_args; mixing 'mixup' takes prob, alpha",
    ),
    ({"mixing": "halves", "mixing_args": {"alpha": 1}}, "mixing 'halves' takes prob, within, partner"),
    ({"mixing_args": {"prob": 1}}, "mixing 'none' takes none"),
    ({"mixing": "mixup", "mixing_args": {"prob": 1.5}}, "mixing_args.prob must be from 0 to 1, got 1.5"),
    ({"mixing": "mixup", "mixing_args": {"alpha": 0}}, "mixing_args.alpha must be from 0.001 to 1000, got 0"),
    ({"mixing": "mixup", "mixing_args": {"alpha": True}}, "mixing_args.alpha must be a number"),
    ({"mixing": "mixup", "mixing_args": {"within": 3}}, "mixing_args.within must be text, got 3"),
    ({"mixing": "mixup", "mixing_args": {"within": "race"}}, r"label column of the data \(mask, age\), got 'race'"),
    ({"mixing": "mixup", "mixing_args": {"partner": "odl"}}, "the class 'odl', .*did you mean 'old'"),
    ({"per_class": {"male": "heavy"}}, "per_class names the class 'male', which no head of this run has"),
]


@pytest.mark.parametrize(("given_settings", "message"), BAD, ids=[str(bad) for bad, _ in BAD])
def test_bad_settings_are_refused_by_name(given_settings: dict[str, Any], message: str) -> None:
    chosen, (values, _) = config(**given_settings), people(3)

    def planned() -> None:
        alike = alike_of(chosen, COLUMNS, 3)
        Augmentation.of(chosen, (), (MASK, AGE), values, train=np.arange(3), alike=alike)

    with pytest.raises(ConfigError, match=message):
        planned()


@pytest.mark.parametrize("recipe", ["furious", 3, ["heavy"], {}])
def test_a_recipe_of_a_class_must_be_one(recipe: object) -> None:
    with pytest.raises(ConfigError, match="per_class must be a table from class to one of none, light"):
        config(per_class={"old": recipe})
