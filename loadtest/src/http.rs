//! A small blocking HTTP/1.1 client with keep-alive, for what happens before and after a
//! run, and for runs that are made of requests. Never on the path of messages.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::error::LoadError;
use crate::url::Url;

const TIMEOUT: Duration = Duration::from_secs(15);
/// The longest body read.
const BODY_BYTES_MAX: u64 = 16 << 20;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Retry-After in seconds.
    pub(crate) retry_after_s: Option<u64>,
    pub(crate) body: Vec<u8>,
}

/// One connection, opened when needed.
#[derive(Debug)]
pub(crate) struct HttpClient {
    url: Url,
    stream: Option<BufReader<TcpStream>>,
}

impl HttpClient {
    pub(crate) fn new(url: &Url) -> HttpClient {
        HttpClient { url: url.clone(), stream: None }
    }

    /// One exchange. A kept connection that turns out closed is replaced once.
    pub(crate) fn exchange(
        &mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&str>,
    ) -> Result<Answer, LoadError> {
        let request = self.request(method, path, token, body);
        if self.stream.is_some()
            && let Ok(answer) = self.attempt(&request)
        {
            return Ok(answer);
        }
        let connect = TcpStream::connect_timeout(&self.url.addr, TIMEOUT).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            Ok(stream)
        });
        let stream =
            connect.map_err(|e| LoadError::Unreachable { target: self.url.authority.clone(), why: e.to_string() })?;
        self.stream = Some(BufReader::new(stream));
        self.attempt(&request).map_err(|e| LoadError::Http { target: self.url.authority.clone(), why: e.to_string() })
    }

    fn request(&self, method: &str, path: &str, token: Option<&str>, body: Option<&str>) -> Vec<u8> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.url.authority);
        if let Some(token) = token {
            request.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        if let Some(body) = body {
            request.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        request.push_str(body.unwrap_or_default());
        request.into_bytes()
    }

    fn attempt(&mut self, request: &[u8]) -> io::Result<Answer> {
        let Some(mut stream) = self.stream.take() else { return Err(io::ErrorKind::NotConnected.into()) };
        stream.get_mut().write_all(request)?;
        let (answer, keep) = read_answer(&mut stream)?;
        self.stream = keep.then_some(stream);
        Ok(answer)
    }
}

/// Reads one answer and says whether the connection can be used again.
fn read_answer(stream: &mut impl BufRead) -> io::Result<(Answer, bool)> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let status_line = read_line(stream)?;
    let status =
        status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| bad("no status line"))?;
    let mut keep = status_line.starts_with("HTTP/1.1");
    let (mut length, mut chunked, mut retry_after_s) = (None, false, None);
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad("a header without colon"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.parse::<u64>().map_err(|_| bad("a bad Content-Length"))?),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => keep = keep && !value.eq_ignore_ascii_case("close"),
            "retry-after" => retry_after_s = value.parse().ok(),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = u64::from_str_radix(read_line(stream)?.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|_| bad("a bad chunk size"))?;
            read_exactly(stream, size, &mut body)?;
            read_line(stream)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = length {
        read_exactly(stream, length, &mut body)?;
    } else if status != 204 && status != 304 {
        keep = false;
        stream.take(BODY_BYTES_MAX).read_to_end(&mut body)?;
    }
    Ok((Answer { status, retry_after_s, body }, keep))
}

fn read_exactly(stream: &mut impl BufRead, bytes: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if body.len() as u64 + bytes > BODY_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
    }
    match stream.take(bytes).read_to_end(body)? as u64 == bytes {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.take(64 * 1024).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn bodies_of_all_kinds() {
        let read = |text: &str| read_answer(&mut text.as_bytes());
        let (answer, keep) = read("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        assert_eq!((answer.status, answer.body.as_slice(), keep), (201, &b"hi"[..], true));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\n\r\n";
        assert_eq!(read(chunked).unwrap().0.body, b"hello");
        let (answer, keep) = read("HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nConnection: close\r\n\r\nrest").unwrap();
        assert_eq!((answer.retry_after_s, answer.body.as_slice(), keep), (Some(7), &b"rest"[..], false));
        for bad in
            ["", "hello\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", "HTTP/1.1 200 OK\r\nx\r\n\r\n"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
