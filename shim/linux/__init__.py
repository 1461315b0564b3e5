"""The kernel, one file per man-page family.

Wrappers have the man page's name and parameter order, constants the header's spelling. The standard library comes
first, ctypes where it has nothing. Everything raises ``OSError`` with errno, text and path; the layers above
translate it once. Only here may ctypes, fcntl and termios be imported.

Built and tested for x86-64 and arm64; system call numbers are those that all architectures but alpha share.
"""
