//! Reading requests: bodies as JSON objects and queries, each wrong one refused with what and where.
//!
//! Owns sizes and types. Never knows which fields an endpoint has.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use gochat_proto::codes::ErrorCode;
use gochat_proto::ids::UserId;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use serde_json::{Map, Value};

use super::envelope::ApiError;

/// Bytes of a request body.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// Highest integer that every client can hold exactly.
const INTEGER_MAX: i64 = (1 << 53) - 1;
/// For a body to arrive in full.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The whole body; empty when there is none.
pub(crate) struct RawBody(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<RawBody, ApiError> {
        let announced =
            request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > BODY_BYTES_MAX as u64) {
            return Err(too_large());
        }
        let late = || ApiError::invalid("body", "did not arrive within 10 s").closing();
        tokio::time::timeout(BODY_TIMEOUT, collect(request)).await.unwrap_or_else(|_| Err(late())).map(RawBody)
    }
}

async fn collect(request: Request) -> Result<Bytes, ApiError> {
    let mut chunks = request.into_body().into_data_stream();
    let mut body = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| ApiError::invalid("body", "ended early").closing())?;
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn too_large() -> ApiError {
    ApiError::field(ErrorCode::MessageTooLarge, "body", "is larger than 1 MiB").closing()
}

/// A request body of one endpoint.
pub(crate) trait FromFields: Sized {
    /// Takes what it needs; unknown fields stay where they are.
    fn read(fields: &mut Fields) -> Result<Self, ApiError>;
}

/// A body, read. No body at all is an object without fields.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: FromFields> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, ApiError> {
        let RawBody(bytes) = RawBody::from_request(request, state).await?;
        T::read(&mut Fields::parse(&bytes)?).map(Body)
    }
}

/// The parameters that one endpoint knows.
pub(crate) trait FromQuery: Sized {
    /// Takes what it needs.
    fn read(query: &QueryFields) -> Result<Self, ApiError>;
}

/// A query, read.
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Send + Sync, T: FromQuery> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked<T>, ApiError> {
        T::read(&QueryFields::from_request_parts(parts, state).await?).map(Asked)
    }
}

/// The fields of a JSON object. Unknown ones are ignored, null counts as absent.
#[derive(Debug)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// An empty body has no fields.
    pub(crate) fn parse(body: &[u8]) -> Result<Fields, ApiError> {
        if body.is_empty() {
            return Ok(Fields(Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(_) => Err(ApiError::invalid("body", "must be a JSON object")),
            Err(error) => Err(ApiError::invalid("body", &format!("is not JSON: {error}"))),
        }
    }

    /// A text, which may be empty.
    pub(crate) fn text(&mut self, field: &str) -> Result<Option<String>, ApiError> {
        match self.0.remove(field) {
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Null) | None => Ok(None),
            Some(_) => Err(ApiError::invalid(field, "must be a string")),
        }
    }

    /// A text that must be there.
    pub(crate) fn required_text(&mut self, field: &str) -> Result<String, ApiError> {
        self.text(field)?.ok_or_else(|| ApiError::invalid(field, "is required"))
    }

    /// A text of at most so many characters; empty when absent.
    pub(crate) fn text_up_to(&mut self, field: &str, chars_max: usize) -> Result<String, ApiError> {
        let text = self.text(field)?.unwrap_or_default();
        if text.chars().count() > chars_max {
            return Err(ApiError::invalid(field, &format!("is longer than {chars_max} characters")));
        }
        Ok(text)
    }

    /// An integer of 0 or above.
    pub(crate) fn integer(&mut self, field: &str) -> Result<Option<i64>, ApiError> {
        match self.0.remove(field) {
            Some(Value::Null) | None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number @ 0..=INTEGER_MAX) => Ok(Some(number)),
                Some(_) => Err(ApiError::invalid(field, "must be from 0 to 9007199254740991")),
                None => Err(ApiError::invalid(field, "must be an integer")),
            },
        }
    }

    /// True or false.
    pub(crate) fn boolean(&mut self, field: &str) -> Result<Option<bool>, ApiError> {
        match self.0.remove(field) {
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(Value::Null) | None => Ok(None),
            Some(_) => Err(ApiError::invalid(field, "must be true or false")),
        }
    }

    /// An object, whose fields are read as these.
    pub(crate) fn object(&mut self, field: &str) -> Result<Option<Fields>, ApiError> {
        match self.0.remove(field) {
            Some(Value::Object(fields)) => Ok(Some(Fields(fields))),
            Some(Value::Null) | None => Ok(None),
            Some(_) => Err(ApiError::invalid(field, "must be an object")),
        }
    }

    /// Any value.
    pub(crate) fn value(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field).filter(|value| !value.is_null())
    }

    /// The id of a user, a decimal string.
    pub(crate) fn id(&mut self, field: &str) -> Result<String, ApiError> {
        let id = self.required_text(field)?;
        match id.parse::<UserId>() {
            Ok(_) => Ok(id),
            Err(_) => Err(ApiError::invalid(field, "must be an id, a decimal string")),
        }
    }

    /// A list of ids, each a decimal string.
    pub(crate) fn ids(&mut self, field: &str) -> Result<Vec<String>, ApiError> {
        let values = match self.0.remove(field) {
            Some(Value::Array(values)) => values,
            Some(Value::Null) | None => return Ok(Vec::new()),
            Some(_) => return Err(ApiError::invalid(field, "must be a list of ids")),
        };
        let id = |value| match value {
            Value::String(id) if id.parse::<UserId>().is_ok() => Ok(id),
            _ => Err(ApiError::invalid(field, "must be a list of ids, each a decimal string")),
        };
        values.into_iter().map(id).collect()
    }
}

