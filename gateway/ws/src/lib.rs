//! Sans-io WebSocket: HTTP/1.1 upgrade and RFC 6455 framing.
