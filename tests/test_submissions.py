"""Submissions of any origin: voted over by id, checked against the template, compared; what is wrong is one line."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from ensemble.predictions import Predictions
from heads.registry import JOINT
from pipeline.ballots import percent
from pipeline.store import save_predictions
from pipeline.submissions import read_submission
from pipeline.terminal import columns_of, fitted
from tests.conftest import Cli
from tests.test_cli_errors import expect_one_line

IDS = [f"{number:04}.jpg" for number in range(40)]
EVIL = "\x1b[31mred\x1b]0;title\x07\u202egnp.\x9b1m\x7f"


def write(file: Path, answers: Sequence[object], ids: Sequence[str] = IDS) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("ImageID", "ans"), *zip(ids, answers, strict=True)])
    return file


def answers_of(file: Path) -> dict[str, int]:
    submission = read_submission(file)
    return dict(zip(submission.ids, submission.labels.tolist(), strict=True))


def drawn(seed: int, n: int = len(IDS)) -> list[int]:
    return list(map(int, np.random.default_rng(seed).integers(18, size=n)))


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three submissions in the current folder."""
    monkeypatch.chdir(tmp_path)
    base = drawn(0)
    second = [answer if row % 3 else (answer + 1) % 18 for row, answer in enumerate(base)]
    third = [answer if row % 5 else (answer + 7) % 18 for row, answer in enumerate(base)]
    return [
        write(Path(name), answers)
        for name, answers in zip(("a.csv", "b.csv", "c.csv"), (base, second, third), strict=True)
    ]


def prints_well(out: str) -> None:
    assert [line for line in out.splitlines() if not line.isprintable() or columns_of(line) > 80] == []


def test_a_vote_has_the_first_files_ids_in_its_order_and_plain_columns(three: list[Path], cli: Cli) -> None:
    code, out, err = cli("vote", *three)
    assert (code, err) == (0, "")
    prints_well(out)
    votes = [answers_of(file) for file in three]
    voted = answers_of(Path("voted.csv"))
    assert list(voted) == IDS
    assert Path("voted.csv").read_text().startswith("ImageID,ans\n0000.jpg,")
    for name in IDS:
        given = [vote[name] for vote in votes]
        assert voted[name] in given
        assert given.count(voted[name]) == max(map(given.count, given))


def test_files_are_joined_by_id_whatever_tool_wrote_them(three: list[Path], cli: Cli) -> None:
    cli("vote", *three, "--out", "plain.csv")
    rows = list(answers_of(three[1]).items())
    lines = [f"x,{float(answer)},  {name} " for name, answer in rows[::-1]]
    three[1].write_bytes(b"\xef\xbb\xbf" + "\r\n".join(["note,ans,ImageID", *lines, "", ""]).encode())
    assert cli("vote", *three, "--out", "odd.csv")[0] == 0
    assert Path("odd.csv").read_bytes() == Path("plain.csv").read_bytes()


def test_weights_decide_and_heads_can_be_voted_one_by_one(three: list[Path], cli: Cli) -> None:
    assert cli("vote", *three, "--strategy", "weighted", "--weights", "1,0,5")[0] == 0
    assert answers_of(Path("voted.csv")) == answers_of(three[2])
    for file, answer in zip(three, (0, 4, 8), strict=True):  # 0/0/0, 0/1/1, 1/0/2
        write(file, [answer] * 40)
    code, out, _ = cli("vote", *three, "--per-head")
    assert code == 0
    assert set(answers_of(Path("voted.csv")).values()) == {0}
    assert "age: 40 by first file" in out
    for file, answer in zip(three, (0, 4, 9), strict=True):  # 0/0/0, 0/1/1, 1/1/0
        write(file, [answer] * 40)
    assert json.loads(cli("vote", *three, "--per-head", "--json")[1])["in_no_file"] == {"rows": 40, "ids": IDS}
    assert set(answers_of(Path("voted.csv")).values()) == {3}
    assert json.loads(cli("vote", *three, "--json")[1])["in_no_file"] == {"rows": 0, "ids": []}


