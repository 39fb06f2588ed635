"""The strategy manager's side: launch a feeder, watch it, change what it carries."""

from shmfeed.manager.manager import WebSocketManager, get_websocket_manager

__all__ = ["WebSocketManager", "get_websocket_manager"]
