"""The services that a shim process answers: containerd's Task and Sandbox, and our own Shim.

Nothing is imported here: a start without a template reads options, and would wait for all that a shim imports.
"""
