"""Weights by greedy selection: the members that the vote can use most, one after the other, some of them often.

Legend: N samples, C classes, M members, m members of a bag.
"""

from collections.abc import Callable

import numpy as np

from ensemble.metrics import precision_recall_f1
from ensemble.predictions import Array, Indices

Losses = Callable[[Array], Array]  # (m, ...) what each of m votes says -> (m,) how bad it is

BAGS = 20
STEPS = 50  # selections after the start; a share is known to about 1 / STEPS
PATIENCE = 5  # selections without a better vote: a step can be too long at first and right when shares are finer
LEAST = 1e-9  # a loss that is lower by less is not better: rounding, or a member that is selected once more
FACTORS = 16  # of probabilities of at least 2e-16 have a product that does not underflow; a logarithm costs more
TIE = 1e-6  # macro F1 that a nat of log-loss is worth: it decides only where F1 does not


def greedy_weights(members: Array, losses: Losses, *, bags: int = BAGS, steps: int = STEPS, seed: int = 0) -> Array:
    """(M,) shares of the selections, averaged over bags of members.

    Ensemble selection of Caruana, Niculescu-Mizil, Crew & Ksikes 2004, https://doi.org/10.1145/1015330.1015432: with
    replacement, a sorted start, and bags of a little more than half of the members. Bags are drawn in pairs, of which
    one takes members from the front of a random order and the other from its end, so that no member is in many more
    bags than another. Where the average over bags is worse than the best member, what was selected from all members is
    returned, which never is. Members that are equal to the last bit are one member that shares its weight.

    Args:
        members: (M, ...) what each member says; a vote is an average of them.
        losses: How bad each of several votes is.
        bags: How many bags are drawn, an even number; or 1, a bag of all members.
        steps: Most selections after the start.
        seed: Of the bags.
    """
    distinct, copy_of = _distinct(members)
    ranked = np.argsort(losses(members[distinct]), kind="stable")
    pool = members[distinct[ranked]]
    shares = np.zeros(len(pool))
    for bag in _bags(len(pool), bags, seed):
        counts = _selected(pool[bag], losses, steps)
        shares[bag] += counts / counts.sum()
    shares /= shares.sum()
    averaged, alone = losses(np.stack([np.tensordot(shares, pool, axes=1), pool[0]]))
    if averaged > alone:
        counts = _selected(pool, losses, steps)
        shares = counts / counts.sum()
    found = np.empty_like(shares)
    found[ranked] = shares
    weights: Array = (found / np.bincount(copy_of))[copy_of]
    return weights


def mean_log_loss(given: Array) -> Array:
    """(m,) mean log-loss in nats of (m, N) probabilities of the true classes, each 2e-16 or more."""
    m, n = given.shape
    whole = n // FACTORS * FACTORS
    products = given[:, :whole].reshape(m, FACTORS, -1).prod(axis=1)
    losses: Array = -(np.log(products).sum(axis=1) + np.log(given[:, whole:]).sum(axis=1)) / n
    return losses


def macro_f1_loss(targets: Indices) -> Losses:
    """1 - macro F1 of (m, C, N) votes; votes of equal F1 are told apart by their log-loss.

    Args:
        targets: (N,) true class indices.
    """
    rows = np.arange(len(targets))

    def losses(votes: Array) -> Array:
        n_classes = votes.shape[1]
        size = n_classes**2
        cells = targets * n_classes + _highest(votes) + size * np.arange(len(votes))[:, None]
        counts = np.bincount(cells.ravel(), minlength=size * len(votes)).reshape(-1, n_classes, n_classes)
        scores: Array = precision_recall_f1(counts)[..., 2].mean(axis=1)
        return 1 - scores + TIE * mean_log_loss(votes[:, targets, rows])

    return losses


def _highest(votes: Array) -> Indices:
    """(m, N) argmax over the classes of (m, C, N): a class at a time, which is several times faster than argmax."""
    highest, labels = votes[:, 0].copy(), np.zeros(votes[:, 0].shape, dtype=np.int64)
    for label in range(1, votes.shape[1]):
        labels[votes[:, label] > highest] = label
        np.maximum(highest, votes[:, label], out=highest)
    return labels


def _distinct(members: Array) -> tuple[Indices, Indices]:
    """A row of each different member, in an order that the order of members does not touch; and (M,) which it is."""
    names = [member.tobytes() for member in members]
    found = {name: row for row, name in enumerate(names)}
    places = {name: place for place, name in enumerate(sorted(found))}
    return np.array([found[name] for name in places]), np.array([places[name] for name in names])


def _bags(n_members: int, bags: int, seed: int) -> list[Indices]:
    """Bags of members, each in order; where half of them and one are all of them, a single bag."""
    size = n_members // 2 + 1
    if bags == 1 or size >= n_members:
        return [np.arange(n_members)]
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n_members) for _ in range(bags // 2)]
    return [np.sort(part) for order in orders for part in (order[:size], order[-size:])]


def _selected(members: Array, losses: Losses, steps: int) -> Array:
    """(m,) how often each member is in the best vote that was met on the way; ``members`` are sorted, best first."""
    sizes = np.arange(1, len(members) + 1)
    sums = members.cumsum(axis=0)
    starts = losses(sums / sizes.reshape(-1, *[1] * (members.ndim - 1)))
    first = int(starts.argmin())
    counts = (sizes <= first + 1).astype(np.float64)
    total, best, lowest, waited = sums[first], counts, float(starts[first]), 0
    for size in range(first + 2, first + 2 + steps):
        tried = losses((total + members) / size)
        chosen = int(tried.argmin())
        total = total + members[chosen]
        counts = counts + (np.arange(len(members)) == chosen)
        waited += 1
        if tried[chosen] < lowest - LEAST:
            best, lowest, waited = counts, float(tried[chosen]), 0
        if waited == PATIENCE:
            break
    return best
