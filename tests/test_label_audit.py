"""Suspects of an audit: planted errors are found, each with the fix that undoes it, and decisions become fixes."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.audit import simulated
from ensemble.predictions import Predictions
from heads.registry import HEADS
from pipeline.audit.audit import Audit, make_audit
from pipeline.audit.overlay import (
    Decision,
    Row,
    decision_in,
    overlay_text,
    read_overlay,
    with_decision,
    write_overlay,
)
from pipeline.audit.suspects import Suspect, border_of, units_of
from pipeline.audit.text import training_again
from pipeline.errors import ConfigError, LayoutError
from pipeline.fixes import DECISIONS, Fix, apply_fixes, read_fixes
from pipeline.layouts import load_dataset
from pipeline.options import ARTIFACTS
from pipeline.store import Store
from tests.audits import Case, labels_after, looking, person, with_setting, write_case
from tests.conftest import Cli

SWAPPED = {"incorrect": "normal", "normal": "incorrect", "wear": "wear"}


def planted(who: list[str]) -> dict[str, object]:
    """What networks see: one person of the other gender, one who is far older, one whose shots are swapped."""
    return {
        "gender": looking(**{f"{who[0]}/": "male"}),
        "age": looking(**{f"{who[3]}/": "old"}),
        "mask": lambda photo, label: SWAPPED[label] if photo.startswith(who[7]) else label,
    }


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Two runs on 18 people, three of whom are labelled wrong."""
    root = tmp_path_factory.mktemp("audit")
    names = ["000001_female_Asian_23", "", "", "000004_male_Asian_23", "", "", "", "000008_female_Asian_41"]
    return write_case(root, planted(names), names=("made", "other"))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def audit(case: Case) -> Audit:
    return make_audit(Store(case.artifacts).finished())


def of(audit: Audit, head: str) -> list[Suspect]:
    return [one for one in audit.suspects if one.head == head]


def test_planted_errors_are_the_suspects(audit: Audit, case: Case) -> None:
    assert {one.path for one in audit.suspects} == {person(case, 0), person(case, 3), person(case, 7)}
    assert audit.runs == {head: ["made", "other"] for head in ("mask", "gender", "age")}
    (gender,), (age,), (mask,) = of(audit, "gender"), of(audit, "age"), of(audit, "mask")
    assert (gender.given, gender.suggested, gender.value) == ("female", "male", "male")
    assert (gender.agree, len(gender.photos)) == (7, 7)
    assert (age.given, age.suggested, age.value) == ("young", "old", "60")
    assert (mask.column, mask.value) == ("swap", "incorrect_mask normal")


def test_the_fixes_of_suspects_leave_no_suspect(audit: Audit, case: Case) -> None:
    fixes = [Fix(one.path, one.column, one.value) for one in audit.suspects]
    fixed, applied = apply_fixes(case.samples, fixes)
    assert applied == fixes
    for head in (HEADS["mask"], HEADS["gender"], HEADS["age"]):
        oof = Store(case.artifacts).run("made").load_predictions(head.name, "oof", "identity")
        labels = dict(zip(fixed.ids.tolist(), head.labels(head.values(fixed.columns)), strict=True))
        assert [labels[name] for name in oof.ids.tolist()] == oof.labels.tolist()


def test_a_single_photo_is_a_suspect_by_itself(tmp_path: Path) -> None:
    case = write_case(tmp_path, {"mask": looking(**{"000002_female_Asian_41/mask3": "incorrect"})})
    (one,) = make_audit(Store(case.artifacts).finished()).suspects
    assert (one.path, one.column, one.value) == ("000002_female_Asian_41/mask3.jpg", "mask", "incorrect")


def test_a_photo_that_contradicts_the_others_of_its_person_is_a_suspect() -> None:
    persons = np.repeat([f"p{n:02}" for n in range(12)], 4)
    ids = np.asarray([f"{name}/{n % 4}" for n, name in enumerate(persons)])
    truth = np.arange(12).repeat(4) % 2
    labels = truth.copy()
    labels[5] = 1 - labels[5]
    sure = np.eye(2)[truth] * 0.9 + 0.05
    units = units_of(Predictions(ids, ("a", "b"), sure, truth, labels), persons)
    assert units.of_person
    assert len(units.rows) == 13
    assert [5] in [rows.tolist() for rows in units.rows]


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=30))
def test_units_hold_every_photo_once_and_one_label(photos: list[tuple[int, int]]) -> None:
    persons, labels = (np.asarray(column) for column in zip(*photos, strict=True))
    probs = np.random.default_rng(0).dirichlet(np.ones(3), len(labels))
    oof = Predictions(np.arange(len(labels)).astype(str), ("a", "b", "c"), probs, labels, labels)
    units = units_of(oof, persons.astype(str))
    assert sorted(np.concatenate(units.rows).tolist()) == list(range(len(labels)))
    for rows, target, row_probs in zip(units.rows, units.targets, units.probs, strict=True):
        assert set(labels[rows]) == {target}
        assert len(set(persons[rows])) == 1
        if units.of_person:
            np.testing.assert_allclose(row_probs, probs[persons == persons[rows[0]]].mean(axis=0))


