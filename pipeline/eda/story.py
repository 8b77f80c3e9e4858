"""The look at the data as text of 80 columns: tables, then findings with what to do about each."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator

from pipeline.eda.explore import Light, Report
from pipeline.eda.odd import BRIGHT, DARK, FAR, FLAT, SMALL, Odd
from pipeline.findings import Finding, Findings, error, many, ok, warning
from pipeline.terminal import one_line

WIDTH = 80  # columns of text
FEW = 30  # people of a class; an error more or less on them moves macro F1
UNEVEN = 0.05  # share of photos by which a fold may differ from all
FEWEST = 50  # photos, for a median that is compared
REASONS = {
    "far": f"more than {FAR:g} times as far from their class as usual",
    "dark": f"of a brightness below {DARK:g}",
    "bright": f"of a brightness above {BRIGHT:g}",
    "flat": f"of a contrast below {FLAT:g}",
    "small": f"less than {SMALL} pixels wide or high",
}
REMEDIES = {
    "far": "look at them: a wrong label goes into your own fixes (--fixes), what shows no face out of the data",
    "dark": "look whether the face can still be seen",
    "bright": "look whether the face can still be seen",
    "flat": "look whether there is a face at all",
    "small": "an image_size above theirs adds nothing to them",
}


def findings_of(report: Report) -> Findings:
    """What is worth knowing before training, in groups; what needs something done says what."""
    return Findings(
        {
            "data": list(_data(report)),
            "classes": list(_classes(report)),
            "folds": list(_folds(report)),
            "photos": list(_photos(report)),
            "near-duplicates": list(_twins(report)),
        }
    )


def verdict(report: Report) -> str:
    """Whether training can begin, in one line."""
    if hindered(report):
        return "training on this data would be wrong; mend the errors"
    return "this data can be trained on: `pipe train-head mask`, or first `pipe doctor`"


def hindered(report: Report) -> bool:
    """Whether a training would be wrong or refused."""
    return not report.check.ok or bool(report.refused) or bool(report.fold_faults)


def _data(report: Report) -> Iterator[Finding]:
    problems = report.check.problems
    for severity, make, words in (
        ("error", error, "make training wrong or impossible"),
        ("warning", warning, "are odd"),
    ):
        kinds = Counter(problem.kind for problem in problems if problem.severity == severity)
        if kinds:
            listed = ", ".join(f"{kind} ({count:,})" for kind, count in kinds.most_common())
            yield make(f"things that {words}: {listed}", f"read them with `pipe data check {report.check.root}`")
    if report.refused and report.check.ok:
        yield error(report.refused, "mend it, or leave labels as they are with --no-fixes")
    if not problems:
        yield ok("the data check finds no fault")
    if report.fixed:
        yield ok(f"label fixes applied: {report.fixed}")


def _classes(report: Report) -> Iterator[Finding]:
    if not report.classes:
        yield error("no photo carries a label", "fill a column of labels, see the README")
        return
    there = {name: count for name, count in report.classes.items() if count.photos}
    if lacking := [name for name in report.classes if name not in there]:
        text = f"{len(lacking)} of {len(report.classes)} classes have no photo: {', '.join(lacking)}"
        yield warning(text, "they cannot be judged here; get photos of them")
    if there:
        rarest = min(there, key=lambda name: there[name].photos)
        times = max(count.photos for count in there.values()) / there[rarest].photos
        text = (
            f"rarest class: {rarest}, {many(there[rarest].photos, 'photo')} of {there[rarest].people:,} people; the "
            f"commonest has {times:.0f} times as many photos"
        )
        remedy = "macro F1 counts it like any other: more people of it help most; try --set sampler=sqrt-balanced"
        yield warning(text, remedy) if there[rarest].people < FEW and len(there) > 1 else ok(text)
    if report.partly:
        lack = "photo lacks" if report.partly == 1 else "photos lack"
        yield ok(f"{report.partly:,} {lack} a label; each head learns from those that have its own")
    for head, quantity in report.quantities.items():
        cuts = "; ".join(f"{edge:g}: {low:,} below, {high:,} above" for edge, (low, high) in quantity.near.items())
        yield ok(f"people within two years of a cut of {head}: {cuts}")


def _folds(report: Report) -> Iterator[Finding]:
    for fault in report.fold_faults:
        yield error(f"folds: {fault}", "see `pipe folds`")
    if report.folds:
        folds, people = report.folds, report.folds.people
        text = f"{len(people)} folds of {min(people):,} to {max(people):,} people"
        if folds.widest:
            text += f"; shares of classes differ by at most {folds.spread:.1%} of the photos ({folds.widest})"
        uneven = warning(text, "try another fold_seed in the settings file, or fewer folds")
        yield uneven if folds.spread > UNEVEN else ok(text)


def _photos(report: Report) -> Iterator[Finding]:
    sizes = report.check.sizes
    named = ", ".join(f"{size} ({count:,})" for size, count in list(sizes.items())[:3])
    yield ok(f"sizes: {named}" + (f" and {len(sizes) - 3:,} others" if len(sizes) > 3 else ""))
    for group, lights in report.light.items():
        finding = _light(group, lights, report.light["set"])
        if finding:
            yield finding
    for odd in report.odd:
        yield _odd(odd)


def _odd(odd: Odd) -> Finding:
    first = odd.photos[0]
    return warning(f"photos {REASONS[odd.reason]}: {odd.count:,}, first {first.id}: {first.text}", REMEDIES[odd.reason])


def _light(group: str, lights: dict[str, Light], sets: dict[str, Light]) -> Finding | None:
    """A warning where photos of two classes, or of the two sets, differ by half a standard deviation of brightness."""
    usual = next(iter(sets.values()), None)
    known = {name: light for name, light in lights.items() if light.photos >= FEWEST}
    if usual is None or len(known) < 2:
        return None
    dark, bright = (pick(known, key=lambda name: known[name].median) for pick in (min, max))
    apart = known[bright].median - known[dark].median
    deviation = (usual.high - usual.low) / 2.563  # between the tenths of a normal distribution
    if apart < deviation / 2:
        return None
    what = "photos" if group == "set" else f"photos of {group}"
    return warning(
        f"{what} {bright!r} are brighter than {dark!r}: median {known[bright].median:.2f} and {known[dark].median:.2f}",
        "a network may take the light for the class: try --set augment=medium, which changes it",
    )


def _twins(report: Report) -> Iterator[Finding]:
    more = "" if report.twins_complete else "at least "
    learnt = [twins for twins in report.twins if not twins.to_predict]
    if learnt:
        first, contrary = learnt[0], sum(bool(twins.contrary) for twins in learnt)
        also = f", {contrary:,} of them with other labels" if contrary else ""
        yield warning(
            f"{more}{len(learnt):,} pairs of people share nearly the same picture{also}: {first.ids[0]} and "
            f"{first.ids[1]}",
            "if two are one person, file their photos under one person: in two folds, one part would be learnt and the "
            "other judged",
        )
    asked = {twins.other: twins for twins in report.twins if twins.to_predict}
    if asked:
        found = next(iter(asked.values()))
        yield warning(
            f"{more}{len(asked):,} photos to predict are nearly photos to learn from: {found.other} and {found.ids[0]}",
            "they are answered from memory, and say nothing about other people",
        )
    if not report.twins:
        yield ok("no two people share nearly the same picture, nor people and photos to predict")


def tables(report: Report) -> str:
    """What was counted, as text; findings not included."""
    found = report.check
    lines = _wrapped(
        f"{found.layout} data at {found.root}: {found.people:,} people, {found.photos:,} photos to learn from, "
        f"{found.eval_photos:,} to predict"
    )
    if report.classes:
        total = max(sum(count.photos for count in report.classes.values()), 1)
        lines += ["", f"{'class':<30} {'photos':>8} {'people':>8}   share"]
        lines += [
            f"{name:<30} {count.photos:>8,} {count.people:>8,} {count.photos / total:>7.1%}"
            for name, count in report.classes.items()
        ]
    lines += ["", *_people(report)]
    if report.folds:
        lines += ["", *_fold_table(report)]
    lines += ["", *_brightness(report)]
    if report.variance:
        shares = " and ".join(f"{share:.0%}" for share in report.variance[:2])
        lines += _wrapped(f"the first two principal components hold {shares} of the variance of colours")
    return "\n".join(lines)


def _people(report: Report) -> Iterator[str]:
    """Classes of each head, of each two heads, and the quantity, each in a line or a few."""
    for head, counts in report.heads.items():
        yield from _wrapped(f"{head}: " + ", ".join(f"{name} {c.people:,}" for name, c in counts.items()) + " people")
    for both, table in report.crossings.items():
        rows = (f"{name}: " + ", ".join(f"{k} {c.people:,}" for k, c in row.items()) for name, row in table.items())
        yield from _wrapped(f"{both}, people: " + "; ".join(rows))
    for head, quantity in report.quantities.items():
        values = list(quantity.people)
        cuts = " and ".join(f"{edge:g}" for edge in quantity.edges)
        yield from _wrapped(f"{head} from {min(values):g} to {max(values):g}, cut at {cuts}")


def _fold_table(report: Report) -> Iterator[str]:
    assert report.folds is not None
    folds = report.folds
    columns = {name: shares for classes in folds.shares.values() for name, shares in classes.items()}
    yield "fold people photos " + " ".join(f"{name:>6.6}" for name in columns)
    for fold, (people, photos) in enumerate(zip(folds.people, folds.photos, strict=True)):
        shares = " ".join(f"{column[fold]:6.1%}" for column in columns.values())
        yield f"{fold:>4} {people:6d} {photos:6d} {shares}"


def _brightness(report: Report) -> Iterator[str]:
    for group, lights in report.light.items():
        named = ", ".join(f"{name} {light.median:.2f}" for name, light in lights.items())
        if named:
            yield from _wrapped(f"brightness, median by {group}: {named}")


def _wrapped(text: str) -> list[str]:
    """The text in lines, with no line break of its own."""
    return textwrap.wrap(one_line(text), WIDTH, subsequent_indent="  ", break_on_hyphens=False)
