"""Variables that are misspelt, or whose values are not accepted."""

import pytest

from shmfeed.doctor.environment import accepted_variables, check_environment
from shmfeed.errors import BadArgumentError
from shmfeed.settings.loading import from_env
from wealthdata.choices import current_choices

CANARY = "s3cr3t-canary"


def test_an_environment_without_mistakes() -> None:
    (found,) = check_environment({"SHMFEED_FEED": "spot", "PATH": "/bin", "HOME": ""})
    assert found.level == "ok"
    assert "SHMFEED_FEED" in found.found
    assert "PATH" not in found.found


@pytest.mark.parametrize(
    ("variable", "text", "level", "message"),
    [
        ("SHMFEED_HISTROY", "5", "problem", "'SHMFEED_HISTORY'"),
        ("SHMFEED_history", "5", "problem", "'SHMFEED_HISTORY'"),
        ("SHMFEED_HISTORY", "many", "problem", "history 'many' is not accepted"),
        ("WEBSOCKET_PORT", "99999", "problem", "99999"),
        ("WEBSOCKET_SYMBOL", "A", "note", "did you mean WEBSOCKET_SYMBOLS?"),
        ("shmfeed_feed", "x", "note", "did you mean SHMFEED_FEED?"),
        ("websocket_csrf_token", CANARY, "note", "WEBSOCKET_CSRF_TOKEN"),
        ("WEBSOCKET_CSRF_TOKEN", f" {CANARY}\n{CANARY}", "problem", "not shown"),
    ],
)
def test_each_wrong_variable_is_a_finding(variable, text, level, message) -> None:
    good = {"SHMFEED_GUARD": "5"}
    (found,) = check_environment(good | {variable: text})
    assert (found.level, found.check) == (level, f"environment {variable}")
    assert message in found.found
    assert CANARY not in found.found
    assert ("unset" in (found.remedy or "")) == (level == "problem")
    accepted = accepted_variables(good | {variable: text})
    assert accepted.get(variable) == (text if level == "note" else None)
    assert accepted["SHMFEED_GUARD"] == "5"


@pytest.mark.parametrize("text", ["off", "OFF"])
def test_off_is_a_note(text) -> None:
    (found,) = check_environment({"SHMFEED_FEED": text})
    assert found.level == "note"
    assert "read no feed, as in a backtest" in found.found
    assert accepted_variables({"SHMFEED_FEED": text}) == {}


@pytest.mark.parametrize("text", ["1", "x", "", "\udcff"])
def test_variables_of_other_programs_are_not_findings(text) -> None:
    names = ("SHMFEED_PURE", "SHMFEED_FAIL", "WEBSOCKET_CLIENT_CA_BUNDLE", "SHMFEEDX")
    (found,) = check_environment(dict.fromkeys(names, text))
    assert found.level == "ok"


@pytest.mark.parametrize(("text", "marks"), [("1", True), ("x", True), ("0", False)])
def test_the_mark_of_a_backtest_is_a_note(text: str, marks: bool) -> None:
    (found,) = check_environment({"SHMFEED_BACKTEST": text})
    assert found.level == ("note" if marks else "ok")
    assert ("read no feed" in found.found) is marks


@pytest.mark.parametrize("text", ["1", "0", " Yes ", "off", "", "x", "2", "\udcff"])
def test_a_copy_variable_is_judged_as_a_strategy_does(text, monkeypatch) -> None:
    (found,) = check_environment({"SHMFEED_COPY": text})
    monkeypatch.setenv("SHMFEED_COPY", text)
    try:
        current_choices()
    except BadArgumentError:
        assert found.level == "problem"
        assert "neither yes nor no" in found.found
    else:
        assert found.level == "ok"


def test_the_variable_of_a_replay_is_named() -> None:
    (found,) = check_environment({"SHMFEED_REPLAY": "default=replay-1-1-ab"})
    assert "read the bars of a replay" in found.found
    assert from_env({"SHMFEED_REPLAY": "default=replay-1-1-ab"}) == {}
