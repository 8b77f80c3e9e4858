"""Members side by side, aligned by id; probabilities are read in blocks of rows, so any number of members fits.

Legend: N samples, C classes, M members, B rows of a block.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np

from ensemble.predictions import Array, EnsembleError, Indices, MisalignedPredictions, Names, Predictions, order_of

Reader = Callable[[Any], Array]  # a slice or (B,) row numbers -> (B, C); an array's ``__getitem__`` is one

BLOCK = 64 * 2**20  # bytes of probabilities that are looked at together
READERS = 4  # members that are read at the same time: disks like it, and copying takes a core


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One member: its samples, and a way to its probabilities, which may lie on disk.

    Whoever makes one has checked it as `Predictions` are checked.

    Attributes:
        ids: (N,) sample ids, each once.
        classes: C class names.
        folds: (N,) the fold that held the sample out; -1 is a test sample.
        targets: (N,) index of the true class; -1 is unknown.
        read: Gives the probabilities of some rows.
    """

    ids: Names
    classes: tuple[str, ...]
    folds: Indices
    targets: Indices
    read: Reader

    @classmethod
    def of(cls, predictions: Predictions) -> "Member":
        """A member whose probabilities lie in memory."""
        p = predictions
        return cls(p.ids, p.classes, p.folds, p.targets, p.probs.__getitem__)

    def same_samples(self, ids: Names, classes: tuple[str, ...], folds: Indices, targets: Indices) -> bool:
        """Whether these are this member's samples, in its order."""
        pairs = ((self.ids, ids), (self.folds, folds), (self.targets, targets))
        return self.classes == classes and all(mine is other or np.array_equal(mine, other) for mine, other in pairs)

    def predictions(self) -> Predictions:
        """All of it, in memory."""
        return Predictions(self.ids, self.classes, self.read(slice(0, len(self.ids))), self.folds, self.targets)


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """M members of the same samples, in the first one's order of ids.

    Attributes:
        ids: (N,) sample ids.
        classes: C class names.
        folds: (N,) folds.
        targets: (N,) targets.
        readers: M ways to probabilities, all in this order of rows.
    """

    ids: Names
    classes: tuple[str, ...]
    folds: Indices
    targets: Indices
    readers: tuple[Reader, ...]

    @classmethod
    def align(cls, members: Iterable[Member], names: Sequence[str]) -> "Members":
        """The members in the first one's order of ids.

        Args:
            members: M members of the same samples, looked at one after the other.
            names: M names by which a message calls them.

        Raises:
            EnsembleError: If there is no member, or not one name a member.
            MisalignedPredictions: If two members differ in ids, classes, folds or targets.
        """
        first: Member | None = None
        before: Member | None = None  # neighbours mostly have one order of rows, which is found and kept once
        order: Indices | None = None
        readers: list[Reader] = []
        for member, name in zip(members, chain(names, repeat("?")), strict=False):
            first, pair = first or member, (names[0] if names else "?", name)
            if before is None or member.ids is not before.ids:
                order = _order(first, member, pair)
            _require_same(first, member, order, pair)
            readers.append(member.read if order is None else _reordered(member.read, order))
            before = member
        if first is None or len(readers) != len(names):
            raise EnsembleError(
                f"got {len(readers)} members and {len(names)} names; give one or more, and a name for each"
            )
        return cls(first.ids, first.classes, first.folds, first.targets, tuple(readers))

    @classmethod
    def of(cls, members: Sequence[Predictions], names: Sequence[str]) -> "Members":
        """Members in memory, aligned; raises what `align` raises."""
        return cls.align([Member.of(member) for member in members], names)

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Rows, and the (M, B, C) probabilities of all members in these rows; an array lasts until the next one."""
        n_samples, n_classes, n_members = len(self.ids), len(self.classes), len(self.readers)
        size = max(1, BLOCK // (8 * n_members * n_classes))
        probs = np.empty((n_members, min(size, n_samples), n_classes))
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(0, max(n_samples, 1), size):  # no samples make one empty block
                rows = slice(start, min(start + size, n_samples))
                block = probs[:, : rows.stop - rows.start]
                for filled in [pool.submit(_fill, block[m], read, rows) for m, read in enumerate(self.readers)]:
                    filled.result()
                yield rows, block

    def decided(self, probs: Array) -> Predictions:
        """The (N, C) outcome of a vote, with these ids, folds and targets."""
        return Predictions(self.ids, self.classes, probs, self.folds, self.targets)


def mean_of(members: Members, mean: Callable[[Array], Array]) -> Member:
    """One member made of several, row by row.

    Args:
        members: M of them.
        mean: (M, B, C) -> (B, C).
    """

    def read(rows: slice | Indices) -> Array:
        return mean(np.stack([reader(rows) for reader in members.readers]))

    return Member(members.ids, members.classes, members.folds, members.targets, read)


def _fill(block: Array, read: Reader, rows: slice) -> None:
    block[:] = read(rows)


def _reordered(read: Reader, order: Indices) -> Reader:
    return lambda rows: read(order[rows])


def _order(first: Member, member: Member, pair: tuple[str, str]) -> Indices | None:
    """The member's rows in the first one's order; None = it has that order."""
    if np.array_equal(first.ids, member.ids):
        return None
    try:
        return order_of(member.ids, first.ids).astype(np.int32)  # half the memory, where a hundred have their own
    except MisalignedPredictions as error:
        raise MisalignedPredictions(f"{pair[0]!r} and {pair[1]!r} predict other samples: {error}") from error


def _require_same(first: Member, member: Member, order: Indices | None, pair: tuple[str, str]) -> None:
    if member.classes != first.classes:
        raise MisalignedPredictions(
            f"{pair[0]!r} has classes {first.classes} but {pair[1]!r} has {member.classes}; "
            "combine members of one head, with one class order"
        )
    for field in ("folds", "targets"):
        mine, others = getattr(first, field), getattr(member, field)
        if mine is not others:
            refuse_other(first.ids, field, mine, others if order is None else others[order], pair)


def refuse_other(ids: Names, field: str, mine: Indices, others: Indices, pair: tuple[str, str]) -> None:
    """Refuse two members whose (N,) ``folds`` or ``targets`` of the same ids differ.

    Raises:
        MisalignedPredictions: They do.
    """
    if len(rows := np.flatnonzero(mine != others)):
        row = rows[0]
        raise MisalignedPredictions(
            f"{pair[0]!r} and {pair[1]!r} have other {field} for {len(rows)} of {len(mine)} samples, "
            f"e.g. {str(ids[row])!r}: {mine[row]} and {others[row]}; "
            "combine members made from the same samples and folds"
        )
