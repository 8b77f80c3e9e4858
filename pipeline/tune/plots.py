"""Pictures of a study: how the score rose, and which settings mattered."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna


def draw(study: optuna.Study, file: Path) -> str:
    """Draw history and importance; a line that says where.

    Args:
        study: With one complete trial or more.
        file: The PNG.
    """
    from matplotlib.figure import Figure
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    scores = [trial.values[0] for trial in complete]
    best = list(accumulate(scores, max))
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([trial.number for trial in complete], scores, "o", label="trial")
    left.step([trial.number for trial in complete], best, where="post", label="best so far")
    left.set(xlabel="trial", ylabel="macro F1 on the search's folds")
    left.legend()
    weights = {}
    if len(set(scores)) > 1:
        weights = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    right.barh(list(weights)[::-1], list(weights.values())[::-1])
    right.set(xlabel="importance of the setting")
    figure.savefig(file, dpi=120)
    return f"plot: {file}"
