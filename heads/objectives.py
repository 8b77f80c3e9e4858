"""Ways to train a head, by name: each pairs a loss with the decoding into class probabilities that belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from heads.base import FloatArray, Head, HeadError
from heads.distributions import dldl, mean_variance, sord
from heads.objective import Objective, with_auxiliary
from heads.ordinal import coral, corn
from heads.quantities import gaussian, huber, l1, regression
from heads.recipe import Recipe
from heads.softmax import binned, classes

Builder = Callable[[Head, Recipe, FloatArray], Objective]


def build(head: Head, name: str, recipe: Recipe, values: FloatArray) -> Objective:
    """The objective called ``name`` of one head, with what the recipe adds to it.

    Args:
        head: What is learnt.
        name: Key of ``OBJECTIVES``.
        recipe: The settings; arguments of another objective are not for this one.
        values: (N,) values of the labelled training photos; none = not known.

    Raises:
        HeadError: The recipe does not fit.
    """
    if recipe.objective not in ("", name):
        recipe = replace(recipe, objective_args={})
    if recipe.train_edges and head.edges and name != "classes":
        raise HeadError(f"train_edges cut classes, and {head.name} is trained as {name}; use objective classes")
    objective = OBJECTIVES[name](head, recipe, values)
    return with_auxiliary(objective, head, recipe) if recipe.auxiliary and head.edges else objective


# objectives that take a loss of `heads.losses`, and those that know no bins
WITH_LOSS = {"classes", "bins"}
WITHOUT_BINS = {"classes"}
OBJECTIVES: dict[str, Builder] = {
    "classes": classes,
    "bins": binned,
    "regression": regression,
    "gaussian": gaussian,
    "l1": l1,
    "huber": huber,
    "dldl": dldl,
    "sord": sord,
    "mean-variance": mean_variance,
    "coral": coral,
    "corn": corn,
}
