"""Vault's catalog of plugin runtimes and plugins, and the tokens of those who may change it."""

from shim.catalog.catalog import Catalog
from shim.catalog.plugins import Plugin
from shim.catalog.runtimes import PluginRuntime
from shim.catalog.tokens import Token, Tokens

__all__ = ["Catalog", "Plugin", "PluginRuntime", "Token", "Tokens"]
