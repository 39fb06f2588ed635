"""Each setting with each kind of bad value from each source gives one clear error.

The cases are made from the schema, so that a new setting is covered at once.
"""

import datetime
import json
import math
import os
import re
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from support.forks import Fork

from shmfeed.errors import BadArgumentError
from shmfeed.settings import loading
from shmfeed.settings.loading import VARIABLES, load
from shmfeed.settings.model import Settings
from shmfeed.settings.schema import SECRETS, SETTINGS, TOKEN

CANARY = "s3cr3t-canary"


class ForeignObject:
    """A value of a foreign type whose repr raises."""

    def __repr__(self) -> str:
        raise RuntimeError


# Values that no setting of a type accepts.
NEVER = {
    int: (True, 1.5, math.nan, "", " ", "x", [], {}, b"1", 10**30, -1, "1 2", [1]),
    float: (True, math.nan, math.inf, -math.inf, "", "x", [], {}, b"1", -1.0, "1,5"),
    bool: (1, 0, "", "maybe", [], {}, 1.0, b"true", math.nan),
    str: (True, 1, 1.5, [], {}, b"x", "a\0b", "x" * 10_000, "", [["a"]]),
    dict: (True, 1.5, "x", b"x", [1], [[1]], {"a": 1}, {"a b": ""}, {"Host": ""}),
    tuple: (True, 1.5, {}, b"x", [[1]], [None], "a\0b", ["x" * 10_000], "\u2603"),
}
# Values that a setting accepts, or refuses with a BadArgumentError.
ANY = (
    *(
        "",
        " ",
        "\0",
        "\u2603",
        "\ud800",
        "x" * 10_000,
        "none",
        "None",
        ",",
        ",,",
        "a,b",
    ),
    *(None, True, False, 0, -1, 10**30, 10**5000, 1e300, math.nan, math.inf, 2**63),
    *(b"", b"\xff", [], [[]], {}, {"a": 1}, [{}], [None], [True], ["", ""], (), set()),
    *(
        object(),
        ForeignObject(),
        [ForeignObject()],
        datetime.date(2024, 1, 1),
        int,
        1j,
        range(3),
    ),
)
HUGE = ([1] * 20_000, "a," * 20_000, [[]] * 20_000, "," * 20_000, "x" * 1_000_000)
ADDRESSES = {"endpoint", "rest_endpoint", "proxy", "on_event", "publish_to"}
MAY_BE_SECRET = {*SECRETS, *ADDRESSES}
# No secret, and a group by its number.
TAKEN = {(TOKEN, ""), ("redis_password", ""), ("group", 1)}


def message_of(call, *arguments) -> str:
    """Return the message of a call's BadArgumentError, empty if it raises nothing."""
    try:
        call(*arguments)
    except BadArgumentError as error:
        words = str(error)
        assert 0 < len(words) < 2500
        return words
    return ""


class NotAccepted(Exception):
    """A value that a source cannot hold."""


def by_argument(name, value, folder):
    return message_of(load, {name: value}, {}), "(from argument"


def by_option(name, value, folder):
    if name in SECRETS or not isinstance(value, str | bool):
        raise NotAccepted
    option = f"--{name.replace('_', '-')}"
    return message_of(lambda: load(loading.from_options({name: value}), {})), option


def by_environment(name, value, folder):
    if not isinstance(value, str) or not value or "\0" in value:
        raise NotAccepted
    variable = next(known for known, one in VARIABLES.items() if one == name)
    return message_of(load, {}, {variable: value}), f"environment {variable}"


def by_file(ending, write):
    def say(name, value, folder):
        path = folder / f"a.{ending}"
        try:
            path.write_text(write(name, value), "utf-8")
        except (TypeError, ValueError):  # also text that UTF-8 cannot encode
            raise NotAccepted from None
        if value is None:
            raise NotAccepted  # null is not given
        return message_of(load, {"config_file": path}, {}), str(path)

    return say


