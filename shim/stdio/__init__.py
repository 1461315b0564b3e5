"""Standard streams of containers: where they lead, how they are copied, how they end."""

from shim.stdio.copying import Copier, Stream
from shim.stdio.process_io import IOSettings, ProcessIO
from shim.stdio.uri import Streams

__all__ = ["Copier", "IOSettings", "ProcessIO", "Stream", "Streams"]
