"""How a shim process comes to be, and ends."""
