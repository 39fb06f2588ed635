"""`shmfeed dashboard`: serve a page that shows feeds, their streams and candles."""

import argparse
import asyncio
import contextlib

from shmfeed.cli.exit_codes import FAILED
from shmfeed.cli.options import add_owner_option, owner_of
from shmfeed.cli.output import print_error
from shmfeed.cli.serving import add_serving_options, print_address
from shmfeed.errors import BadArgumentError
from shmfeed.observe.listening import listen, resolve
from shmfeed.settings.secret_files import check_secret_file, read_secret
from shmfeed.validation import check_feed_name

_DESCRIPTION = """\
Serve a page that shows feeds, streams by health and age, and live candles, until
Ctrl-C. It reads shared memory alone; the feeders are not involved. It needs the
packages starlette and uvicorn: pip install starlette uvicorn.
"""

_EPILOG = """\
examples:
  shmfeed dashboard
  shmfeed dashboard --port 8800 --feed spot --feed futures
  shmfeed dashboard --host 0.0.0.0 --token-file /run/secrets/dashboard
"""

DEFAULT_PORT = 8750
_MIN_TOKEN = 16  # characters
_OPTION = "--token-file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_serving_options(parser, DEFAULT_PORT, "; others need a token")
    add = parser.add_argument
    add(
        _OPTION,
        metavar="FILE",
        help="file with the token that browsers are asked for, as the password",
    )
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name of this host that browsers may use, may be repeated",
    )
    add_owner_option(parser)
    add("--json", action="store_true", help="print url, port and pid as JSON")


def run(args: argparse.Namespace) -> int:
    feeds = None if args.feed is None else list(map(check_feed_name, args.feed))
    token = None if args.token_file is None else _read_token(args.token_file)
    address = resolve(args.host, args.port)
    if not address.is_loopback and token is None:
        raise BadArgumentError(
            f"host {args.host} can be reached from other hosts; give {_OPTION},"
            " or leave out --host"
        )
    try:
        from shmfeed.observe.page.hub import Hub  # noqa: PLC0415
        from shmfeed.observe.page.server import make_server  # noqa: PLC0415
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("starlette", "uvicorn", "h11", "anyio"):
            raise
        print_error(
            f"the dashboard needs the package {package}: pip install starlette uvicorn"
        )
        return FAILED
    hub = Hub(feeds, owner_of(args))
    with listen(address) as listener:
        print_address("dashboard", listener, as_json=args.json)
        is_local = address.is_loopback
        names = (*args.allow_host, args.host)
        with contextlib.suppress(KeyboardInterrupt):
            server = make_server(hub, is_local=is_local, names=names, token=token)
            asyncio.run(server.run_until_stopped(listener))
    return 0


def _read_token(path: str) -> str:
    try:
        token = read_secret(_OPTION, check_secret_file(_OPTION, path))
    except ValueError as error:
        if isinstance(error, BadArgumentError):
            raise
        raise BadArgumentError(f"{_OPTION} {path!r} is not a path") from None
    if len(token) < _MIN_TOKEN:
        raise BadArgumentError(
            f"{_OPTION} {path!r} has a token of {len(token)} characters; give one"
            f" of {_MIN_TOKEN} or more"
        )
    return token
