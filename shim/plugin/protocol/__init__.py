"""What a host and a plugin of go-plugin say to each other, from the handshake on, whoever runs the plugin.

The handshake and the log need the standard library alone, the rest grpcio and cryptography.
"""
