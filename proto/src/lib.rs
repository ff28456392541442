//! Wire contracts: gRPC services, bus records, client frames, ids and error codes.
