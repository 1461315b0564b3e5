"""``ocishim daemon``: the HTTP and the gRPC API in one process, which owns no container."""
