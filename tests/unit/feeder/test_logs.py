"""The log of a feeder: its lines, its file, and faults that it survives."""

import json
import logging
import os
import re
import select
from pathlib import Path

import pytest
from support.waiting import until

from shmfeed.errors import BadArgumentError
from shmfeed.feeder.logs import (
    EarlyLines,
    FeederLog,
    JsonFormatter,
    TextFormatter,
    facts,
)
from shmfeed.settings.model import Settings

TOKEN = "canary-of-the-token"
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
log = logging.getLogger("shmfeed.feeder.test")

# A feeder's log, on a standard error that the test has filled or closed.
PROGRAM = """
import logging, sys
from shmfeed.feeder.logs import FeederLog
from shmfeed.settings.model import Settings
FeederLog(Settings())
print("ready", flush=True)
for line in sys.stdin:
    logging.getLogger("x").warning("%s", line.strip() * 5000)
    print("done", flush=True)
"""


@pytest.fixture
def begin(monkeypatch):
    """Return a function that begins to log by these settings; end it afterwards."""
    root = logging.getLogger()
    level, raises, begun = root.level, logging.raiseExceptions, []

    def begin(**settings) -> FeederLog:
        begun.append(FeederLog(Settings(feed="spot", csrf_token=TOKEN, **settings)))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()
    root.setLevel(level)
    logging.raiseExceptions = raises


def lines_of(path: Path) -> list[str]:
    """Return the lines of a log of text, without their times."""
    lines = path.read_text().splitlines()
    assert all(re.match(STAMP, line) for line in lines)
    return [re.sub(f"^{STAMP} ", "", line) for line in lines]


def seen(capfd) -> list[str]:
    """Return the lines on standard error, without those of other parts of this run."""
    lines = capfd.readouterr().err.splitlines()
    return [line for line in lines if "spot: line" in line or "log_file" in line]


class TestTheForm:
    def test_text(self, begin, tmp_path) -> None:
        begin(log_file=str(tmp_path / "log"))
        log.warning("bars are missing: %d of %s", 3, "BTCUSDT 1m")
        log.info("feed spot: connected to %s", "ws://x")
        log.debug("not at the default level")
        log.error("two\nlines\x1b[31m")
        assert lines_of(tmp_path / "log") == [
            "WARNING feed spot: bars are missing: 3 of BTCUSDT 1m",
            "INFO feed spot: connected to ws://x",
            r"ERROR feed spot: two\nlines\x1b[31m",
        ]

    def test_json(self, begin, tmp_path) -> None:
        begin(log_file=str(tmp_path / "log"), log_format="json", log_level="debug")
        log.debug("feed spot: one\n\u2028%s", 2, extra=facts(away=1.5, why="x"))
        line, end = (tmp_path / "log").read_text().split("\n")
        assert end == ""
        decoded = json.loads(line)
        assert re.fullmatch(STAMP, decoded.pop("time"))
        assert decoded == {
            "level": "DEBUG",
            "logger": "shmfeed.feeder.test",
            "feed": "spot",
            "message": "one\n\u20282",
            "away": 1.5,
            "why": "x",
        }

    @pytest.mark.parametrize("form", [TextFormatter, JsonFormatter])
    def test_any_text(self, form) -> None:
        """A name of a file that is not UTF-8, control characters."""
        record = logging.makeLogRecord({"msg": "\udcff\0\n", "levelname": "INFO"})
        line = form("spot", str).format(record)
        assert "\n" not in line
        assert line.encode("ascii")

    @pytest.mark.parametrize("form", ["text", "json"])
    def test_no_line_shows_the_token(self, begin, tmp_path, form) -> None:
        feeder_log = begin(log_file=str(tmp_path / "log"), log_format=form)
        feeder_log.change(
            Settings(csrf_token="another-token", log_file=str(tmp_path / "log"))
        )
        for token in (TOKEN, "another-token"):
            log.warning("bad token %s", token, extra=facts(reason=token))
            log.error("failed", exc_info=RuntimeError(token))
        text = (tmp_path / "log").read_text()
        assert text.count("bad token ***") == 2
        assert text.count("RuntimeError: ***") == 2
        if form == "text":
            assert lines_of(tmp_path / "log")[2].startswith("ERROR feed ")
        assert TOKEN not in text
        assert "another-token" not in text


