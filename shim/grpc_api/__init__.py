"""containerd's first gRPC API over the containers of this product: what the daemon serves beside the HTTP API."""
