"""The page of an audit in a real browser: keys, undo, and an export that the loader of fixes takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.fixes import Fix, read_fixes
from tests.audits import Case, looking, with_setting, write_case
from tests.browser import NARROW, WIDE, needs_browser, opened
from tests.conftest import Cli

GIRL, BOY, SWAPPED = "000001_female_Asian_23", "000004_male_Asian_23", "000008_female_Asian_41"
OTHER = {"incorrect": "normal", "normal": "incorrect", "wear": "wear"}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A wrong gender, a wrong age and two swapped shots; the run was trained with a fix of somebody else."""
    looks = {
        "gender": looking(**{f"{GIRL}/": "male"}),
        "age": looking(**{f"{BOY}/": "old"}),
        "mask": lambda photo, label: OTHER[label] if photo.startswith(SWAPPED) else label,
    }
    made = write_case(tmp_path, looks)
    (tmp_path / "before.csv").write_text('path,column,value,note\n"a,""b""",gender,male,mine\n')
    with_setting(made, "fixes", str(tmp_path / "before.csv"))
    return made


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(WIDE, False), (NARROW, True)])
def test_decisions_by_key_come_out_as_fixes(cli: Cli, case: Case, tmp_path: Path, width: int, dark: bool) -> None:
    file = tmp_path / "audit.html"
    assert cli("label-audit", "--artifacts", case.artifacts, "--html", file)[0] == 0
    with opened(file, width=width, dark=dark) as page:
        told = page.locator("#progress")
        assert page.get_by_role("button", name="download").is_disabled()
        for key in ("y", "n", "u", "z", "z", "k", "u", "n", "n"):
            page.keyboard.press(key)
        assert told.inner_text() == "3 of 3 decided: 0 wrong, 2 right, 1 unsure"
        page.locator(".case[data-head=age] input").fill("67")
        page.locator(".case[data-head=age]").get_by_role("button", name="wrong").click()
        page.locator("#filter").select_option("gender")
        assert page.locator(".case:visible").count() == 1
        page.locator("#filter").select_option("")
        with page.expect_download() as wanted:
            page.get_by_role("button", name="download").click()
        wanted.value.save_as(tmp_path / "fixes.csv")
        page.evaluate("window.scrollTo(0, 0)")
    fixes = read_fixes(tmp_path / "fixes.csv")
    assert fixes[0] == Fix('a,"b"', "gender", "male")
    rows = (tmp_path / "fixes.csv").read_text().splitlines()
    assert rows[0] == "path,column,value,decision,given,note"
    assert len(rows) == 5
    assert Fix(BOY, "age", "67") in fixes
    assert len(fixes) == 1 + sum(",wrong," in row for row in rows[2:])
