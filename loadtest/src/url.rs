//! The target's URL: scheme, host, port, path, and the address it resolves to. Knows plain `ws` and `http` only.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::error::LoadError;

/// A parsed URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// As given.
    pub(crate) text: String,
    /// Host and, when given, port: the Host header.
    pub(crate) authority: String,
    /// Path and query, at least `/`.
    pub(crate) target: String,
    /// What the authority resolves to.
    pub(crate) addr: SocketAddr,
}

impl Url {
    /// Parses `ws://host[:port][/path]` or the same with `http://`, and resolves the host.
    pub(crate) fn parse(text: &str) -> Result<Url, LoadError> {
        let bad = |why: &str| LoadError::Url { url: text.to_owned(), why: why.to_owned() };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("it must begin with ws:// or http://"))?;
        match scheme {
            "ws" | "http" => {}
            "wss" | "https" => return Err(bad("TLS is not supported: use ws:// or http:// on a plain listener")),
            _ => return Err(bad("it must begin with ws:// or http://")),
        }
        let cut = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(cut);
        if authority.is_empty() {
            return Err(bad("it has no host"));
        }
        if authority.contains('@') {
            return Err(bad("user names in URLs are not supported"));
        }
        let target = target.split('#').next().unwrap_or_default();
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let with_port = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let addr = with_port
            .to_socket_addrs()
            .map_err(|e| bad(&format!("{authority} does not resolve: {e}")))?
            .next()
            .ok_or_else(|| bad(&format!("{authority} resolves to no address")))?;
        Ok(Url { text: text.to_owned(), authority: authority.to_owned(), target, addr })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn parts_of_good_urls() {
        for (text, authority, target, addr) in [
            ("ws://127.0.0.1:9001/", "127.0.0.1:9001", "/", "127.0.0.1:9001"),
            ("http://127.0.0.1", "127.0.0.1", "/", "127.0.0.1:80"),
            ("ws://127.0.0.1:1?a=b#c", "127.0.0.1:1", "/?a=b", "127.0.0.1:1"),
            ("ws://[::1]:9/chat", "[::1]:9", "/chat", "[::1]:9"),
            ("ws://[::1]/", "[::1]", "/", "[::1]:80"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.authority.as_str(), url.target.as_str()), (authority, target), "{text}");
            assert_eq!(url.addr, addr.parse().unwrap(), "{text}");
        }
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        for (text, why) in [
            ("127.0.0.1:9001", "begin with ws://"),
            ("ftp://127.0.0.1/", "begin with ws://"),
            ("wss://127.0.0.1/", "TLS"),
            ("ws:///x", "no host"),
            ("ws://127.0.0.1:99999/", "does not resolve"),
            ("ws://me@127.0.0.1/", "user names"),
        ] {
            assert!(Url::parse(text).unwrap_err().to_string().contains(why), "{text}");
        }
    }
}
