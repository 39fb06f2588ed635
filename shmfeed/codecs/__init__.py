"""The protocols of venues: bytes in, events out, and the frames to send.

`interface` defines a codec and explains how to add one; `registry` lists them.
"""

from shmfeed.codecs.interface import Codec, Event, Request
from shmfeed.codecs.registry import get_codec

__all__ = ["Codec", "Event", "Request", "get_codec"]
