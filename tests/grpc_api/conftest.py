"""What the tests of the gRPC API share; those of its parts are coroutines."""

from support.coroutines import pytest_pyfunc_call

__all__ = ["pytest_pyfunc_call"]