def as_json(name, value):
    if isinstance(value, tuple | range):
        raise TypeError
    return json.dumps({name: value}, ensure_ascii=False)


def as_yaml(name, value):
    text = json.dumps(value, ensure_ascii=False)
    for other, own in (("NaN", ".nan"), ("-Infinity", "-.inf"), ("Infinity", ".inf")):
        text = text.replace(other, own)
    return f"{name}: {text}"


def as_toml(name, value):
    if value is None or isinstance(value, dict) or value == [None]:
        raise TypeError
    text = json.dumps(value, ensure_ascii=False)
    for other, own in (("NaN", "nan"), ("Infinity", "inf")):
        text = text.replace(other, own)
    return f"{name} = {text}"


SOURCES = {
    "argument": by_argument,
    "option": by_option,
    "environment": by_environment,
    "json": by_file("json", as_json),
    "yaml": by_file("yaml", as_yaml),
    "toml": by_file("toml", as_toml),
}
MALFORMED = re.compile("is not well-formed|is neither a value nor a list of values")


def wrong_by(source, name, value, folder) -> tuple[str, str] | None:
    try:
        return SOURCES[source](name, value, folder)
    except NotAccepted:
        return None


def never_taken(name, source, folder) -> int:
    """Check how a source refuses values of wrong types; return how many it refused."""
    told = 0
    for value in NEVER[SETTINGS[name].type]:
        found = wrong_by(source, name, value, folder)
        is_taken = any(
            (name, value) == (n, v) and type(value) is type(v) for n, v in TAKEN
        )
        if found is None or is_taken:
            continue
        words, origin = found
        case = (source, value, words)
        assert words, case
        assert origin in words, case
        if MALFORMED.search(words):
            assert isinstance(value, dict | list | str), case
            continue
        assert name in words, case
        assert "; " in words or "accepted" in words, case  # what is accepted
        if name not in MAY_BE_SECRET and not isinstance(value, list):
            assert repr(value)[:9].strip("'") in words, case
        told += 1
    return told


@pytest.mark.parametrize("name", SETTINGS)
class TestEverySetting:
    def test_values_of_a_wrong_type_are_refused(self, name, tmp_path) -> None:
        for source in SOURCES:
            least = 1 if source in ("option", "environment") else 4
            if name not in SECRETS or source != "option":
                assert never_taken(name, source, tmp_path) >= least, source

    def test_any_value_is_accepted_or_refused_with_its_source(
        self, name, tmp_path
    ) -> None:
        for source in SOURCES:
            for value in ANY if source in ("json", "yaml", "toml") else ANY + HUGE:
                found = wrong_by(source, name, value, tmp_path)
                if found is not None and found[0]:
                    assert found[1] in found[0], (source, found)

    def test_a_token_is_never_shown(self, name, tmp_path) -> None:
        """Neither the token itself nor a token under a misspelt name."""
        misspelt = name[1:] if name[1:] not in SETTINGS else f"x{name}"
        for value in (f" {CANARY}", f"{CANARY}\n{CANARY}", [CANARY], CANARY * 500):
            for source in SOURCES:
                shown_as = TOKEN if name == TOKEN else misspelt
                if name != TOKEN and source in ("option", "environment"):
                    continue  # such a name is no option; a variable is tested below
                found = wrong_by(source, shown_as, value, tmp_path)
                assert found is None or CANARY not in found[0], source


def test_a_key_that_is_not_a_setting_is_refused() -> None:
    for key in ("", 5, None, 10**5000, ForeignObject(), ("a",), b"x", "x" * 10_000):
        words = message_of(load, {key: CANARY}, {})
        assert "unknown setting" in words
        assert CANARY not in words


def test_a_lax_check_would_be_seen(monkeypatch, tmp_path) -> None:
    """Control: the test above can fail."""
    lax = SETTINGS["history"]._replace(check=lambda value: 5)
    monkeypatch.setitem(SETTINGS, "history", lax)
    with pytest.raises(AssertionError):
        never_taken("history", "argument", tmp_path)


