"""The OCI runtime specification as plain data: reading, checking and deriving config.json and its parts.

Pure: no files, sockets, clocks or processes. A document stays the dict that it was, unknown keys included, because
it is handed on to a runtime that may know more than we do; what is changed is changed in a copy.
"""
