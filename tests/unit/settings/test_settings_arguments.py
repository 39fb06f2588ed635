"""The typed keyword arguments are those of the schema."""

from typing import get_args, get_type_hints

from support.settings_arguments import TARGET, source

from shmfeed.settings.arguments import SettingsArguments
from shmfeed.settings.loading import CONFIG_FILE
from shmfeed.settings.schema import LEVELS, PROTOCOLS, SETTINGS


def test_the_file_is_made_from_the_schema() -> None:
    assert TARGET.read_text() == source(), (
        "run python tests/support/settings_arguments.py"
    )


def test_there_is_a_key_for_each_setting() -> None:
    assert SettingsArguments.__annotations__.keys() == {*SETTINGS, CONFIG_FILE}


def test_the_choices_are_those_that_are_accepted() -> None:
    hints = get_type_hints(SettingsArguments)
    protocols = get_args(get_args(hints["protocol"])[0])
    assert protocols == PROTOCOLS
    levels = get_args(get_args(hints["log_level"])[0])
    assert {level.upper() for level in levels} == set(LEVELS)
    for name, choices in (("protocol", protocols), ("log_level", levels)):
        assert [SETTINGS[name].check(choice) for choice in choices]


def test_a_change_of_the_schema_would_be_seen(monkeypatch) -> None:
    """Control: another type of one setting changes the text."""
    row = SETTINGS["history"]._replace(annotation="str")
    monkeypatch.setitem(SETTINGS, "history", row)
    assert TARGET.read_text() != source()
