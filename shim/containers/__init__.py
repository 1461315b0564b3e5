"""Containers of bundles, each with a shim process: made, looked at, removed.

What the command line and the gRPC API have in common, and neither's alone: both see the same containers. Whoever made one
owns nothing of it; what must be known of it is in its directory (``containers.py``), and its shim answers for the rest.
"""
