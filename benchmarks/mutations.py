"""Ways to damage a valid file, by its format: bytes, tables, settings, JSON, arrays, weights and pictures."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

Mutation = Callable[[bytes, random.Random], bytes]

TEXTS = [
    "", " ", "nan", "-inf", "1e999", "=1+1", "../../x", "/etc/passwd", ".", "a/b", "\0", '"', "'", "\x1b[31m", "\u202e",
    "\ud7ff", "\U0010ffff", "x" * 300, "x" * 5_000, "a\nb", "a,b", "0" * 400, "-1", "wear", "male", "60", "p00",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, -1, 0, 3, 2**63, 10**400, 0.5, -1e308, float("nan"), float("inf"), "", "../x", "a\0", "x" * 5_000,
    "\ud800", "\x1b]0;x\x07", [], {}, [[]], [1, "a"], {"a": {}}, {"../../x": 1}, ["identity"], "2026",
]  # fmt: skip
TOML = [
    "nan", "-inf", "1e400", "-1", "0", "true", '""', '"a\\u0000b"', '"\\u001b[31m"', "[]", "[nan, nan, nan]", "{}",
    "[1, 30, nan, 60, 65]", "[0.5, inf, 0.5]", "2020-01-01", "0x" + "f" * 6_000, "9" * 400, "9" * 5_000, "[" * 3_000,
    "{a = " * 2_000, '["identity", "../x"]', "[[1], {a = 2}]", '"' + "x" * 5_000 + '"', "{a = nan}", "{a = 2020-01-01}",
    '{checkpoint_path = "x.pth"}', "'bins'", "[15, 30, 60, 65]", "5", "0.25",
]  # fmt: skip
NUMBERS = [0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, 10**12]


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    """A cut, some flipped bits, a part lost, doubled or overwritten."""
    data, size = bytearray(content), len(content)
    start = rng.randrange(size)
    end = min(size, start + rng.choice([1, 4, 16, 200]))
    match rng.randrange(6):
        case 0:
            return content[:start]
        case 1:
            for _ in range(rng.choice([1, 1, 2, 8])):
                data[rng.randrange(size)] ^= 1 << rng.randrange(8)
        case 2:
            del data[start:end]
        case 3:
            data[start:start] = data[start:end]
        case 4:
            data[start:end] = rng.choice([b"\0", b"\xff", b'"', b"\x80", b"["]) * (end - start)
        case _:
            number = struct.pack(rng.choice(["<Q", ">Q"]), rng.choice(NUMBERS))[: rng.choice([4, 8])]
            data[start : start + len(number)] = number
    return bytes(data)


def damaged_table(content: bytes, rng: random.Random) -> bytes:
    """A CSV with an odd cell, a row doubled or too short, many columns, another encoding."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    row, encoding = rng.choice(rows), "utf-8"
    match rng.randrange(8):
        case 0 | 1:
            row[rng.randrange(len(row))] = rng.choice(TEXTS)
        case 2:
            rows.append(list(row))
        case 3:
            row.pop()
        case 4:
            width = rng.choice([1, 50, 3_000])
            rows = [
                [*cells, *(f"c{k}" if number == 0 else "" for k in range(width))] for number, cells in enumerate(rows)
            ]
        case 5:
            encoding = rng.choice(["utf-8-sig", "utf-16", "utf-32", "latin-1"])
            row[0] += "é"
        case 6:
            rows.insert(rng.randrange(len(rows)), [""] * rng.randrange(4))
        case _:
            column = rng.randrange(len(rows[0]))
            rows = [[cell for k, cell in enumerate(cells) if k != column] for cells in rows]
    return rng.choice(["\n", "\r\n"]).join(map(",".join, rows)).encode(encoding, "replace")


def damaged_settings(content: bytes, rng: random.Random) -> bytes:
    """TOML with another value, a misspelt or doubled setting."""
    lines = content.decode().splitlines()
    number = rng.randrange(len(lines))
    name = lines[number].split(" = ")[0]
    match rng.randrange(8):
        case 0:
            lines.append(lines[number])
        case 1:
            lines[number] = lines[number].replace(name, rng.choice([name[:-1], "x" * 3_000, '"\\u001b"']), 1)
        case _:
            lines[number] = f"{name} = {rng.choice(TOML)}"
    return "\n".join(lines).encode()


def damaged_json(content: bytes, rng: random.Random) -> bytes:
    """JSON in which some node is lost, added or another value; or nested beyond any depth."""
    if rng.random() < 0.02:
        return content.replace(b": ", b": " + b"[" * 100_000, 1)
    tree = json.loads(content)
    for _ in range(rng.choice([1, 1, 2])):
        holder, key = rng.choice(list(_nodes(tree)))
        match rng.randrange(4):
            case 0:
                del holder[key]
                break  # the other nodes may be gone with it
            case 1 if isinstance(holder, dict):
                holder[rng.choice(TEXTS)] = rng.choice(VALUES)
            case _:
                holder[key] = rng.choice(VALUES)
    return json.dumps(tree).encode()


def _nodes(tree: Any) -> list[tuple[Any, Any]]:
    pairs = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    return [(tree, key) for key, _ in pairs] + [node for _, child in pairs for node in _nodes(child)]


