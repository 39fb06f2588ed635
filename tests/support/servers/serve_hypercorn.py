"""The tiny venue in hypercorn: DESCRIPTOR PEM."""

import asyncio
import sys

from asgi_app import app
from hypercorn.asyncio import serve
from hypercorn.config import Config

descriptor, pem = sys.argv[1:]
config = Config()
config.bind = [f"fd://{descriptor}"]
config.certfile = config.keyfile = pem
config.websocket_ping_interval = 0.2
asyncio.run(serve(app, config))
