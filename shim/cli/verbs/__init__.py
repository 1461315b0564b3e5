"""The verbs of ``ocishim``, one file a verb: parse, call, print. ``remote`` has those that are about a daemon's containers."""
