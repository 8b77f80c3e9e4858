"""What the ensemble stage did, told in 80 columns: who voted, each step, the class mix, what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from heads.registry import JOINT

Info = Mapping[str, Any]
STRENGTHS = {0.0: "not corrected, would harm", 0.5: "corrected by half, in full would harm", 1.0: "corrected"}
MEASURES = ("log_loss", "brier", "classwise_ece")
MOVES_SHOWN = 3
MEMBERS_SHOWN = 12  # of what each member adds
CLASSES = {head.name: head.classes for head in JOINT.parts} | {JOINT.name: JOINT.classes}


def render(info: Info, folder: Path) -> str:
    """The story of an ``ensemble.json`` that lies in ``folder``."""
    blocks = [
        _members(info),
        _chain(info),
        _reliability(info),
        _prior(info),
        _scores(info),
        _attribution(info),
        _submission(info, folder),
    ]
    return "\n\n".join("\n".join(lines) for lines in map(list, blocks) if lines)


def _members(info: Info) -> Iterator[str]:
    asked = info["asked"]["heads"]
    yield f"{asked['strategy']} vote, views {'+'.join(info['asked']['views'])}"
    yield ""
    yield "head    member                          weight   macro F1 alone   temperature"
    for name, head in info["heads"].items():
        for member in head["members"]:
            weight = "   stack" if member["weight"] is None else f"{member['weight']:8.3f}"
            heat = member["calibration"].get("temperature")
            shown = f"{heat:13.2f}" if heat else f"{member['calibration']['kind']:>13}"
            yield f"{name:<7} {member['run']:<29.29} {weight} {member['macro_f1']:16.4f} {shown}"
        vote = f"vote: cross-fitted {head['macro_f1_cross_fitted']:.4f}, in-sample {head['macro_f1_in_sample']:.4f}"
        ties = head["ties"]
        tied = f", ties {ties['oof']} oof, {ties['test']} eval" if asked["strategy"] == "hard" else ""
        yield f"{'':7} {vote}{tied}"


def _chain(info: Info) -> Iterator[str]:
    moved = info["prior"]["moved"]
    yield "step by step, macro F1 of the 18 classes out-of-fold, cross-fitted"
    yield f"{'':44}{'as trained':>10}" + (f"{'eval mix':>12}" if moved else "") + f"{'added':>9}"
    for row in info["steps"]:
        trained = f"{row['as_trained']:10.4f}" if row["as_trained"] is not None else f"{'':10}"
        there = f"{row['eval_mix']:12.4f}" if moved else ""
        added = f"{row['added']['macro_f1']:+9.4f}" if row["added"] else f"{'':9}"
        first, *more = wrap(_verdict(info, row["step"]), 42)
        yield f"{first:<44}{trained}{there}{added}".rstrip()
        yield from (f"  {line}" for line in more)


def _reliability(info: Info) -> Iterator[str]:
    """Log-loss, Brier score and class-wise ECE of each head; their intervals are in the file."""
    yield f"{'plain vote -> all steps':<25}{'log-loss':<18}{'Brier':<18}class-wise ECE"
    for name, head in info["heads"].items():
        before, after = head["reliability"]["before"], head["reliability"]["after"]
        pairs = (f"{before[key]['value']:.4f} -> {after[key]['value']:.4f}" for key in MEASURES)
        yield f"{name:<25}" + "  ".join(pairs)


def _verdict(info: Info, step: str) -> str:
    """What a step did, in a line."""
    heads = info["heads"]
    if step == "vote":
        return f"vote: {info['asked']['heads']['strategy']}, equal weights, all views, argmax"
    if step == "calibration":
        kinds = {name: head["calibration"] for name, head in heads.items()}
        return f"calibration: {_shared(kinds)}"
    if step == "views":
        views = {
            name: "+".join(view for view, share in head["views"].items() if share > 0) for name, head in heads.items()
        }
        return f"views: {_shared(views)}"
    if step == "weights":
        low, high = next(row["added"]["interval_95"] for row in info["steps"] if row["step"] == step)
        noise = "" if not low <= 0 <= high or not _fitted(heads) else " (within noise of equal ones)"
        return f"weights: {_shared({name: _weights(head) for name, head in heads.items()})}{noise}"
    if step == "decoder":
        return f"decoder: {info['decoder']['name']}"
    if step == "prior":
        return f"class mix: {STRENGTHS[info['prior']['strength']]}"
    if step == "by state":
        return f"temperatures by {info['asked']['by_state']}"
    if step == "person":
        return f"averaged over a person's photos: {', '.join(info['asked']['consistent'])}"
    tried = " (stacker would not pay)" if "trial" in info["joint"] and not info["joint"]["trial"]["kept"] else ""
    return f"joint rule: {info['joint']['kind']}{tried}"


def _weights(head: Info) -> str:
    """The weights, and whether what was tried is more than noise."""
    trials = head["trials"]["weights"]
    if len(head["members"]) == 1:
        return "one member"
    if not trials:
        return str(head["weights"])
    if head["weights"] == "uniform":
        return f"equal ({trials[-1]['weights']} would not pay)"
    return str(head["weights"])


def _fitted(heads: Info) -> bool:
    """Whether any head has weights other than equal ones."""
    return any(head["weights"] != "uniform" and len(head["members"]) > 1 for head in heads.values())


def _shared(by_head: Mapping[str, str]) -> str:
    """One word when all heads have the same, else a word for each."""
    if len(set(by_head.values())) == 1:
        return next(iter(by_head.values()))
    return ", ".join(f"{name} {word}" for name, word in by_head.items())


def _prior(info: Info) -> Iterator[str]:
    prior = info["prior"]
    if not prior["shifts"]:
        return
    yield "class mix of the eval set"
    for name, shift in prior["shifts"].items():
        if name == JOINT.name:
            yield from _indented(f"{name:<8}{len(shift['train'])} classes; {shift['reason'] or 'used'}")
            continue
        if len(shift["interval_95"]) == 0 and shift["reason"]:
            yield from _indented(f"{name:<8}left as it is: {shift['reason']}")
            continue
        yield f"  {name:<7} train     {_mix(name, shift['train'])}"
        yield f"  {'':7} {'estimate' if shift['interval_95'] else 'given':<9} {_mix(name, shift['estimate'])}"
        if shift["interval_95"]:
            ends = (f"{low:.3f}-{high:.3f}" for low, high in shift["interval_95"])
            yield f"  {'':7} {'95 %':<9} " + " ".join(ends)
        if shift["interval_95"] and not shift["reason"]:
            yield f"  {'':7} {'assumed':<9} {_mix(name, shift['used'])}"
        if shift["reason"]:
            yield from (f"  {'':7} {line}" for line in wrap(f"left as it is: {shift['reason']}", 68))


def _mix(head: str, shares: Sequence[float]) -> str:
    return " ".join(f"{name} {share:.3f}" for name, share in zip(CLASSES[head], shares, strict=True))


def _indented(text: str) -> Iterator[str]:
    """The text over lines of 78 columns, all but the first further in."""
    yield from (f"  {'' if number == 0 else ' ' * 8}{line}" for number, line in enumerate(wrap(text, 68)))


def _scores(info: Info) -> Iterator[str]:
    fair, trained, fitted = info["cross_fitted"], info["as_trained"], info["in_sample"]
    yield f"18 classes, {fair['photos']} photos"
    if info["prior"]["moved"]:
        yield f"  eval set's mix  macro F1 {_scored(fair)}"
        yield f"  as trained      macro F1 {_scored(trained)}"
    else:
        yield f"  macro F1 {_scored(fair)}"
    yield f"  macro F1 {fitted['macro_f1']:.4f} in-sample, accuracy {fair['accuracy']:.4f} cross-fitted"


def _scored(score: Info) -> str:
    low, high = score["interval_95"]
    return f"{score['macro_f1']:.4f} cross-fitted, 95 % {low:.3f}-{high:.3f} over people"


def _attribution(info: Info) -> Iterator[str]:
    given = info["attribution"]
    yield "what to work on: macro F1 that would be added"
    for name, change in sorted(given["heads"].items(), key=lambda item: -item[1]["macro_f1"]):
        yield f"  {f'{name} always right':<48} {_change(change)}"
    members = sorted(given["members"], key=lambda member: -abs(member["macro_f1"]))
    if members:
        yield "what each member adds"
    for member in members[:MEMBERS_SHOWN]:
        yield f"  {member['head']:<7} {member['run']:<40.40} {_change(member)}"
    if len(members) > MEMBERS_SHOWN:
        yield f"  and {len(members) - MEMBERS_SHOWN} more with less effect (see ensemble.json)"


def _change(change: Info) -> str:
    low, high = change["interval_95"]
    return f"{change['macro_f1']:+.4f} ({low:+.3f} to {high:+.3f})"


def _submission(info: Info, folder: Path) -> Iterator[str]:
    if not info["submission_rows"]:
        yield f"no photos to predict, so no submission; the vote is in {folder}"
        return
    moves = info["submission"]["moved_by_prior"]
    if info["prior"]["moved"]:
        what = "the correction" if info["prior"]["strength"] else "deciding in the eval set's mix"
        yield f"{what} changed {moves['rows']} of {info['submission_rows']} answers"
        for pair in moves["pairs"][:MOVES_SHOWN]:
            yield f"  {pair['rows']:5} from {pair['from']} to {pair['to']}"
    yield f"submission: {folder / 'submission.csv'} ({info['submission_rows']} rows)"
