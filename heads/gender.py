"""Gender as the competition labels it."""

from heads.base import Head

HEAD = Head(name="gender", column="gender", classes=("male", "female"))