def test_the_types_are_those_of_the_table() -> None:
    assert {row.type for row in SETTINGS.values()} <= NEVER.keys()
    assert set(SETTINGS) == set(Settings.__struct_fields__)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from([*SETTINGS]) | st.text(max_size=9), JSON, max_size=4
    )
)
def test_any_json_is_accepted_or_refused(tmp_path_factory, content) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    words = message_of(load, {"config_file": path}, {})
    assert not words or str(path) in words


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(st.sampled_from([*SETTINGS]), st.text(max_size=20) | st.booleans())
)
def test_any_options_are_accepted_or_refused(options) -> None:
    words = message_of(lambda: load(loading.from_options(options), {}))
    assert not words or "--" in words or " from argument" in words


class TestFiles:
    @pytest.mark.parametrize("ending", ["yaml", "toml", "json"])
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"\xff\xfeh\0i\0", "is not UTF-8 text, at byte 0"),
            ("history: 5".encode("utf-16"), "is not UTF-8 text, at byte 0"),
            (bytes(range(256)) * 10, "is "),
            (b"\0" * 100, "is not well-formed"),
            (b" " * (2 << 20), "is larger than 1048576 bytes"),
            (b"\xef\xbb\xbf\xef\xbb\xbf=", "is not well-formed"),
        ],
    )
    def test_a_file_that_is_not_utf8_text_is_refused(
        self, tmp_path, ending, content, words
    ) -> None:
        path = tmp_path / f"a.{ending}"
        path.write_bytes(content)
        told = message_of(load, {"config_file": path}, {})
        assert f"config_file {str(path)!r}: " in told
        assert words in told

    @pytest.mark.parametrize("ending", ["yaml", "toml", "json"])
    def test_an_empty_file(self, tmp_path, ending) -> None:
        path = tmp_path / f"a.{ending}"
        path.touch()
        told = message_of(load, {"config_file": path}, {})
        assert bool(told) == (ending == "json")  # which has to have a value
        path.write_bytes(b"\xef\xbb\xbf" + (b"{}" if ending == "json" else b""))
        assert message_of(load, {"config_file": path}, {}) == ""

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            (
                "a.yaml",
                "history: 1\n'history': 2",
                "has the key 'history' twice, again at line 2",
            ),
            ("a.toml", "history = 1\n'history' = 2", "or a key is there twice"),
            (
                "a.json",
                '{"history": 1, "h\\u0069story": 2}',
                "has the key 'history' twice",
            ),
            ("a.yaml", "? [a, b]\n: 1", "line 1 is neither a value nor a list"),
            ("a.yaml", "true: 1", "unknown setting True"),
            ("a.yaml", "null: 1", "unknown setting None"),
            ("a.yaml", "1.5: 1", "unknown setting 1.5"),
            ("a.yaml", f"? {'9' * 5000}\n: 1", "is not well-formed"),
            ("a.yaml", "x" * 1000 + ": 1", "unknown setting 'xxx"),
            ("a.yaml", "x" * 5000 + ": 1", "is not well-formed yaml"),
            (
                "a.yaml",
                "history: !!python/object/apply:os.system [x]",
                "not well-formed",
            ),
            ("a.yaml", "history: !!binary aGk=", "history b'hi' is not accepted"),
            ("a.yaml", "symbols: !!set {A, B}", "is neither a value nor a list"),
            ("a.yaml", "--- {}\n--- {}", "is not well-formed yaml"),
            ("a.yaml", "symbols: &a [*a]", "is neither a value nor a list"),
            ("a.toml", "[history]\na = 1", "history {'a': 1} is not accepted"),
            ("a.toml", "history.a = 1", "history {'a': 1} is not accepted"),
            ("a.json", '"history"', "its top level is not a mapping"),
            ("a.json", "null", "its top level is not a mapping"),
            ("a.json", "1", "its top level is not a mapping"),
            ("a.yaml", "history", "its top level is not a mapping"),
            ("a.json", '{"history": 5,}', "is not well-formed json at line 1"),
            ("a.json", '{"": 5}', "unknown setting ''"),
            ("a.json", '{"histroy": 5}', "the nearest known one is 'history'"),
            ("a.toml", "histroy = 5", "the nearest known one is 'history'"),
            ("a.yaml.bak", "", "its ending is '.bak'; one of: .yaml .yml .toml .json"),
            (".yaml", "", "its ending is ''"),
        ],
    )
    def test_content_that_is_not_settings_is_refused(
        self, tmp_path, name, text, words
    ) -> None:
        path = tmp_path / name
        path.write_text(text)
        told = message_of(load, {"config_file": path}, {})
        assert words in told
        assert str(path) in told

    def test_yaml_anchors_cannot_grow_without_limit(self, tmp_path) -> None:
        path = tmp_path / "a.yaml"
        lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
        for one, other in zip("bcdefghijk", "abcdefghij", strict=True):
            lines.append(f"{one}: &{one} [{', '.join([f'*{other}'] * 9)}]")
        path.write_text("\n".join(lines))
        assert "is neither a value nor a list" in message_of(
            load, {"config_file": path}, {}
        )
        many = ", ".join(["*a"] * 20_000)
        path.write_text(f"feed: &a {'x' * 1000}\nsymbols: [{many}]")
        assert "is not accepted" in message_of(load, {"config_file": path}, {})

    def test_a_file_without_read_permission(self, tmp_path, monkeypatch) -> None:
        tmp_path.chmod(0o755)
        monkeypatch.chdir(tmp_path)
        path = Path("a.toml")
        path.write_text("history = 5")
        path.chmod(0o000)
        with Fork(read_as_nobody, str(path)) as child:
            assert (
                child.result()
                == "config_file 'a.toml': cannot be read: Permission denied"
            )

    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/full", "/proc/self/mem", "/"])
    def test_a_device_or_directory_is_refused(self, path, tmp_path) -> None:
        link = tmp_path / "a.json"
        link.symlink_to(path)
        told = message_of(load, {"config_file": link}, {})
        assert "is not a regular file" in told or "cannot be read" in told

    def test_a_dangling_or_circular_link_is_refused(self, tmp_path) -> None:
        link = tmp_path / "a.json"
        link.symlink_to("none.json")
        assert "No such file" in message_of(load, {"config_file": link}, {})
        (tmp_path / "b.json").symlink_to("b.json")
        told = message_of(load, {"config_file": tmp_path / "b.json"}, {})
        assert "Too many levels of symbolic links" in told

    @pytest.mark.parametrize(
        "value", ["", 5, True, b"a.json", ["a.json"], {}, 1.5, ForeignObject()]
    )
    def test_a_value_that_is_not_a_path_is_refused(self, value) -> None:
        assert "config_file" in message_of(load, {"config_file": value}, {})


def read_as_nobody(path):
    if not os.geteuid():
        os.setuid(65534)
    return message_of(load, {"config_file": path}, {})


class TestEnvironment:
    @pytest.mark.parametrize("text", ["x", "\x1b[31m", "\udcff", " ", "=" * 5000])
    def test_a_variable_that_is_not_a_setting_is_refused(self, text) -> None:
        for variable in ("SHMFEED_X", "SHMFEED_", "SHMFEED_feed", "SHMFEED_HISTORY "):
            told = message_of(load, {}, {variable: text})
            assert f"unknown setting {variable!r} (from environment)" in told
            assert "'SHMFEED_" in told or "'WEBSOCKET_" in told

    @pytest.mark.parametrize(
        "variable", ["shmfeed_history", "Shmfeed_History", "SHMFEEDX"]
    )
    def test_variables_without_our_prefix_are_ignored(self, variable) -> None:
        assert load({}, {variable: "5"}) == Settings()

    def test_spaces_around_a_value_are_stripped(self) -> None:
        assert load({}, {"SHMFEED_HISTORY": " 5 "}).history == 5
        assert "is not accepted" in message_of(load, {}, {"SHMFEED_HISTORY": " "})
