"""Age in years, scored in three classes cut at 30 and 60."""

from heads.base import Head

HEAD = Head(
    name="age",
    column="age",
    classes=("young", "middle", "old"),
    edges=(30, 60),
    limits=(0, 120),
    bins=(15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65),
    objectives=(  # the first won on real photos, see LOG.md
        "classes",
        "bins",
        "regression",
        "gaussian",
        "l1",
        "huber",
        "dldl",
        "sord",
        "mean-variance",
        "coral",
        "corn",
    ),
)
