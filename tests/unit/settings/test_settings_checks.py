"""Settings are checked when they come in, and not again at each copy."""

from collections import Counter

import pytest

from shmfeed.errors import BadArgumentError
from shmfeed.manager import WebSocketManager
from shmfeed.settings import endpoint, schema
from shmfeed.settings.loading import load
from shmfeed.settings.model import Settings, from_json, to_json
from shmfeed.settings.schema import SETTINGS

SYMBOLS = [f"S{number}" for number in range(20)]
GIVEN = {"symbols": SYMBOLS, "resolutions": ["1m"], "endpoint": "wss://x.example/"}


@pytest.fixture
def checks(monkeypatch) -> Counter:
    """Count the checks of each setting, and of each item of the lists."""
    counted = Counter()

    def counting(name, check):
        def count(value):
            counted[name] += 1
            return check(value)

        return count

    for name, row in list(SETTINGS.items()):
        check = counting(name, row.check)
        monkeypatch.setitem(SETTINGS, name, row._replace(check=check))
    monkeypatch.setattr(
        endpoint, "check_endpoint", counting("address", endpoint.check_endpoint)
    )
    return counted


def test_construction_checks_every_setting_once(checks) -> None:
    Settings(history=5)
    assert checks == dict.fromkeys(SETTINGS, 1)


def test_load_checks_what_is_given_once(checks) -> None:
    load(GIVEN, {"SHMFEED_HISTORY": "5"})
    assert checks == dict.fromkeys([*GIVEN, "address", "history"], 1)


def test_a_copy_checks_only_what_changes(checks) -> None:
    settings = load(GIVEN, {})
    checks.clear()
    changed = settings.with_subscription(symbols=["A"])
    assert checks == {"symbols": 1}
    checks.clear()
    assert settings.with_subscription() is settings
    assert settings.with_streams_of(changed) == changed
    assert checks == {}


def test_a_copy_equals_settings_that_were_checked_whole() -> None:
    settings = load(GIVEN, {})
    changed = settings.with_subscription(["A"], ["60m"])
    assert changed == Settings(
        symbols=("A",), resolutions=("1h",), endpoint=("wss://x.example/",)
    )
    assert from_json(to_json(changed)) == changed
    assert settings.symbols == tuple(SYMBOLS)


def test_a_copy_keeps_the_rules_between_settings() -> None:
    settings = Settings(symbols="A", resolutions="1m", max_streams=1)
    with pytest.raises(BadArgumentError, match="max_streams 1"):
        settings.with_subscription(symbols=["A", "B"])
    with pytest.raises(BadArgumentError, match="max_streams 1"):
        settings.with_streams_of(Settings(symbols="A,B", resolutions="1m"))


def test_another_process_s_settings_are_checked_whole(checks) -> None:
    data = to_json(load(GIVEN, {}))
    checks.clear()
    from_json(data)
    assert checks == dict.fromkeys([*SETTINGS, "address"], 1)


def test_an_update_of_the_subscription_checks_the_new_symbols_once(checks) -> None:
    manager = WebSocketManager("x")
    manager.configure(**GIVEN)
    supervisor = Supervised(manager._settings)
    manager._supervisor = supervisor
    checks.clear()
    manager.update_subscription(symbols=["A", "B"])
    assert checks == {"symbols": 1}
    assert supervisor.settings.symbols == ("A", "B")


class Supervised:
    """A supervisor whose feeder acknowledges at once, as FeederLifecycle has it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def subscribe(self, settings: Settings, timeout: float) -> None:
        self.settings = self.settings.with_streams_of(settings)


def test_a_check_at_a_copy_would_be_counted(checks) -> None:
    """Control: the counter sees a second check."""
    schema.check_setting("history", 5)
    schema.check_setting("history", 5)
    assert checks == {"history": 2}
