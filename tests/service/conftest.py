"""A shim process for the tests of each module; tests of the services' parts are coroutines."""

from support.coroutines import pytest_pyfunc_call
from support.shims import lender, shim

__all__ = ["lender", "pytest_pyfunc_call", "shim"]
