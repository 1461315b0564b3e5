from support.api_daemon import daemon
from support.coroutines import pytest_pyfunc_call

__all__ = ["daemon", "pytest_pyfunc_call"]
