"""Variables that are almost ours: a warning, once, and never their values."""

import pytest

from shmfeed.settings import loading

CANARY = "s3cr3t-canary"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_warned", set())


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("WEBSOCKET_ENDPOINTS", "WEBSOCKET_ENDPOINT"),
        ("WEBSOCKET_ENDPOINT_URL", "WEBSOCKET_ENDPOINT"),
        ("WEBSOCKET_TOKEN", "WEBSOCKET_CSRF_TOKEN"),
        ("WEBSOCKET_CSRFTOKEN", "WEBSOCKET_CSRF_TOKEN"),
        ("WEBSOCKET_SYMBOL", "WEBSOCKET_SYMBOLS"),
        ("WEBSOCKET_RESOLUTION", "WEBSOCKET_RESOLUTIONS"),
        ("WEBSOCKET_MARKET", "WEBSOCKET_MARKET_TYPE"),
        ("WEBSOCKET_PROTOCOL", "SHMFEED_PROTOCOL"),
        ("WEBSOCKET_PROXY", "SHMFEED_PROXY"),
        ("websocket_endpoint", "WEBSOCKET_ENDPOINT"),
    ],
)
def test_a_near_miss_is_warned_of_once(variable, meant, caplog) -> None:
    environ = {variable: CANARY}
    for _ in range(3):
        assert loading.load({}, environ).endpoint == ()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        f"environment {variable} is not a setting and is ignored; did you mean {meant}?"
    )


@pytest.mark.parametrize(
    "variable",
    [
        "WEBSOCKET_CLIENT_CA_BUNDLE",
        "WEBSOCKET_URL",
        "WEBSOCKET_WORKERS",
        "WEBSOCKET_ENDPOINT",
        "MY_WEBSOCKET_ENDPOINTS",
        "PATH",
        "WEBSOCKET_",
    ],
)
def test_other_variables_are_not(variable, caplog) -> None:
    loading.load({}, {variable: "wss://a.com/x"})
    assert caplog.records == []
