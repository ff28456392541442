//! The only public entry: WebSocket sessions on pinned shards, the HTTP API, delivery to sockets.