/// The parameters of the query; of one given twice the last counts.
#[derive(Debug)]
pub(crate) struct QueryFields(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for QueryFields {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<QueryFields, ApiError> {
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        query.map(|Query(fields)| QueryFields(fields)).map_err(|_| ApiError::invalid("query", "cannot be read"))
    }
}

impl QueryFields {
    /// The value as given.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.0.iter().rev().find(|(name, _)| name == field).map(|(_, value)| value.as_str())
    }

    /// A text of at most so many characters; empty when absent.
    pub(crate) fn text_up_to(&self, field: &str, chars_max: usize) -> Result<String, ApiError> {
        let text = self.text(field).unwrap_or_default();
        if text.chars().count() > chars_max {
            return Err(ApiError::invalid(field, &format!("is longer than {chars_max} characters")));
        }
        Ok(text.to_owned())
    }

    /// What is searched for: 1 to so many characters after trimming.
    ///
    /// # Errors
    /// `MISSING_QUERY` when there is nothing to search for.
    pub(crate) fn searched(&self, field: &str, chars_max: usize) -> Result<String, ApiError> {
        match self.text_up_to(field, chars_max)?.trim() {
            "" => Err(ApiError::field(ErrorCode::MissingQuery, field, "is required")),
            text => Ok(text.to_owned()),
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, field: &str) -> Result<Option<bool>, ApiError> {
        match self.text(field) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(ApiError::invalid(field, "must be true or false")),
        }
    }

    /// An integer out of a range.
    pub(crate) fn one_of(&self, field: &str, range: std::ops::RangeInclusive<i64>) -> Result<Option<i32>, ApiError> {
        match self.integer(field)? {
            None => Ok(None),
            Some(number) if range.contains(&number) => Ok(i32::try_from(number).ok()),
            Some(_) => Err(ApiError::invalid(field, &format!("must be from {} to {}", range.start(), range.end()))),
        }
    }

    /// An integer of 0 or above.
    pub(crate) fn integer(&self, field: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(field) else { return Ok(None) };
        match text.parse() {
            Ok(number @ 0..=INTEGER_MAX) => Ok(Some(number)),
            Ok(_) | Err(_) => Err(ApiError::invalid(field, "must be an integer from 0 to 9007199254740991")),
        }
    }

    /// An integer brought into 1..=max.
    pub(crate) fn clamped(&self, field: &str, max: i32) -> Result<Option<i32>, ApiError> {
        let number = self.integer(field)?;
        Ok(number.map(|number| i32::try_from(number).unwrap_or(max).clamp(1, max)))
    }

    /// Integers, given as `a=1,2` or `a=1&a=2`.
    pub(crate) fn list(&self, field: &str) -> Result<Vec<i32>, ApiError> {
        let given = self.0.iter().filter(|(name, _)| name == field).flat_map(|(_, value)| value.split(','));
        let number = |text: &str| text.parse().map_err(|_| ApiError::invalid(field, "must be a list of integers"));
        given.map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    fn fields(body: &str) -> Fields {
        Fields::parse(body.as_bytes()).unwrap()
    }

    fn query(text: &str) -> QueryFields {
        let uri = format!("/x?{text}").parse().unwrap();
        QueryFields(Query::<Vec<(String, String)>>::try_from_uri(&uri).unwrap().0)
    }

    #[test]
    fn bodies_that_are_no_objects() {
        for bad in ["{not json", "[]", "5", "\"x\"", "{\"a\":1} trailing", "{\"a\":\"\u{1}\"}", "\u{feff}{}"] {
            let error = Fields::parse(bad.as_bytes()).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidParams, "{bad}");
        }
        assert!(Fields::parse(b"{\"a\":\"\xff\"}").is_err());
        let deep = "[".repeat(100_000);
        assert!(Fields::parse(deep.as_bytes()).is_err());
        assert!(fields("").0.is_empty());
    }

    #[test]
    fn types_are_strict() {
        let body = r#"{"t":"x","n":5,"f":1.0,"neg":-1,"big":9007199254740992,"s":"5","null":null,"ids":["1","22"],"mixed":["1",2]}"#;
        assert_eq!(fields(body).required_text("t").unwrap(), "x");
        assert!(fields(body).required_text("n").is_err());
        assert!(fields(body).required_text("null").is_err());
        assert_eq!(fields(body).text("null").unwrap(), None);
        assert_eq!(fields(body).integer("n").unwrap(), Some(5));
        assert_eq!(fields(body).integer("absent").unwrap(), None);
        for bad in ["f", "neg", "big", "s", "ids"] {
            assert!(fields(body).integer(bad).is_err(), "{bad}");
        }
        assert_eq!(fields(body).ids("ids").unwrap(), ["1", "22"]);
        for bad in ["mixed", "t", "n"] {
            assert!(fields(body).ids(bad).is_err(), "{bad}");
        }
        assert!(fields(r#"{"x":["01"]}"#).ids("x").is_err());
        assert!(fields(r#"{"x":"üüü"}"#).text_up_to("x", 3).is_ok());
        assert!(fields(r#"{"x":"üüü"}"#).text_up_to("x", 2).is_err());
    }

    #[test]
    fn queries_are_clamped_not_guessed() {
        assert_eq!(query("size=100000").clamped("size", 100).unwrap(), Some(100));
        assert_eq!(query("size=0").clamped("size", 100).unwrap(), Some(1));
        assert_eq!(query("size=7&size=8").clamped("size", 100).unwrap(), Some(8));
        assert_eq!(query("other=7").clamped("size", 100).unwrap(), None);
        for bad in ["size=", "size=x", "size=-1", "size=1.5", "size=%20", "size=9007199254740992"] {
            assert!(query(bad).clamped("size", 100).is_err(), "{bad}");
        }
        assert_eq!(query("type=1,2&type=5").list("type").unwrap(), [1, 2, 5]);
        assert!(query("type=1,x").list("type").is_err());
        assert_eq!(query("q=%20ann%20").searched("q", 3).ok(), None, "counted as given");
        assert_eq!(query("q=%20ann%20").searched("q", 5).unwrap(), "ann");
        for missing in ["", "q=", "q=%20"] {
            assert_eq!(query(missing).searched("q", 5).unwrap_err().code, ErrorCode::MissingQuery);
        }
        assert_eq!(query("role=3").one_of("role", 1..=3).unwrap(), Some(3));
        assert!(query("role=4").one_of("role", 1..=3).is_err());
        assert_eq!(query("x=false").boolean("x").unwrap(), Some(false));
        assert!(query("x=1").boolean("x").is_err());
    }
}
