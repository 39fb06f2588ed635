"""The names of `engine.python_sdk.websocket_manager`, served by shmfeed.

Put the folder that holds `engine/` on the path of a strategy manager that imports this
module, and it drives a feeder process without a change of its own:

    from engine.python_sdk.websocket_manager import get_websocket_manager

    manager = get_websocket_manager()
    manager.configure(symbols=["BTCUSDT"], resolutions=["1h"])
    manager.start()

Environment variables are the same: WEBSOCKET_ENDPOINT, WEBSOCKET_CSRF_TOKEN,
WEBSOCKET_MARKET_TYPE, WEBSOCKET_SYMBOLS, WEBSOCKET_RESOLUTIONS.
"""

from shmfeed import (
    WebSocketConnectionError,
    WebSocketSubscriptionError,
    get_websocket_manager,
)
from shmfeed.manager import WebSocketManager

__all__ = [
    "WebSocketConnectionError",
    "WebSocketManager",
    "WebSocketSubscriptionError",
    "get_websocket_manager",
]
