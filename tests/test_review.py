"""The review: decisions are on the disk before they are answered, and nobody but its page can make one."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.audit.audit import make_audit
from pipeline.audit.overlay import Decision, read_overlay
from pipeline.audit.serve import MOST_BYTES, Review, serving
from pipeline.audit.suspects import Suspect
from pipeline.errors import ConfigError
from pipeline.fixes import DECISIONS, Fix, read_fixes
from pipeline.store import Store
from tests.audits import Case, looking, write_case
from tests.browser import needs_browser

PAGE = "<!doctype html>page"


def suspects(n: int) -> tuple[Suspect, ...]:
    return tuple(
        Suspect("gender", f"p{k}", (f"p{k}/1",), f"p{k}", "gender", "female", "male", "female", 0.1, 0.9, 0.8, 1)
        for k in range(n)
    )


class Caller:
    """Calls of a browser or of somebody else."""

    def __init__(self, address: str) -> None:
        """Know the address that `pipe review` prints."""
        self.host, self.word = address.removeprefix("http://").split("/")[:2]

    def __call__(
        self, method: str, path: str | None = None, body: str | bytes = "", **headers: str | None
    ) -> tuple[int, str]:
        """Status and text; None as a header leaves it out."""
        usual = {"host": self.host, "origin": f"http://{self.host}" if method == "POST" else None}
        line = http.client.HTTPConnection(self.host, timeout=30)
        line.putrequest(method, path or f"/{self.word}/" + ("decide" if method == "POST" else ""), skip_host=True)
        content = body.encode() if isinstance(body, str) else body
        for name, value in (usual | {"content-length": str(len(content))} | headers).items():
            if value is not None:
                line.putheader(name, value)
        line.endheaders(content)
        with line.getresponse() as answer:
            found = answer.status, answer.read().decode()
        line.close()
        return found

    def decide(self, number: int, word: str, turn: int = 1, value: str = "female") -> tuple[int, str]:
        return self("POST", body=json.dumps({"number": number, "word": word, "value": value, "turn": turn}))


@contextmanager
def reviewed(file: Path, n: int = 3) -> Iterator[Caller]:
    """A server in this process."""
    with serving(Review(suspects(n), file), lambda rows: PAGE + str(len(rows)), 0) as (server, address):
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Caller(address)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "fixes.csv"


def test_a_decision_is_in_the_table_when_it_is_answered(table: Path) -> None:
    with reviewed(table) as call:
        assert call("GET") == (200, PAGE + "0")
        for number, word in enumerate(DECISIONS):
            assert call.decide(number, word) == (200, "saved")
            assert [row["decision"] for row in read_overlay(table)] == list(DECISIONS[: number + 1])
        assert call("GET") == (200, PAGE + "3")
        assert read_fixes(table) == [Fix("p0", "gender", "female")]
        assert call.decide(0, "right", turn=2)[0] == 200
        assert read_fixes(table) == []
        for number in range(3):
            assert call.decide(number, "", turn=3)[0] == 200
        assert not table.exists()


def test_of_two_decisions_the_later_one_counts_whichever_comes_first(table: Path) -> None:
    with reviewed(table) as call:
        call.decide(0, "right", turn=8)
        call.decide(0, "wrong", turn=7)
        assert [row["decision"] for row in read_overlay(table)] == ["right"]


def test_decisions_made_at_once_are_all_kept(table: Path) -> None:
    with reviewed(table, 20) as call:
        threads = [threading.Thread(target=call.decide, args=(number, "wrong")) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {fix.path for fix in read_fixes(table)} == {f"p{number}" for number in range(20)}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": None}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"host": "evil.example"}, 403),
        ({"host": None}, 403),
        ({"content-length": str(MOST_BYTES + 1)}, 413),
        ({"content-length": "-1"}, 413),
        ({"content-length": "1e3"}, 413),
        ({"content-length": None}, 413),
    ],
)
def test_only_the_page_itself_decides(table: Path, headers: dict[str, str | None], status: int) -> None:
    body = json.dumps({"number": 0, "word": "wrong", "value": "female", "turn": 1})
    with reviewed(table) as call:
        assert call("POST", body=body, **headers)[0] == status
        assert call("POST", f"/{'x' * len(call.word)}/decide", body)[0] == 404
        assert call("POST", "/decide", body)[0] == 404
    assert not table.exists()


def test_nothing_but_the_page_is_given(table: Path) -> None:
    with reviewed(table) as call:
        word = call.word
        for path in ("/", "/etc/passwd", f"/{word}", f"/{word}/../../etc/passwd", f"/{word}/fixes.csv", f"/{word}/?a"):
            assert call("GET", path)[0] == 404
        assert call("GET", host="evil.example")[0] == 403
        assert call("GET", origin="http://evil.example")[0] == 403
        assert call("PUT")[0] == 501


@pytest.mark.parametrize(
    "body",
    [
        *("", "[", "[]", "1", "{}", "\udcff", "[" * 9000),
        '{"number": 0, "word": "wrong", "value": 1, "turn": 1}',
        '{"number": 9, "word": "wrong", "value": "female", "turn": 1}',
        '{"number": -1, "word": "", "value": "", "turn": 1}',
        '{"number": 0, "word": "x", "value": "female", "turn": 1}',
        '{"number": 0, "word": "wrong", "value": "", "turn": 1}',
    ],
)
def test_what_is_no_decision_is_refused(table: Path, body: str) -> None:
    with reviewed(table) as call:
        status, text = call("POST", body=body.encode(errors="surrogateescape"))
    assert status == 400
    assert len(text) < 200
    assert not table.exists()


def test_a_table_that_was_spoilt_in_the_meantime_is_not_overwritten(table: Path) -> None:
    with reviewed(table) as call:
        call.decide(0, "wrong")
        table.write_text("something else\n1\n")
        status, text = call.decide(1, "wrong")
    assert status == 500
    assert "has no column 'path'" in text
    assert table.read_text() == "something else\n1\n"


def test_earlier_fixes_come_first(table: Path) -> None:
    earlier = {"path": "q", "column": "gender", "value": "male", "decision": "wrong", "given": ""}
    Review(suspects(1), table, (earlier,)).decide(0, Decision("wrong", "female"), 1)
    assert [fix.path for fix in read_fixes(table)] == ["q", "p0"]


def test_a_port_that_is_taken_is_said(table: Path) -> None:
    with serving(Review(suspects(1), table), lambda rows: "", 0) as (server, _):
        taken = server.server_port
        with (
            pytest.raises(ConfigError, match=f"cannot serve on port {taken}: .*; give another --port"),
            serving(Review(suspects(1), table), lambda rows: "", taken),
        ):
            pass


# the command in a process of its own


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Eighteen people of whom six look like the other gender than they are labelled."""
    women = {f"{n:06}_female": "male" for n in range(1, 10)}  # six of these nine
    return write_case(tmp_path_factory.mktemp("review"), {"gender": looking(**women)})


