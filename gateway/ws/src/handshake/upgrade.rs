//! The server's judgement of an upgrade request (RFC 6455 section 4.2.1). Accepts nothing by itself: the caller decides
//! on path, origin and credentials.

use super::accept::is_key;
use super::fields::Fields;
use super::request::{Body, Request, Version};
use super::syntax::{is_extension_list, is_token, list_elements};

/// Whether the client wants a WebSocket: a GET that names the protocol in Upgrade. Anything else is plain HTTP. What is
/// wrong with such a request, [`Upgrade::from_request`] tells.
#[must_use]
pub fn is_websocket_upgrade(request: &Request<'_>) -> bool {
    request.method == "GET" && request.fields.has_token("upgrade", "websocket")
}

/// A valid upgrade request, ready to be answered with [`write_accept`](super::write_accept).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// The Sec-WebSocket-Key as received, 24 bytes.
    pub key: &'a [u8],
    fields: Fields<'a>,
}

/// An upgrade request to refuse with [`status`](Self::status) and [`headers`](Self::headers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// Not a GET.
    #[error("method of an upgrade must be GET")]
    NotGet,
    /// Below HTTP/1.1.
    #[error("an upgrade needs HTTP/1.1")]
    NotHttp11,
    /// A body is announced, which would be read as frames.
    #[error("an upgrade request has no body")]
    UnexpectedBody,
    /// Upgrade does not name `websocket`.
    #[error("upgrade header does not name websocket")]
    MissingUpgrade,
    /// Connection does not name `upgrade`.
    #[error("connection header does not name upgrade")]
    MissingConnectionUpgrade,
    /// No Sec-WebSocket-Key.
    #[error("Sec-WebSocket-Key missing")]
    MissingKey,
    /// More than one Sec-WebSocket-Key (RFC 6455 section 11.3.1).
    #[error("more than one Sec-WebSocket-Key")]
    MultipleKeys,
    /// A key that is not base64 of 16 bytes.
    #[error("Sec-WebSocket-Key is not 16 bytes in base64")]
    InvalidKey,
    /// More than one Sec-WebSocket-Version (RFC 6455 section 11.3.5).
    #[error("more than one Sec-WebSocket-Version")]
    MultipleVersions,
    /// A version other than 13, or none (RFC 6455 section 4.4).
    #[error("Sec-WebSocket-Version is not 13")]
    UnsupportedVersion,
    /// Sec-WebSocket-Protocol is not a list of distinct tokens (RFC 6455 section 4.1).
    #[error("malformed Sec-WebSocket-Protocol")]
    InvalidProtocols,
    /// Sec-WebSocket-Extensions does not follow its grammar (RFC 6455 section 9.1).
    #[error("malformed Sec-WebSocket-Extensions")]
    InvalidExtensions,
}

impl UpgradeError {
    /// The HTTP status to refuse with: 426 for the version, else 400.
    #[must_use]
    pub fn status(self) -> u16 {
        if self == Self::UnsupportedVersion { 426 } else { 400 }
    }

    /// The header fields the refusal must carry besides those of every response.
    #[must_use]
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        if self == Self::UnsupportedVersion {
            &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
        } else {
            &[]
        }
    }
}

impl<'a> Upgrade<'a> {
    /// Checks everything that RFC 6455 section 4.2.1 asks of the request.
    ///
    /// # Errors
    /// See [`UpgradeError`].
    pub fn from_request(request: &Request<'a>) -> Result<Self, UpgradeError> {
        let fields = request.fields;
        match () {
            () if request.method != "GET" => Err(UpgradeError::NotGet),
            () if request.version < Version::Http11 => Err(UpgradeError::NotHttp11),
            () if !matches!(request.body, Body::None | Body::Length(0)) => Err(UpgradeError::UnexpectedBody),
            () if !fields.has_token("upgrade", "websocket") => Err(UpgradeError::MissingUpgrade),
            () if !fields.has_token("connection", "upgrade") => Err(UpgradeError::MissingConnectionUpgrade),
            () => Ok(()),
        }?;
        // The version comes before the key: other versions may have no key.
        let mut versions = fields.all("sec-websocket-version");
        match (versions.next(), versions.next()) {
            (Some(b"13"), None) => {}
            (_, Some(_)) => return Err(UpgradeError::MultipleVersions),
            _ => return Err(UpgradeError::UnsupportedVersion),
        }
        let mut keys = fields.all("sec-websocket-key");
        let key = match (keys.next(), keys.next()) {
            (None, _) => return Err(UpgradeError::MissingKey),
            (_, Some(_)) => return Err(UpgradeError::MultipleKeys),
            (Some(key), None) if is_key(key) => key,
            _ => return Err(UpgradeError::InvalidKey),
        };
        if !are_protocols(fields) {
            return Err(UpgradeError::InvalidProtocols);
        }
        if !fields.all("sec-websocket-extensions").all(is_extension_list) {
            return Err(UpgradeError::InvalidExtensions);
        }
        Ok(Self { key, fields })
    }

    /// The subprotocols the client offers, in its order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        protocols(self.fields).filter_map(|element| core::str::from_utf8(element).ok())
    }
}

fn protocols(fields: Fields<'_>) -> impl Iterator<Item = &[u8]> {
    fields.all("sec-websocket-protocol").flat_map(list_elements)
}

/// Whether every line offers something, and the offers are distinct tokens.
fn are_protocols(fields: Fields<'_>) -> bool {
    fields.all("sec-websocket-protocol").all(|value| list_elements(value).next().is_some())
        && protocols(fields)
            .enumerate()
            .all(|(i, element)| is_token(element) && !protocols(fields).take(i).any(|earlier| earlier == element))
}
