"""ocishim: an OCI runtime shim that people can read and extend."""

__all__ = ["__version__"]

__version__ = "0.1.0"