def damaged_arrays(content: bytes, rng: random.Random) -> bytes:
    """An npz with other dtypes, shapes or values, packed members, or headers that claim what is not there."""
    with np.load(io.BytesIO(content)) as archive:
        arrays: dict[str, Any] = dict(archive)
    name = rng.choice(list(arrays))
    array = arrays[name]
    out = io.BytesIO()
    match rng.randrange(9):
        case 0:
            numbers = np.arange(len(array)) if array.dtype.kind == "U" else array
            arrays[name] = numbers.astype(rng.choice(["U30", "S30", "f2", ">f8", "i1", "u8", "?", "c8", "O"]))
        case 1:
            arrays[name] = rng.choice(
                [array[:-1], array[None], array[:0], array.T, array.ravel(), array.repeat(2, axis=0)]
            )
        case 2:
            arrays[name] = _with_value(array, rng)
        case 3:
            del arrays[name]
        case 4:
            np.savez_compressed(out, **arrays)
            return out.getvalue()
        case 5:
            arrays["x" * 200] = np.arange(3)
        case _:
            return _rebuilt(content, rng)
    np.savez(out, **arrays)
    return out.getvalue()


def _with_value(array: Any, rng: random.Random) -> Any:
    array = array.copy()
    flat = array.reshape(-1)
    place = rng.randrange(len(flat))
    if array.dtype.kind == "U":
        if rng.random() < 0.3:
            array.view(np.uint32).reshape(-1)[place] = rng.choice([0xD800, 0x110000, 2**31, 0])
        else:
            flat[place] = flat[rng.randrange(len(flat))]
    else:
        flat[place] = (
            rng.choice([-1, 0, 1, 99, 2**40]) if array.dtype.kind == "i" else rng.choice([np.nan, np.inf, -1, 0.3])
        )
    return array


def _rebuilt(content: bytes, rng: random.Random) -> bytes:
    """The same members, one of them damaged under a right checksum."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    old = members[name]
    match rng.randrange(4):
        case 0:
            members[name] = damaged_bytes(old[:128], rng) + old[128:]
        case 1:
            members[name] = damaged_bytes(old, rng)
        case 2:
            shape = rng.choice([(10**12,), (-1,), (10**9, 10**9), (0, 10**12), (2,) * 80, (), (True,), (5,)])
            descr = rng.choice(["<f8", "<i8", "<U0", "<U5", "|O", "|V8", "<M8[s]", "<f16", [("a", "<f8")]])
            header = str({"descr": descr, "fortran_order": rng.random() < 0.5, "shape": shape}).encode()
            header += b" " * (118 - len(header) % 64) + b"\n"
            members[name] = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + old[128:]
        case _:
            members[name] = b"\x80\x04cos\nsystem\n(S'true'\ntR."
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice([zipfile.ZIP_STORED] * 3 + [zipfile.ZIP_DEFLATED])) as archive:
        for each, data in members.items():
            archive.writestr(each, data)
    return out.getvalue()


def damaged_weights(content: bytes, rng: random.Random) -> bytes:
    """Safetensors whose header is damaged as JSON or in its length, or whose numbers are none."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    match rng.randrange(4):
        case 0:
            return struct.pack("<Q", rng.choice([*NUMBERS, length - 1, length + 1])) + content[8:]
        case 1:
            place = rng.randrange(0, len(data) - 3, 4)
            value = struct.pack("<f", rng.choice([float("nan"), float("inf"), -1e30, 0.5]))
            return content[: 8 + length] + data[:place] + value + data[place + 4 :]
        case 2:
            kind = rng.choice([b"F16", b"F64", b"I32", b"U8", b"BOOL", b"BF16", b"F8_E4M3", b"C64"])
            header = header.replace(b"F32", kind, rng.choice([1, -1]))
        case _:
            header = damaged_json(header, rng)
    return struct.pack("<Q", len(header)) + header + data


def damaged_picture(content: bytes, rng: random.Random) -> bytes:
    """A picture with another size in its header, damaged parts under right checksums (PNG), or damaged bytes."""
    if content.startswith(b"\x89PNG") and rng.random() < 0.6:
        return _damaged_png(content, rng)
    if content.startswith(b"\xff\xd8") and rng.random() < 0.2:
        place = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2")) + 5
        return content[:place] + rng.randbytes(4) + content[place + 4 :]
    return damaged_bytes(content, rng)


def _damaged_png(content: bytes, rng: random.Random) -> bytes:
    chunks, place = [], 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += length + 12
    number = rng.randrange(len(chunks) - 1)
    kind, data = chunks[number]
    if kind == b"IHDR":
        size = struct.pack(">II", *(rng.choice([0, 1, 7, 32, 9_000, 60_000, 2**31 - 1]) for _ in range(2)))
        data = size + bytes([rng.choice([1, 8, 16]), rng.choice([0, 2, 3, 4, 6]), 0, 0, rng.randrange(2)])
    elif kind == b"IDAT":
        data = zlib.compress(damaged_bytes(zlib.decompress(data), rng))
    else:
        data = damaged_bytes(data, rng)
    chunks[number] = (kind, data)
    whole = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return content[:8] + b"".join(whole)


def either(special: Mutation) -> Mutation:
    """Half of the damage by format, half by bytes."""
    return lambda content, rng: (special if rng.random() < 0.6 else damaged_bytes)(content, rng)
