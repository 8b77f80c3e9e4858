"""Imagenet weights: whether they are on this machine, and fetching them without a flood of lines."""

from __future__ import annotations

import logging
import os
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pipeline.errors import NetworkError
from pipeline.progress import say

HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # the names that timm asks the hub for


def cached_weights(source: Any) -> tuple[bool, Path]:
    """Whether weights are already on this machine, and the folder that timm keeps them in.

    Args:
        source: timm's entry of where they come from; the hub goes before the address.
    """
    if not source.hf_hub_id:
        import torch

        address = source.url if isinstance(source.url, str) else source.url[0]
        file = os.path.basename(urlparse(address).path) if isinstance(source.url, str) else source.url[1]
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        return (folder / file).is_file(), folder
    from huggingface_hub import constants, try_to_load_from_cache

    repository, _, revision = source.hf_hub_id.partition("@")
    files = (source.hf_hub_filename,) if source.hf_hub_filename else HUB_FILES
    found = [try_to_load_from_cache(repository, file, revision=revision or None) for file in files]
    return any(isinstance(path, str) for path in found), Path(constants.HF_HUB_CACHE)


@contextmanager
def fetching(name: str, source: Any) -> Iterator[None]:
    """Say that weights are downloaded, where they are, and keep the library's lines about retries off the terminal.

    Raises:
        NetworkError: They are not on this machine, and the host's name is unknown: asking again for minutes is in vain.
    """
    if source.hf_hub_id and not cached_weights(source)[0]:
        from huggingface_hub import constants

        host = urlparse(constants.ENDPOINT).hostname or ""
        if not constants.HF_HUB_OFFLINE and not _known(host):
            raise NetworkError(
                f"the imagenet weights of {name} are not on this machine, and {host} cannot be found from here; "
                "check the connection, or use --weights FILE or --weights none"
            )
        say(f"downloading the imagenet weights of {name}; once on this machine, they stay")
    library = logging.getLogger("huggingface_hub")
    before = library.level
    library.setLevel(logging.ERROR)
    try:
        yield
    finally:
        library.setLevel(before)


def _known(host: str) -> bool:
    """Whether the name leads anywhere, or a proxy is asked instead of this machine."""
    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True
