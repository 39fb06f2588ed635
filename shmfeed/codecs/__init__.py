"""The protocols of venues: bytes in, events out, and the frames to send.

`interface` is what a codec has to have, and says how to add one; `registry` lists them.
"""

from shmfeed.codecs.interface import Codec, Event, Request
from shmfeed.codecs.registry import get_codec

__all__ = ["Codec", "Event", "Request", "get_codec"]
