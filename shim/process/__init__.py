"""Children of this process: started, adopted, waited for, reaped."""

from shim.process.child import Child
from shim.process.exit import Exit
from shim.process.reaper import AdoptionWindow, Reaper, encoded

__all__ = ["AdoptionWindow", "Child", "Exit", "Reaper", "encoded"]
