"""A shim process for the tests of each module."""

from support.shims import lender, shim

__all__ = ["lender", "shim"]
