"""Checks of the training itself: the network, its weights, the data and its folds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from pipeline.doctor.case import Case, refused
from pipeline.doctor.folders import nearest
from pipeline.doctor.machine import usable_memory
from pipeline.errors import LayoutError, NetworkError
from pipeline.findings import Finding, error, ok, size, warning
from pipeline.hub import cached_weights

LARGE = 500_000_000  # parameters; to draw as many takes ten seconds
WORDS = ("imagenet", "none")
OTHER_WEIGHTS = "use --weights FILE or --weights none"


def network(case: Case) -> Iterator[Finding]:
    """The network: built, weights of a file loaded into it, and one grey photo sent through; nothing is downloaded."""
    from pipeline.network import try_network

    config = case.config
    try:
        held, usable = case.parameters * 4, usable_memory()
        if usable is not None and held > usable:
            yield error(
                f"network: the parameters of {config.backbone} take {size(held)}, {size(usable)} of memory are free",
                "use a smaller --backbone",
            )
            return
        if case.parameters > LARGE and config.weights in WORDS:
            yield warning(
                f"network: {config.backbone}, {case.parameters:,} parameters, is not tried here: that takes minutes",
                "try it with `pipe train-head mask --dry-run`",
            )
            return
        try_network(replace(config, weights="none") if config.weights == "imagenet" else config, n_outputs=1)
    except NetworkError as reason:
        yield refused(reason, fix="choose another --backbone, --weights or --image-size")
        return
    loaded = "" if config.weights in WORDS else f", weights of {config.weights} fit"
    yield ok(f"network: {config.backbone}, {case.parameters:,} parameters, takes {config.image_size} px{loaded}")


def weights(case: Case) -> Iterator[Finding]:
    """Where the weights to start from are."""
    if case.config.weights == "none":
        yield ok("weights: none; training from scratch needs many more photos and epochs than `imagenet` weights do")
    elif case.config.weights == "imagenet":
        yield from _imagenet(case)


def _imagenet(case: Case) -> Iterator[Finding]:
    from pipeline.network import imagenet_source

    name = case.config.backbone
    try:
        count = case.parameters
    except NetworkError:
        return  # told by the check of the network
    try:
        source = imagenet_source(name)
    except NetworkError as reason:
        yield refused(reason, fix=OTHER_WEIGHTS)
        return
    found, cache = cached_weights(source)
    text = f"weights: imagenet weights of {name}"
    if found:
        yield ok(f"{text} are in {cache}")
    elif source.hf_hub_id and _offline():
        yield error(f"{text} are not on this machine, and HF_HUB_OFFLINE forbids their download", OTHER_WEIGHTS)
    elif not os.access(nearest(cache), os.W_OK):
        home = "HF_HOME" if source.hf_hub_id else "TORCH_HOME"
        yield error(f"{text} cannot be kept in {cache}", f"set {home} to a folder that can be written")
    else:
        yield warning(
            f"{text} will be downloaded at the first training ({count:,} parameters)",
            "without internet, copy a file with timm's names here and use --weights FILE",
        )


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def data(case: Case) -> Iterator[Finding]:
    """The photos' tables: a layout fits, labels are labels, and the first photo can be read."""
    from pipeline.layouts import persons_of

    try:
        found = case.dataset
        if found is None:
            yield warning("data: not checked, none is given and there is no folder data/ here", "give --data DIR")
            return
        with found.samples.paths[0].open("rb") as stream:
            stream.read(1)
    except LayoutError as reason:
        yield refused(reason, fix=f"`pipe data check {case.data}` lists all that is wrong")
        return
    except OSError as reason:
        yield error(
            f"data: cannot read {reason.filename}: {reason.strerror}", "make it readable, or give another --data"
        )
        return
    yield ok(
        f"data: {found.layout} layout, {persons_of(found):,} people, {len(found.samples.ids):,} photos, "
        f"{len(found.test_ids):,} to predict; `pipe data check {case.data}` opens every photo"
    )


def folds(case: Case) -> Iterator[Finding]:
    """Whether every head that has labels can be learnt over these folds."""
    from heads.registry import LABELS
    from pipeline.folds import make_folds, require_classes
    from pipeline.samples import labelled_rows

    config = case.config
    try:
        found = case.dataset
    except (LayoutError, OSError):
        return  # told by the check of the data
    if found is None:
        return
    try:
        table = make_folds(found.samples, config.folds, config.fold_seed)
    except LayoutError as reason:
        yield refused(reason, fix="use fewer --folds")
        return
    fit, without = [], []
    for head in LABELS:
        try:
            labelled_rows(head, found.samples)
        except LayoutError:
            without.append(head.name)
            continue
        try:
            require_classes(head, found.samples, table)
        except LayoutError as reason:
            yield refused(reason, fix="use fewer folds, or do not train this head")
            continue
        fit.append(head.name)
    lacking = f"; no labels for {', '.join(without)}" if without else ""
    if fit:
        yield ok(f"folds: {config.folds}, each with all classes of {', '.join(fit)}{lacking}")
