//! The page that the binary carries, at `/`, and the readable contract at `/docs`: static files with their tags, under a
//! policy that lets a browser run and load nothing else.
//!
//! Owns headers. Never touches what the files say.

use axum::extract::{Path, Request};
use axum::response::{IntoResponse, Response};
use gochat_proto::codes::ErrorCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::envelope::ApiError;

struct File {
    name: &'static str,
    content_type: &'static str,
    tag: &'static str,
    bytes: &'static [u8],
}

/// Sorted by name.
static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// `GET /`.
pub(crate) async fn index(request: Request) -> Response {
    serve("index.html", request.headers())
}

/// `GET /docs`.
pub(crate) async fn docs(request: Request) -> Response {
    serve("docs.html", request.headers())
}

/// `GET /page/{path}`.
pub(crate) async fn file(Path(path): Path<String>, request: Request) -> Response {
    serve(&path, request.headers())
}

fn serve(name: &str, asked: &HeaderMap) -> Response {
    let Ok(at) = FILES.binary_search_by(|file| file.name.cmp(name)) else {
        return ApiError::from(ErrorCode::NotFound).into_response();
    };
    let file = &FILES[at];
    let is_there = |tag: &str| matches!(tag.trim().trim_start_matches("W/"), t if t == file.tag || t == "*");
    let known = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut response = match known.flat_map(|tags| tags.split(',')).any(is_there) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(CONTENT_TYPE, HeaderValue::from_static(file.content_type))], file.bytes).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_static(file.tag));
    // Names stay over releases: a browser asks each time, and is told in a few bytes that nothing changed.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(VARY, HeaderValue::from_static("Host"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(policy) = HeaderValue::from_str(&policy(asked)) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Everything from here only; pictures of users from anywhere. Older browsers do not count a WebSocket to the same host
/// as the same origin, so it is named.
fn policy(asked: &HeaderMap) -> String {
    let host = asked.get(HOST).and_then(|host| host.to_str().ok()).filter(|host| is_host(host));
    let sockets = host.map(|host| format!(" ws://{host} wss://{host}")).unwrap_or_default();
    format!(
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' https: data:; \
         connect-src 'self'{sockets}; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
}

/// Nothing in it ends a directive.
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    fn asked(headers: &[(http::HeaderName, &str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn files_are_found_and_recognised_by_their_tag() {
        assert!(FILES.is_sorted_by(|a, b| a.name < b.name));
        for file in FILES {
            let whole = serve(file.name, &asked(&[]));
            assert_eq!(whole.status(), StatusCode::OK, "{}", file.name);
            assert_eq!(whole.headers()[ETAG], file.tag);
            for tags in [file.tag.to_owned(), format!("\"other\", W/{}", file.tag), "*".to_owned()] {
                let known = serve(file.name, &asked(&[(IF_NONE_MATCH, &tags)]));
                assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
                assert!(known.headers().contains_key(CONTENT_SECURITY_POLICY));
            }
            assert_eq!(serve(file.name, &asked(&[(IF_NONE_MATCH, "\"other\"")])).status(), StatusCode::OK);
        }
        for missing in ["", "../Cargo.toml", "index.html/", "/index.html", "INDEX.HTML"] {
            assert_eq!(serve(missing, &asked(&[])).status(), StatusCode::NOT_FOUND, "{missing}");
        }
    }

    #[test]
    fn nothing_runs_that_the_binary_does_not_carry() {
        for file in FILES.iter().filter(|file| file.content_type.starts_with("text/html")) {
            let text = std::str::from_utf8(file.bytes).unwrap().to_lowercase();
            for forbidden in ["<style", " style=", "javascript:", " onclick=", " onload=", "src=\"http", "href=\"http"]
            {
                assert!(!text.contains(forbidden), "{}: {forbidden}", file.name);
            }
            for script in text.split("<script").skip(1) {
                assert!(script.split('>').next().unwrap().contains("src="), "{}: a script of its own", file.name);
            }
        }
    }

    #[test]
    fn the_policy_names_this_host_and_nothing_that_a_request_slips_in() {
        let of = |host: &str| policy(&asked(&[(HOST, host)]));
        assert!(of("chat.example:8080").contains("connect-src 'self' ws://chat.example:8080 wss://chat.example:8080;"));
        assert!(of("[::1]:80").contains("ws://[::1]:80 "));
        for bad in ["a; script-src *", "a b", "a,b", "", "a'b"] {
            assert!(of(bad).contains("connect-src 'self'; object-src"), "{bad}");
        }
        assert!(!of("x").contains("unsafe"));
    }
}
