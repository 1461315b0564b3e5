"""ttrpc over unix sockets: a server for the shim's event loop, a blocking client for everybody else.

Nothing is imported here: the client must not load asyncio, which costs more than everything it does.
"""
