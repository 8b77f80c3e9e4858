"""All 18 classes in one head: label = mask * 6 + gender * 3 + age."""

from itertools import product

from heads import age, gender, mask
from heads.base import Head

PARTS = (mask.HEAD, gender.HEAD, age.HEAD)
HEAD = Head(name="joint", classes=tuple("/".join(names) for names in product(*(p.classes for p in PARTS))), parts=PARTS)
