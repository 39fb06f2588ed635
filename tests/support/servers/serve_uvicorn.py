"""The tiny venue in uvicorn: DESCRIPTOR PEM WS, no TLS where PEM is a dash."""

import sys

import uvicorn
from asgi_app import app

descriptor, pem, implementation = sys.argv[1:]
uvicorn.run(
    app,
    fd=int(descriptor),
    ws=implementation,
    ws_ping_interval=0.2,
    ws_ping_timeout=2.0,
    ssl_certfile=None if pem == "-" else pem,
    ssl_keyfile=None if pem == "-" else pem,
    log_level="warning",
)
