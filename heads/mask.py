"""How the mask is worn."""

from heads.base import Head

HEAD = Head(name="mask", column="mask", classes=("wear", "incorrect", "normal"))
