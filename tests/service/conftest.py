"""A shim process for the tests of each module; tests of the services' parts are coroutines."""

from support.coroutines import pytest_pyfunc_call
from support.sandboxes import box, network
from support.shims import lender, shim

__all__ = ["box", "lender", "network", "pytest_pyfunc_call", "shim"]
