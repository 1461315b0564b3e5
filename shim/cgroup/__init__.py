"""Control groups: limits, statistics, out-of-memory events and the processes of a container.

cgroup v2 is ours: the shim makes the group, writes the limits, reads the files. On a host whose controllers are (also)
mounted as v1 the OCI runtime makes the groups and gets the limits through the spec; here they are only read.
Everything is plain file operations. Errors of the kernel become one clear line in the taxonomy of ``shim.errors``.
"""
