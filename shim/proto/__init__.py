"""Protobuf messages: our own ``.proto`` files and the modules that ``generate.py`` makes of them.

Packages, message names and field numbers are the ones of the protocols, because type URLs are made of them.
Nothing is imported here: a process pays only for the messages that it uses.
"""