def test_what_json_says_of_a_vote(three: list[Path], cli: Cli) -> None:
    _, out, _ = cli("vote", *three, "--json")
    info = json.loads(out)
    tables = [list(answers_of(file).values()) for file in (*three, Path("voted.csv"))]
    shares = [[sum(map(int.__eq__, a, b)) / 40 for b in tables] for a in tables]
    assert info["agreement"] == [row[:3] for row in shares[:3]]
    assert [file["agrees_with_vote"] for file in info["files"]] == [row[3] for row in shares[:3]]
    for number, file in enumerate(info["files"]):
        others = {other: shares[number][other] for other in range(3) if other != number}
        assert file["nearest"]["agreement"] == max(others.values()) == others[file["nearest"]["number"] - 1]
    assert info["changed_from_first"] == sum(map(int.__ne__, tables[0], tables[3]))
    alone = [name for name, *given in zip(IDS, *tables[:3], strict=True) if len(set(given)) == 3]
    assert info["all_differ"] == {"rows": len(alone), "ids": alone}
    assert info["no_majority"]["ids"] == alone
    assert info["ties"]["rows"] == len(alone) > 0
    assert sum(info["ties"]["settled_by"]["class"].values()) == len(alone)
    assert 1 < info["effective_members"] < info["effective_members_on_contested"] <= 3
    assert sum(info["mix"]) == 40