class TestTheFile:
    def test_a_renamed_file_is_opened_again(self, begin, tmp_path) -> None:
        path = tmp_path / "log"
        begin(log_file=str(path))
        log.warning("before")
        path.rename(tmp_path / "log.1")
        log.warning("after")
        assert lines_of(path) == ["WARNING feed spot: after"]
        assert lines_of(tmp_path / "log.1") == ["WARNING feed spot: before"]

    def test_it_is_opened_again_on_request(self, begin, tmp_path) -> None:
        """Control: as copies on a file system without stable inodes need it."""
        feeder_log = begin(log_file=str(tmp_path / "log"))
        log.warning("before")
        feeder_log.reopen()
        log.warning("after")
        assert len(lines_of(tmp_path / "log")) == 2

    def test_a_vanished_folder(self, begin, tmp_path, capfd) -> None:
        path = tmp_path / "folder" / "log"
        path.parent.mkdir()
        begin(log_file=str(path))
        path.parent.rename(tmp_path / "gone")
        log.info("line 1")
        log.info("line 2")
        first, second, third = seen(capfd)
        assert "cannot be written: no such file or directory" in first
        assert second.endswith("INFO feed spot: line 1")
        assert third.endswith("INFO feed spot: line 2")
        path.parent.mkdir()
        log.info("line 3")
        assert lines_of(path) == ["INFO feed spot: line 3"]
        assert seen(capfd) == []

    def test_a_full_disk(self, begin, capfd) -> None:
        begin(log_file="/dev/full")
        log.info("line")
        first, second = seen(capfd)
        assert "log_file '/dev/full' cannot be written: no space left" in first
        assert second.endswith("INFO feed spot: line")
        log.warning("line 2")
        (only,) = seen(capfd)  # not once more as one of the file's
        assert only.endswith("WARNING feed spot: line 2")

    @pytest.mark.parametrize("kind", ["fifo", "folder", "missing"])
    def test_one_that_cannot_be_opened(self, begin, tmp_path, kind) -> None:
        path = tmp_path / "log"
        if kind == "fifo":
            os.mkfifo(path)  # without a reader open() would block
        elif kind == "folder":
            path.mkdir()
        else:
            path /= "log"
        with pytest.raises(BadArgumentError, match=r"log_file .* cannot be written: "):
            begin(log_file=str(path))

    def test_standard_error_has_what_someone_should_see(
        self, begin, tmp_path, capfd
    ) -> None:
        begin(log_file=str(tmp_path / "log"))
        log.info("fine")
        log.warning("not fine")
        assert "not fine" in capfd.readouterr().err
        assert len(lines_of(tmp_path / "log")) == 2

    def test_a_change_that_is_refused_changes_nothing(self, begin, tmp_path) -> None:
        feeder_log = begin(log_file=str(tmp_path / "log"))
        wrong = Settings(log_file=str(tmp_path), log_level="DEBUG", log_format="json")
        with pytest.raises(BadArgumentError):
            feeder_log.change(wrong)
        log.info("as before")
        log.debug("nor this")
        assert lines_of(tmp_path / "log") == ["INFO feed spot: as before"]

    def test_a_change(self, begin, tmp_path) -> None:
        feeder_log = begin(log_file=str(tmp_path / "one"))
        feeder_log.change(Settings(log_file=str(tmp_path / "two"), log_level="ERROR"))
        log.warning("no more")
        log.error("this")
        assert lines_of(tmp_path / "one") == []
        assert lines_of(tmp_path / "two") == ["ERROR feed default: this"]
        feeder_log.change(Settings())  # the census finds files that are still open


class TestStandardError:
    def test_a_reader_that_stopped_does_not_block(self, child) -> None:
        process = child(PROGRAM)
        assert process.stdout.readline() == "ready\n"
        for _ in range(5):
            process.stdin.write("0123456789\n")  # lines of 50,000 bytes
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"

    def test_control_the_usual_handler_blocks(self, child) -> None:
        usual = PROGRAM.replace("FeederLog(Settings())", "logging.basicConfig()")
        process = child(usual)
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("0123456789\n" * 5)
        process.stdin.flush()
        done = 0
        with pytest.raises(AssertionError):
            while True:
                until(lambda: select.select([process.stdout], [], [], 0)[0], 0.5)
                done += bool(process.stdout.readline())
        assert done < 5

    def test_a_reader_that_has_gone_does_not_end_it(self, child) -> None:
        process = child(PROGRAM)
        assert process.stdout.readline() == "ready\n"
        process.stderr.close()
        process.stdin.write("x\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        process.stderr = Path(os.devnull).open()  # noqa: SIM115 # the fixture closes it

    def test_one_that_was_replaced(self, begin, capsys) -> None:
        begin()
        log.warning("seen")
        assert capsys.readouterr().err.endswith("WARNING feed spot: seen\n")


class TestEarlyLines:
    """Lines from before the settings of the log are known."""

    def test_the_log_that_begins_has_them(self, begin, tmp_path) -> None:
        path = tmp_path / "log"
        with EarlyLines():
            log.warning("a variable is misspelt: %s", TOKEN)
            begin(log_file=str(path))
        log.warning("later")
        assert lines_of(path) == [
            "WARNING feed spot: a variable is misspelt: ***",
            "WARNING feed spot: later",
        ]

    def test_its_level_counts(self, begin, tmp_path) -> None:
        with EarlyLines():
            log.warning("line")
            begin(log_file=str(tmp_path / "log"), log_level="ERROR")
        assert lines_of(tmp_path / "log") == []

    def test_without_one_standard_error_has_them(self, capsys, monkeypatch) -> None:
        with monkeypatch.context() as alone:
            alone.setattr(logging.getLogger(), "handlers", [])
            with pytest.raises(ZeroDivisionError), EarlyLines():
                log.warning("line")
                raise ZeroDivisionError
        assert capsys.readouterr().err == "line\n"

    def test_a_handler_of_the_program_has_them_once(self, caplog) -> None:
        with EarlyLines():
            log.warning("line")
        assert caplog.messages == ["line"]
