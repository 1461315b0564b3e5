"""The catalog over HTTP, as Vault's API has it: ``build_app`` makes an ASGI application of a catalog and its tokens.

Needs the extra ``daemon``; the settings alone do not.
"""

from shim.catalog.api.settings import Settings

__all__ = ["Settings"]