def test_many_files_and_wide_names_fit_80_columns(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = [
        write(Path(f"마스크 분류 제출 파일 최종 진짜 최종 {seed} {'x' * seed}.csv"), drawn(seed)) for seed in range(14)
    ]
    for some in (files, files[:12]):
        code, out, _ = cli("vote", *some)
        assert code == 0
        prints_well(out)
        assert ("see --json" in out.split("effective")[0]) == (len(some) > 12)
    code, out, _ = cli("submission", "diff", files[0], files[1])
    prints_well(out)


def test_a_file_that_cannot_be_outvoted_is_named(three: list[Path], cli: Cli) -> None:
    assert "file 1 has half of the ballots: the others" in cli("vote", *three[:2])[1]
    weighted = ("--strategy", "weighted", "--weights")
    assert "file 3 has more than half of the ballots" in cli("vote", *three, *weighted, "1,1,3")[1]
    assert "outvote" not in cli("vote", *three, *weighted, "1,1,2")[1]


MISTAKES: dict[str, tuple[Callable[[], object], str, str]] = {
    "one file": (lambda: None, "a.csv", "a vote takes two or more files, got 1"),
    "no such file": (lambda: None, "a.csv none.csv", "none.csv: no such file, and no artifacts/ensembles/none.csv"),
    "no such folder": (lambda: None, "a.csv x/none.csv", "x/none.csv: no such file; give a file, or the name"),
    "a folder": (lambda: Path("d").mkdir(), "a.csv d", "d: no such file, and no .*submission.csv"),
    "a pipe": (lambda: os.mkfifo("p"), "a.csv p", "p: is not an ordinary file"),
    "given twice": (lambda: os.link("a.csv", "same.csv"), "a.csv same.csv", "same.csv is given twice; to let it count"),
    "out is an input": (lambda: None, "a.csv b.csv --out ./b.csv", "--out b.csv is one of the files that vote"),
    "out is a link to one": (
        lambda: os.symlink("b.csv", "l.csv"),
        "a.csv b.csv --out l.csv",
        "l.csv is one of the files",
    ),
    "out is a folder": (lambda: Path("d").mkdir(), "a.csv b.csv --out d", "--out d is not an ordinary file"),
    "out below a file": (lambda: None, "a.csv b.csv --out a.csv/v.csv", "cannot write a.csv/v.csv"),
    "unknown strategy": (
        lambda: None,
        "a.csv b.csv --strategy soft",
        "strategy must be one of hard, weighted, got 'so",
    ),
    "no weights": (lambda: None, "a.csv b.csv --strategy weighted", "needs --weights, a number for each file"),
    "weights of a hard vote": (lambda: None, "a.csv b.csv --weights 1,2", "--weights goes with --strategy weighted"),
    "too few weights": (lambda: None, "a.csv b.csv c.csv --strategy weighted --weights 1,2", "2 numbers for 3 files"),
    "weights that are words": (lambda: None, "a.csv b.csv --strategy weighted --weights 1,x", "numbers with commas"),
    "weights below 0": (lambda: None, "a.csv b.csv --strategy weighted --weights 1,-1", "must be 0 or more and not al"),
    "weights without end": (lambda: None, "a.csv b.csv --strategy weighted --weights 1,inf", "must be 0 or more"),
    "all weights 0": (lambda: None, "a.csv b.csv --strategy weighted --weights 0,0", "not all 0; got '0,0'"),
    "empty file": (lambda: Path("b.csv").write_text(""), "a.csv b.csv", "b.csv: is empty"),
    "no rows": (lambda: Path("b.csv").write_text("ImageID,ans\n"), "a.csv b.csv", "b.csv: has a header but no rows"),
    "no ans": (lambda: Path("b.csv").write_text("ImageID,label\nx,1\n"), "a.csv b.csv", "no column 'ans'; its columns"),
    "ragged": (lambda: Path("b.csv").write_text("ImageID,ans\nx,1\ny\n"), "a.csv b.csv", "line 3 has 1 cells"),
    "not text": (
        lambda: Path("b.csv").write_bytes(b"ImageID,ans\n\xff\xfe,1\n"),
        "a.csv b.csv",
        "cannot be read as a CSV",
    ),
    "18": (
        lambda: write(Path("b.csv"), [*drawn(0)[:-1], 18]),
        "a.csv b.csv",
        "line 41 has ans '18'; answers are whole",
    ),
    "below 0": (lambda: write(Path("b.csv"), [-1, *drawn(0)[1:]]), "a.csv b.csv", "line 2 has ans '-1'; answers"),
    "half": (lambda: write(Path("b.csv"), ["2.5"] * 40), "a.csv b.csv", r"line 2 has ans '2.5' \(40 such rows\)"),
    "nan": (lambda: write(Path("b.csv"), ["nan"] * 40), "a.csv b.csv", "line 2 has ans 'nan'"),
    "other digits": (lambda: write(Path("b.csv"), ["\u0663"] * 40), "a.csv b.csv", "line 2 has ans"),
    "a huge number": (lambda: write(Path("b.csv"), ["9" * 900] * 40), "a.csv b.csv", "line 2 has ans '9{40}'"),
    "a formula": (lambda: write(Path("b.csv"), ["=cmd|' /C calc'!A1"] * 40), "a.csv b.csv", "line 2 has ans"),
    "escapes": (lambda: write(Path("b.csv"), [EVIL] * 40), "a.csv b.csv", "line 2 has ans"),
    "no id": (lambda: write(Path("b.csv"), drawn(0), ["", *IDS[1:]]), "a.csv b.csv", "line 2 has no ImageID"),
    "an id twice": (
        lambda: write(Path("b.csv"), drawn(0), [*IDS[:39], IDS[3]]),
        "a.csv b.csv",
        "line 41 has ImageID '0003.jpg', which stands on line 5 already; keep one row a photo",
    ),
    "other ids": (
        lambda: write(Path("b.csv"), drawn(0), [*IDS[:38], f"x{EVIL}", "y"]),
        "a.csv b.csv",
        "b.csv: does not answer the photos of a.csv: 2 of its ids are missing, e.g. '0038.jpg', '0039.jpg'; 2 ids are",
    ),
    "more ids": (
        lambda: write(Path("b.csv"), [*drawn(0), 1], [*IDS, "x.jpg"]),
        "a.csv b.csv",
        "b.csv: does not answer the photos of a.csv: 1 ids are not in it, e.g. 'x.jpg'; give submissions for one templ",
    ),
    "fewer ids": (lambda: write(Path("b.csv"), drawn(0, 30), IDS[:30]), "a.csv b.csv", "10 of its ids are missing"),
}


@pytest.mark.parametrize(("prepare", "arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_vote_on_what_is_wrong_is_one_line_and_writes_nothing(
    prepare: Callable[[], object], arguments: str, message: str, three: list[Path], cli: Cli
) -> None:
    prepare()
    before = {file: file.read_bytes() for file in Path().rglob("*") if file.is_file()}
    code, out, err = cli("vote", *arguments.split())
    expect_one_line(code, err, message)
    assert err[:-1].isprintable()
    assert out == ""
    assert {file: file.read_bytes() for file in Path().rglob("*") if file.is_file()} == before


def test_a_full_disk_leaves_the_earlier_vote(three: list[Path], cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("vote", *three)[0] == 0
    before = Path("voted.csv").read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pipeline.files.os.fsync", full)
    code, _, err = cli("vote", three[1], three[0])
    expect_one_line(code, err, "cannot write voted.csv: the disk is full")
    assert Path("voted.csv").read_bytes() == before
    assert sorted(file.name for file in Path().iterdir()) == ["a.csv", "b.csv", "c.csv", "voted.csv"]


def test_ids_that_look_like_commands_stay_exact_in_files_and_harmless_on_the_screen(
    three: list[Path], cli: Cli
) -> None:
    ids = ["=1+1.jpg", f"{EVIL}.jpg", "a,b.jpg", '"q".jpg', *IDS[4:]]
    files = [write(Path(f"{EVIL[:9]}{seed}.csv"), drawn(seed), ids) for seed in range(3)]
    code, out, _ = cli("vote", *files, "--out", "v.csv")
    assert code == 0
    prints_well(out)
    assert "\\x1b[31mred" in out
    assert list(answers_of(Path("v.csv"))) == ids
    write(Path("t.csv"), [0] * 40, ids)
    for command in (("check", "v.csv", "--template", "t.csv"), ("check", files[0], "--template", "a.csv")):
        prints_well(cli("submission", *command)[1])
    prints_well(cli("submission", "diff", *files[:2])[1])
    assert json.loads(cli("submission", "diff", *files[:2], "--json")[1])["changed_ids"][:2] == ids[:2]


# ---- check


def check(cli: Cli, file: Path | str, template: Path | str = "info.csv") -> tuple[int, str, dict[str, Any]]:
    code, out, err = cli("submission", "check", file, "--template", template)
    assert err == ""
    prints_well(out)
    again, printed, _ = cli("submission", "check", file, "--template", template, "--json")
    assert again == code
    return code, " ".join(out.split()), json.loads(printed)


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of forty ids in the current folder."""
    monkeypatch.chdir(tmp_path)
    write(Path("info.csv"), [0] * 40)


ALL = [*range(18), *drawn(1)[18:]]


@pytest.mark.usefixtures("template")
def test_a_sound_submission_is_fit(cli: Cli) -> None:
    write(Path("s.csv"), ALL)
    code, out, info = check(cli, "s.csv")
    assert code == 0
    assert out.endswith("fit to be handed in")
    assert (info["ok"], info["errors"], info["warnings"]) == (True, 0, 0)
    assert list(info["mix"]) == list(JOINT.classes)
    assert list(info["mix"].values()) == np.bincount(ALL, minlength=18).tolist()
    write(Path("data/eval/info.csv"), [0] * 40)
    assert check(cli, "s.csv", "data")[0] == 0


FAULTS: dict[str, tuple[Callable[[], object], list[str]]] = {
    "missing": (lambda: write(Path("s.csv"), ALL[:38], IDS[:38]), ["ids missing: 2, e.g. '0038.jpg', '0039.jpg'"]),
    "surplus": (
        lambda: write(Path("s.csv"), [*ALL, 1], [*IDS, "x.jpg"]),
        ["rows whose id is not in the template: 1, e.g. 'x.jpg'"],
    ),
    "twice": (
        lambda: write(Path("s.csv"), [*ALL, 1], [*IDS, IDS[2]]),
        ["ids more than once: 1, e.g. '0002.jpg' on lines 4 and 42", "fix: keep one row an id"],
    ),
    "order": (
        lambda: write(Path("s.csv"), ALL, [IDS[1], IDS[0], *IDS[2:]]),
        ["rows in another order: 2, e.g. line 2 has '0001.jpg', the template '0000.jpg'", "fix: with pandas"],
    ),
    "no class": (
        lambda: write(Path("s.csv"), [*ALL[:38], 18, "=1"]),
        ["answers that are no class: 2, e.g. '18' on line 40 fix: answers are whole numbers from 0 to 17"],
    ),
    "empty answers": (
        lambda: write(Path("s.csv"), [*ALL[:38], "", "NaN"]),
        ["answers that are empty: 2, e.g. '' on line 40"],
    ),
    "decimal": (
        lambda: write(Path("s.csv"), [*ALL[:39], "3.0"]),
        ["answers with a decimal point: 1, e.g. '3.0' on line 41 fix: write whole numbers"],
    ),
    "an index": (
        lambda: Path("s.csv").write_text(
            "".join([",ImageID,ans\n", *(f"{n},{i},{a}\n" for n, (i, a) in enumerate(zip(IDS, ALL, strict=True)))])
        ),
        ["columns are '', 'ImageID', 'ans', not 'ImageID', 'ans'", "index=False"],
    ),
    "misnamed": (
        lambda: Path("s.csv").write_text("".join(["id,ans\n", *(f"{i},1\n" for i in IDS)])),
        ["columns are 'id', 'ans', not", "rename"],
    ),
    "empty file": (lambda: Path("s.csv").write_text(""), ["is empty"]),
    "no rows": (lambda: Path("s.csv").write_text("ImageID,ans\n"), ["has a header but no rows"]),
    "no text": (lambda: Path("s.csv").write_bytes(b"\xff\xfe\x00\x01"), ["cannot be read as a CSV in UTF-8"]),
}


@pytest.mark.usefixtures("template")
@pytest.mark.parametrize(("damage", "messages"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_told_with_count_example_and_cure(
    damage: Callable[[], object], messages: list[str], cli: Cli
) -> None:
    damage()
    code, out, info = check(cli, "s.csv")
    assert code == 1
    for message in messages:
        assert message in out
    assert out.endswith("do not hand it in: 1 fault")
    assert (info["ok"], info["errors"]) == (False, 1)


@pytest.mark.usefixtures("template")
def test_several_faults_are_told_together(cli: Cli) -> None:
    write(Path("s.csv"), [*ALL[:38], 99, 1], [*IDS[:38], IDS[0], "x.jpg"])
    code, out, info = check(cli, "s.csv")
    assert code == 1
    assert info["errors"] == 4
    assert out.endswith("do not hand it in: 4 faults")


@pytest.mark.usefixtures("template")
def test_what_a_grader_may_survive_is_a_warning(cli: Cli) -> None:
    write(Path("s.csv"), [0] * 40)
    Path("s.csv").write_bytes(b"\xef\xbb\xbf" + Path("s.csv").read_bytes())
    code, out, info = check(cli, "s.csv")
    assert code == 0
    assert info["warnings"] == 2
    assert "byte order mark" in out
    assert "classes never given: 17 of 18, e.g. 'wear/male/middle'" in out


@pytest.mark.usefixtures("template")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv", "--template", "info.csv"], "none.csv: no such file"),
        (["info.csv", "--template", "none.csv"], "none.csv: no such file"),
        (["info.csv", "--template", "."], r"\.: has no eval/info.csv; --template takes that file or the competition's"),
        (["info.csv", "--template", "twice.csv"], "twice.csv: ImageID 'x' is listed 2 times"),
        (["info.csv", "--template", "other.csv"], "other.csv: has no column 'ImageID'; its columns are: id"),
    ],
)
def test_a_check_without_file_or_template_is_one_line(arguments: list[str], message: str, cli: Cli) -> None:
    Path("twice.csv").write_text("ImageID\nx\nx\n")
    Path("other.csv").write_text("id\nx\n")
    code, _, err = cli("submission", "check", *arguments)
    expect_one_line(code, err, message)


# ---- diff


def ensemble(root: Path, name: str, answers: Sequence[int], top: Sequence[float]) -> Path:
    """An ensemble's folder: a submission, and probabilities of which the answer has ``top``, rows in reverse."""
    folder = root / "ensembles" / name
    write(folder / "submission.csv", answers)
    probs = np.repeat((1 - np.asarray(top))[:, None] / 17, 18, axis=1)
    probs[np.arange(40), answers] = top
    none = np.full(40, -1)
    save_predictions(
        folder / "joint.test.npz", Predictions(np.asarray(IDS[::-1]), JOINT.classes, probs[::-1], none, none)
    )
    return folder


def test_a_difference_is_counted_by_head_pair_and_confidence(three: list[Path], cli: Cli) -> None:
    answers = answers_of(three[0])
    top = [0.2] * 10 + [0.4] * 10 + [0.6] * 10 + [0.9] * 5 + [1.0] * 5
    ensemble(Path("artifacts"), "latest", list(answers.values()), top)
    changed = {name: (answers[name] + 1) % 18 for name in IDS[8:13]}  # 2 rows of the first bin, 3 of the second
    write(Path("new.csv"), list((answers | changed).values()))
    code, out, _ = cli("submission", "diff", "latest", "new.csv")
    assert code == 0
    prints_well(out)
    info = json.loads(cli("submission", "diff", "latest", "new.csv", "--json")[1])
    assert (info["rows"], info["changed"], info["changed_ids"]) == (40, 5, IDS[8:13])
    parts = [(answers[name] // 6, answers[name] // 3 % 2, answers[name] % 3) for name in changed]
    after = [(answer // 6, answer // 3 % 2, answer % 3) for answer in changed.values()]
    moved = [sum(a[head] != b[head] for a, b in zip(parts, after, strict=True)) for head in range(3)]
    assert list(info["by_head"].values()) == moved
    bins = info["by_confidence"]["bins"]
    assert [part["rows"] for part in bins] == [10, 10, 10, 0, 10]
    assert [part["changed"] for part in bins] == [2, 3, 0, 0, 0]
    elsewhere = json.loads(cli("submission", "diff", "a.csv", "new.csv", "--probs", "latest", "--json")[1])
    assert elsewhere["by_confidence"] == info["by_confidence"]


def test_pairs_of_classes_come_most_frequent_first(three: list[Path], cli: Cli) -> None:
    info = json.loads(cli("submission", "diff", *three[:2], "--json")[1])
    before, after = (answers_of(file) for file in three[:2])
    expected = Counter((before[name], after[name]) for name in IDS if before[name] != after[name])
    found = [((pair["from"], pair["to"]), pair["rows"]) for pair in info["by_classes"]]
    assert dict(found) == expected
    assert [count for _, count in found] == sorted(expected.values(), reverse=True)
    assert found[0][1] > found[-1][1]


def test_without_probabilities_it_says_so(three: list[Path], cli: Cli) -> None:
    out = " ".join(cli("submission", "diff", *three[:2])[1].split())
    assert "no confidence: no joint.test.npz beside either file; name an ensemble with --probs" in out
    assert "changed: 0 of 40 rows" in cli("submission", "diff", three[0], three[0])[1]
    folder = ensemble(Path("artifacts"), "latest", drawn(0), [0.5] * 40)
    (folder / "joint.test.npz").write_bytes(b"PK\3\4 no zip")
    code, out, _ = cli("submission", "diff", "latest", "b.csv")
    assert code == 0
    assert "no confidence: artifacts/ensembles/latest/joint.test.npz is damaged" in out
    code, _, err = cli("submission", "diff", "a.csv", "b.csv", "--probs", "latest")
    expect_one_line(code, err, "joint.test.npz is damaged")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": np.asarray(IDS)}, "holds no predictions; give the name of an ensemble"),
        ({"ids": np.asarray(IDS), "probs": np.ones((40, 3)) / 3}, "holds no probabilities of the 18 classes"),
        ({"ids": np.asarray(IDS), "probs": np.ones((40, 18))}, "holds no probabilities of the 18 classes"),
        ({"ids": np.asarray(IDS)[:, None], "probs": np.ones((40, 18)) / 18}, "holds no "),
        ({"ids": np.asarray(["x"] * 40), "probs": np.ones((40, 18)) / 18}, "holds no probabilities"),
        ({"ids": np.asarray([f"x{i}" for i in IDS]), "probs": np.ones((40, 18)) / 18}, "is of other photos than a.csv"),
        ({"ids": np.empty(0, "U1"), "probs": np.empty((0, 18))}, "holds no "),
    ],
)
def test_probabilities_of_something_else_are_one_line(
    arrays: dict[str, Any], message: str, three: list[Path], cli: Cli
) -> None:
    from pipeline.files import write_arrays

    write_arrays(Path("p.npz"), arrays)
    code, _, err = cli("submission", "diff", "a.csv", "b.csv", "--probs", "p.npz")
    expect_one_line(code, err, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.csv", "none"], "none: no such file, and no artifacts/ensembles/none/submission.csv"),
        (["a.csv", "short.csv"], "short.csv: does not answer the photos of a.csv: 10 of its ids are missing"),
        (["a.csv", "b.csv", "--probs", "none"], "none: no such file, and no artifacts/ensembles/none/joint.test.npz"),
    ],
)
def test_a_difference_of_what_is_not_there_is_one_line(
    arguments: list[str], message: str, three: list[Path], cli: Cli
) -> None:
    write(Path("short.csv"), drawn(0, 30), IDS[:30])
    code, _, err = cli("submission", "diff", *arguments)
    expect_one_line(code, err, message)


# ---- text


def test_a_share_is_full_only_when_it_is() -> None:
    assert [percent(share) for share in (0, 1e-9, 0.5, 0.99999, 1)] == ["0.0%", "0.1%", "50.0%", "99.9%", "100.0%"]


@pytest.mark.parametrize("text", ["", "short", "x" * 100, "제출" * 40, "a제출" * 30, f"{EVIL}" * 3, "e\u0301" * 60])
def test_a_fitted_text_takes_its_columns(text: str) -> None:
    assert columns_of(fitted(text, 40)) == cell_len(fitted(text, 40)) == 40
    assert fitted(text, 40).isprintable()
