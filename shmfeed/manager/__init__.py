"""The strategy manager's side: launch a feeder, supervise it, change its streams."""

from shmfeed.manager.manager import WebSocketManager, get_websocket_manager

__all__ = ["WebSocketManager", "get_websocket_manager"]