@pytest.mark.parametrize(
    ("years", "given", "other", "is_near"),
    [(57, 1, 2, True), (60, 2, 1, True), (54, 1, 2, False), (66, 2, 1, False), (29, 0, 2, False), (35, 1, 0, True)],
)
def test_who_stands_at_a_border(years: float, given: int, other: int, is_near: bool) -> None:
    assert bool(border_of(HEADS["age"], given, other, years)) is is_near
    assert not border_of(HEADS["gender"], 0, 1, years)


def test_suspects_at_a_border_stand_behind_all_others(tmp_path: Path) -> None:
    looks = {
        "age": looking(**{"000003_female_Asian_60/": "middle"}),
        "mask": looking(**{"000002_female_Asian_41/mask3": "normal"}),
    }
    case = write_case(tmp_path, looks)
    last = make_audit(Store(case.artifacts).finished()).suspects[-1]
    assert last.path == "000003_female_Asian_60"
    assert last.border == "labelled 60, 0 from the border at 60"


def test_planted_errors_among_simulated_networks_are_found() -> None:
    found = simulated("none", 0.01, seed=1)
    for head, least in (("mask", 1.0), ("gender", 0.8), ("age", 0.6)):  # benchmarks/audit.py tells the means
        assert found[head].planted == 6
        assert min(found[head].found, found[head].top) >= least * found[head].planted


# the table of decisions

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "path": st.sampled_from(["a", "b", 'c,"d"', "é x"]),
            "column": st.sampled_from(["gender", "mask", "swap"]),
            "value": st.sampled_from(["male", "1 2"]),
            "decision": st.sampled_from([*DECISIONS, ""]),
            "given": st.sampled_from(["", "male"]),
            "note": st.sampled_from(["", "seen, twice\nby me"]),
        }
    ),
    max_size=6,
)


def suspect(path: str = "b") -> Suspect:
    return Suspect("gender", path, (f"{path}/1",), path, "gender", "female", "male", "female", 0.1, 0.9, 0.8, 1)


@settings(max_examples=30)
@given(ROWS, st.sampled_from(DECISIONS))
def test_a_decision_is_read_back_and_other_rows_stay(rows: list[Row], word: str) -> None:
    made = with_decision(rows, suspect(), Decision(word, "female"))
    assert decision_in(made, suspect()) == Decision(word, "female")
    others = [row for row in rows if (row["path"], row["column"], row["given"]) != ("b", "gender", "male")]
    assert [row for row in made if row in others] == others
    assert with_decision(made, suspect(), None) == others
    assert with_decision(made, suspect(), Decision(word, "female")) == made


@settings(max_examples=10)
@given(rows=ROWS.filter(bool))
def test_the_table_is_read_back_and_only_wrong_labels_are_fixed(
    rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "overlay.csv"
    write_overlay(file, rows)
    assert read_overlay(file) == [row | {"note": row["note"].strip()} for row in rows]
    wrong = [row for row in rows if row["decision"] == "wrong"]
    assert read_fixes(file) == [Fix(row["path"], row["column"], row["value"]) for row in wrong]


def test_rows_of_a_table_without_decisions_stay_fixes(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("path,column,value\na,gender,male\n")
    write_overlay(file, with_decision(read_overlay(file), suspect(), Decision("right", "female")))
    assert read_fixes(file) == [Fix("a", "gender", "male")]


def test_a_table_without_rows_is_none(tmp_path: Path) -> None:
    file = tmp_path / "fixes.csv"
    write_overlay(file, with_decision([], suspect(), Decision("wrong", "female")))
    write_overlay(file, with_decision(read_overlay(file), suspect(), None))
    assert not file.exists()


def test_a_decision_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="decision 'maybe' is none"):
        with_decision([], suspect(), Decision("maybe", "female"))
    with pytest.raises(ConfigError, match="gender 'old' is not a class"):
        with_decision([], suspect(), Decision("wrong", "old"))
    with pytest.raises(ConfigError, match="needs a label"):
        with_decision([], suspect(), Decision("wrong", " "))
    file = tmp_path / "fixes.csv"
    file.write_text("path,column,value,decision\na,gender,male,perhaps\n")
    with pytest.raises(LayoutError, match="decision 'perhaps' is none; decisions are: wrong, right, unsure"):
        read_fixes(file)


def test_decisions_bite_when_data_is_loaded(audit: Audit, case: Case, tmp_path: Path) -> None:
    rows: list[Row] = []
    for one, word in zip(audit.suspects, ("wrong", "right", "unsure"), strict=True):
        rows = with_decision(rows, one, Decision(word, one.value))
    (tmp_path / "fixes.csv").write_text(overlay_text(rows))
    data = load_dataset(case.data, fixes=str(tmp_path / "fixes.csv"))
    assert data.fixed == 1
    assert data.remarks == ()
    wrong, others = audit.suspects[0], audit.suspects[1:]
    assert labels_after(data.samples, "mask") != labels_after(case.samples, "mask")
    assert wrong.column == "swap"
    for one in others:
        assert labels_after(data.samples, one.column) == labels_after(case.samples, one.column)


# the command


def test_terminal_json_and_csv_tell_the_same(cli: Cli, case: Case, audit: Audit, tmp_path: Path) -> None:
    code, out, _ = cli("label-audit", "--artifacts", case.artifacts, "--csv", tmp_path / "suspects.csv")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    shown = [line.split()[:3] for line in out.splitlines() if line.lstrip()[:1].isdigit()]
    assert shown == [[str(n), one.head, one.path] for n, one in enumerate(audit.suspects, start=1)]
    told = json.loads(cli("label-audit", "--artifacts", case.artifacts, "--json")[1])
    assert [one["path"] for one in told["suspects"]] == [one.path for one in audit.suspects]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "suspects.csv").read_text())))
    assert [(row["path"], row["value"]) for row in rows] == [(one.path, one.value) for one in audit.suspects]
    assert read_fixes(tmp_path / "suspects.csv") == [], "nothing is a fix before somebody has decided"
    assert (
        len(json.loads(cli("label-audit", "--artifacts", case.artifacts, "--json", "--limit", 1)[1])["suspects"]) == 1
    )


