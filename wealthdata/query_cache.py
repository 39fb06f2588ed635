"""The prepared reads of this process, by the arguments of the call."""

from typing import Any

from wealthdata import price_table

MAX_QUERIES = 4096
MAX_LISTS = 64  # a query of a long list is large

queries: dict[Any, Any] = {}
list_queries: dict[Any, Any] = {}  # the same of lists


def keep_query(arguments: object, query: object) -> None:
    """Keep a query for the next call with these arguments."""
    if len(queries) >= MAX_QUERIES:
        forget_queries()
    queries[arguments] = query


def keep_list_query(arguments: object, query: object) -> None:
    """Keep a query of a list. A caller may ask for another list each time."""
    if len(list_queries) >= MAX_LISTS:
        list_queries.clear()
    list_queries[arguments] = query


def forget_queries() -> None:
    """Forget all: the next call of each chooses its feed and its ring again."""
    queries.clear()
    list_queries.clear()
    price_table.clear()
