"""A user's own augmentation: a list of albumentations transforms by name, checked before the first photo is read.

S side of the network's input in pixels.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np

from pipeline.augment import Augment, Composed, Pixels
from pipeline.errors import ConfigError, hint

Table = Mapping[str, Any]
GROUPS = ("OneOf", "RandomOrder", "Sequential", "SomeOf")  # transforms of transforms
# they need a mask, boxes, other images or code beside the photo, or do not give a photo back
REFUSED = (
    "AtLeastOneBBoxRandomCrop",
    "BBoxSafeRandomCrop",
    "ConstrainedCoarseDropout",
    "CropNonEmptyMaskIfExists",
    "FDA",
    "HistogramMatching",
    "Lambda",
    "MaskDropout",
    "Mosaic",
    "OverlayElements",
    "PixelDistributionAdaptation",
    "RandomCropNearBBox",
    "RandomSizedBBoxSafeCrop",
    "TextImage",
    "ToTensor3D",
    "ToTensorV2",
)


@dataclass(frozen=True, slots=True)
class Resized:
    """An augmentation whose photos come out at the size that they came in with.

    Attributes:
        augment: It may cut photos smaller.
    """

    augment: Augment

    def __call__(self, photo: Pixels, rng: np.random.Generator) -> Pixels:
        """The (S, S, 3) photo after the augmentation."""
        done = self.augment(photo, rng)
        if done.shape[:2] != photo.shape[:2]:
            done = cast(Pixels, cv2.resize(done, photo.shape[1::-1], interpolation=cv2.INTER_LINEAR))
        return done


def own_recipe(tables: Sequence[Table], size: int) -> Augment:
    """The transforms of a list one after the other; photos stay (S, S, 3) of 8 bits whatever they do.

    Args:
        tables: The ``name`` of each and its arguments; ``OneOf``, ``SomeOf``, ``RandomOrder`` and ``Sequential`` hold
            ``transforms`` themselves. ``RandomCrop`` and ``CenterCrop`` also take ``share``, of each side, and there is
            ``RandAugment`` with ``n`` and ``magnitude``.
        size: S.

    Raises:
        ConfigError: A name or argument is unknown or out of range, or a transform cannot work on a photo alone.
    """
    import albumentations as A

    return Resized(Composed(A.Compose([_made(table, size) for table in tables])))


def _made(table: Table, size: int) -> Any:
    """The transform of a table, tried on photos; where it changes their size, it is followed by a resize."""
    import albumentations as A

    name, arguments = table["name"], {key: value for key, value in table.items() if key != "name"}
    if name in OWN and (name == "RandAugment" or "share" in arguments):
        return OWN[name](arguments, size)
    if name in GROUPS:
        return _group(name, arguments, size)
    if name in REFUSED:
        raise ConfigError(f"transforms: {name} needs more than one photo, or gives none back; leave it out")
    if name not in (known := names()):
        nearest = hint(name, known, f"there are, for example, {', '.join(known[::8])}")
        raise ConfigError(f"transforms: unknown name {name!r}; {nearest}")
    if name == "RandomResizedCrop":
        arguments = {"size": (size, size)} | arguments
    made = _built(getattr(A, name), arguments)
    if _keeps_size(made, size):
        return made
    probability, made.p = made.p, 1.0
    return A.Sequential([made, A.Resize(size, size, p=1)], p=probability)


def names() -> list[str]:
    """The names of the transforms that work on one photo alone, albumentations' and our own."""
    import albumentations as A

    found = {"RandAugment", *GROUPS}
    for name, kind in vars(A).items():
        if inspect.isclass(kind) and issubclass(kind, A.ImageOnlyTransform | A.DualTransform):
            is_base = kind in (A.ImageOnlyTransform, A.DualTransform) or issubclass(kind, A.Transform3D)
            if not is_base and name not in REFUSED:
                found.add(name)
    return sorted(found)