def test_the_next_command_trains_the_same_heads_in_as_many_networks(audit: Audit) -> None:
    shared = training_again(audit, "my fixes.csv", ARTIFACTS)
    assert shared == f"pipe train-head mask gender age --data {audit.root} --fixes 'my fixes.csv' --name fixed"
    apart = replace(audit, runs={head: [head] for head in audit.runs})
    assert " age --separate --data " in training_again(apart, "f.csv", ARTIFACTS)
    alone = replace(audit, runs={"age": ["one", "two"]})
    assert training_again(alone, "f.csv", Path("a")).startswith("pipe train-head age --data ")
    assert training_again(alone, "f.csv", Path("a")).endswith(" --artifacts a")


def test_what_cannot_be_audited_ends_in_a_line(cli: Cli, case: Case, tmp_path: Path) -> None:
    where = ("label-audit", "--artifacts", case.artifacts)
    assert cli(*where, "--limit", 0)[0] == 2
    assert "no data at" in cli(*where, "--data", tmp_path / "nothing")[2]
    assert "run 'none' does not exist" in cli(*where, "none")[2]
    assert "give another --port" in cli("review", *where[1:], "--port", 99999, "--out", tmp_path / "f.csv")[2]
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    assert "has no column 'path'" in cli("review", *where[1:], "--out", tmp_path / "bad.csv")[2]


def test_data_that_lacks_photos_of_the_runs_is_refused(cli: Cli, case: Case, tmp_path: Path) -> None:
    other = write_case(tmp_path, {}, people=6)
    _, _, err = cli("label-audit", "--artifacts", case.artifacts, "--data", other.data)
    assert "lacks 84 photos that the runs learnt" in err


def test_no_suspects_is_said(cli: Cli, tmp_path: Path) -> None:
    case = write_case(tmp_path, {}, people=6)
    assert "no label is contradicted" in cli("label-audit", "--artifacts", case.artifacts)[1]
    assert "nothing to review" in cli("review", "--artifacts", case.artifacts, "--out", tmp_path / "f.csv")[1]
    page = tmp_path / "audit.html"
    assert cli("label-audit", "--artifacts", case.artifacts, "--html", page)[0] == 0
    assert "No label is contradicted" in page.read_text()


def test_the_page_begins_with_what_was_decided_before(cli: Cli, tmp_path: Path) -> None:
    who = "000001_female_Asian_23"
    case = write_case(tmp_path, {"gender": looking(**{f"{who}/": "male"})})
    before = tmp_path / "before.csv"
    rows = [f"{who},gender,male,right,female", "nobody,gender,male,wrong,"]
    before.write_text("\n".join(["path,column,value,decision,given", *rows]) + "\n")
    with_setting(case, "fixes", str(before))
    page = tmp_path / "audit.html"
    assert cli("label-audit", "--artifacts", case.artifacts, "--html", page)[0] == 0
    assert 'data-word="right" aria-label="Suspect 1"' in page.read_text()
    assert page.read_text().count("nobody") == 1, "it is exported with the decisions"
