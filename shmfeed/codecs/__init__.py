"""The venues' protocols: bytes in, events out, and the frames to send."""

from shmfeed.codecs.interface import Codec, Request
from shmfeed.codecs.registry import get_codec

__all__ = ["Codec", "Request", "get_codec"]