def _built(kind: Callable[..., Any], arguments: Table) -> Any:
    """A transform of this kind.

    Raises:
        ConfigError: An argument is unknown (which albumentations only warns of) or out of range.
    """
    name = kind.__name__
    known = [one for one in inspect.signature(kind.__init__).parameters if one not in ("self", "transforms")]
    for argument in arguments:
        if argument not in known and argument != "transforms":
            nearest = hint(argument, known, f"it takes: {', '.join(known)}")
            raise ConfigError(f"transforms: {name} takes no argument {argument!r}; {nearest}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice to take another transform
            warnings.filterwarnings("error", "Argument")
            return kind(**{key: _tupled(value) for key, value in arguments.items()})
    except Exception as error:  # albumentations raises nearly anything
        raise ConfigError(f"transforms: {name} cannot be made of {dict(arguments)}: {_why(error)}") from error


def _tupled(value: Any) -> Any:
    """The value with tuples for lists, as albumentations takes ranges."""
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def _why(error: BaseException) -> str:
    """What is wrong, in one line."""
    found = getattr(error.__cause__, "errors", None)
    if found is None:
        return " ".join(str(error).split())
    return "; ".join(": ".join([*map(str, one["loc"][:1]), one["msg"]]) for one in found())


def _keeps_size(made: Any, size: int) -> bool:
    """Whether photos of S x S stay so under a transform, whatever its probability.

    Raises:
        ConfigError: It fails on them, or what comes out is no photo of 8 bits and three channels.
    """
    rng, name, shapes = np.random.default_rng(0), type(made).__name__, set()
    made.set_random_seed(0)
    for brightest in (1, 256, 256, 256):  # one black, the others noise
        photo = rng.integers(0, brightest, (size, size, 3), dtype=np.uint8)
        try:
            done = made(image=photo, force_apply=True)["image"]
        except Exception as error:  # albumentations raises nearly anything
            raise ConfigError(f"transforms: {name} fails on a photo of {size} x {size}: {_why(error)}") from error
        if done.dtype != np.uint8 or done.ndim != 3 or done.shape[2] != 3:
            raise ConfigError(
                f"transforms: {name} gives {done.dtype} in shape {done.shape}, not an RGB photo of 8 bits; leave it out"
            )
        shapes.add(done.shape)
    return shapes == {(size, size, 3)}


def _group(name: str, arguments: dict[str, Any], size: int) -> Any:
    """A transform of transforms."""
    import albumentations as A

    tables = arguments.get("transforms")
    if not isinstance(tables, list | tuple) or not tables or not all(_is_table(table) for table in tables):
        raise ConfigError(f"transforms: {name} needs transforms, a list of tables with a name, got {tables!r}")
    return _built(getattr(A, name), arguments | {"transforms": [_made(table, size) for table in tables]})


def _is_table(table: Any) -> bool:
    return isinstance(table, dict) and isinstance(table.get("name"), str)


def _random_crop(arguments: dict[str, Any], size: int) -> Any:
    """A square of a share of each side, anywhere, brought back to S x S."""
    import albumentations as A

    low, high = _share("RandomCrop", arguments["share"])
    rest = {key: value for key, value in arguments.items() if key != "share"}
    pixels = (max(1, round(low * size)), max(1, round(high * size)))
    return _built(A.RandomSizedCrop, {"min_max_height": pixels, "size": (size, size)} | rest)


def _center_crop(arguments: dict[str, Any], size: int) -> Any:
    """The square in the middle, of a share of each side, brought back to S x S."""
    import albumentations as A

    low, high = _share("CenterCrop", arguments["share"])
    if low != high:
        raise ConfigError(f"transforms: CenterCrop takes one number as share, got {arguments['share']!r}")
    rest = {key: value for key, value in arguments.items() if key != "share"}
    side = max(1, round(low * size))
    return _made({"name": "CenterCrop", "height": side, "width": side} | rest, size) if side < size else A.NoOp()


def _share(name: str, given: Any) -> tuple[float, float]:
    pair = given if isinstance(given, list | tuple) else (given, given)
    numbers = [number for number in pair if isinstance(number, int | float) and not isinstance(number, bool)]
    if len(pair) != 2 or len(numbers) != 2 or not 0 < numbers[0] <= numbers[1] <= 1:
        raise ConfigError(
            f"transforms: share of {name} must be a number above 0 and at most 1, or the lowest and highest, "
            f"got {given!r}"
        )
    return float(numbers[0]), float(numbers[1])


def _rand_augment(arguments: dict[str, Any], size: int) -> Any:
    """``n`` of fourteen transforms, drawn with repetition, all at one magnitude from 0 to 10.

    Cubuk et al. 2020, https://arxiv.org/abs/1909.13719, section 3; the ranges are near those of its code.
    """
    import albumentations as A

    given = {"n": 2, "magnitude": 9, "p": 1.0} | arguments
    if unknown := sorted(given.keys() - {"n", "magnitude", "p"}):
        raise ConfigError(f"transforms: RandAugment takes no argument {unknown[0]!r}; it takes: n, magnitude, p")
    n, magnitude = given["n"], given["magnitude"]
    if type(n) is not int or not 1 <= n <= 14 or type(magnitude) not in (int, float) or not 0 <= magnitude <= 10:
        raise ConfigError(f"transforms: RandAugment takes n from 1 to 14 and magnitude from 0 to 10, got {arguments}")
    return _built(A.SomeOf, {"transforms": _fourteen(magnitude / 10), "n": n, "replace": True, "p": given["p"]})


def _fourteen(strength: float) -> list[Any]:
    """RandAugment's transforms at a strength from 0 to 1."""
    import albumentations as A

    shift, shear, light = 0.3 * strength, 17.0 * strength, 0.9 * strength  # share of the side, degrees, share
    edge = {"border_mode": cv2.BORDER_REFLECT_101, "p": 1.0}
    still = {"x": (0.0, 0.0), "y": (0.0, 0.0)}
    return [
        A.NoOp(p=1.0),
        A.AutoContrast(p=1.0),
        A.Equalize(p=1.0),
        A.Rotate(limit=30 * strength, **edge),
        A.Solarize(threshold_range=(1 - strength, 1 - strength), p=1.0),
        A.ColorJitter(brightness=0, contrast=0, saturation=light, hue=0, p=1.0),
        A.Posterize(num_bits=7 - round(3 * strength), p=1.0),
        A.RandomBrightnessContrast(brightness_limit=0, contrast_limit=light, p=1.0),
        A.RandomBrightnessContrast(brightness_limit=light, contrast_limit=0, p=1.0),
        A.Sharpen(alpha=(light, light), p=1.0),
        *(A.Affine(shear=still | {axis: (-shear, shear)}, **edge) for axis in "xy"),
        *(A.Affine(translate_percent=still | {axis: (-shift, shift)}, **edge) for axis in "xy"),
    ]


OWN: dict[str, Callable[[dict[str, Any], int], Any]] = {
    "CenterCrop": _center_crop,
    "RandAugment": _rand_augment,
    "RandomCrop": _random_crop,
}
