"""Standard streams of containers: where they lead, how they are copied, how they end."""

from shim.stdio.copying import Copier, Stream
from shim.stdio.exchange import Channel, Exchange
from shim.stdio.process_io import IOSettings, ProcessIO
from shim.stdio.uri import Streams

__all__ = ["Channel", "Copier", "Exchange", "IOSettings", "ProcessIO", "Stream", "Streams"]