@contextmanager
def command(case: Case, table: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`pipe review`, and the address that it prints."""
    options = ["--artifacts", str(case.artifacts), "--out", str(table)]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "review", *options],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        address = next(line.split()[1] for line in process.stdout if line.startswith("open "))
        yield process, address
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.mark.slow
def test_a_kill_in_the_middle_of_decisions_loses_none_that_was_answered(case: Case, tmp_path: Path) -> None:
    rng, table = random.Random(0), tmp_path / "fixes.csv"
    people = [one.path for one in make_audit(Store(case.artifacts).finished()).suspects]
    answered: dict[str, str] = {}
    for _ in range(3):
        with command(case, table) as (process, address):
            call = Caller(address)
            threading.Timer(rng.uniform(0.2, 1.0), process.kill).start()
            for turn in range(100_000):
                number, word = rng.randrange(len(people)), rng.choice(DECISIONS)
                try:
                    assert call.decide(number, word, turn, "male") == (200, "saved")
                except (OSError, http.client.HTTPException):
                    break
                answered[people[number]] = word
            process.wait()
        found = {row["path"]: row["decision"] for row in read_overlay(table)}
        assert found in (answered, answered | {people[number]: word}), "the last one may have been saved unanswered"
        answered = found
    assert answered
    assert len(read_fixes(table)) == list(answered.values()).count("wrong")


@pytest.mark.slow
def test_ctrl_c_ends_the_review_and_tells_what_to_do(case: Case, tmp_path: Path) -> None:
    table = tmp_path / "fixes.csv"
    with command(case, table) as (process, address):
        assert Caller(address).decide(0, "wrong", 1, "male")[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert f"{table}: 1 wrong, 0 right, 0 unsure; pipe train-head HEAD --fixes {table}" in process.stdout.read()
        assert process.wait() == 0


@pytest.mark.slow
@needs_browser
def test_the_browser_saves_at_once_and_shows_it_again(case: Case, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    from tests.browser import CHROMIUM

    table = tmp_path / "fixes.csv"
    with command(case, table) as (process, address), sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, complaints = browser.new_page(), []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        saved = page.get_by_text("all saved")
        for key, words in (("y", ["wrong"]), ("n", ["wrong", "right"]), ("u", ["wrong", "right", "unsure"])):
            page.keyboard.press(key)
            saved.wait_for()
            assert [row["decision"] for row in read_overlay(table)] == words
        page.keyboard.press("z")
        saved.wait_for()
        page.wait_for_timeout(200)
        assert [row["decision"] for row in read_overlay(table)] == ["wrong", "right"]
        page.reload()
        assert page.locator("#progress").inner_text() == "2 of 6 decided: 1 wrong, 1 right, 0 unsure"
        assert not complaints
        process.kill()
        process.wait()
        page.keyboard.press("j")
        page.keyboard.press("u")
        page.get_by_text("not saved: is pipe review still running?").wait_for()
        browser.close()
    assert len(read_overlay(table)) == 2
