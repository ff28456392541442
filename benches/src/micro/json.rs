//! The step "json": one frame of a client becomes fields. Ours also checks presence, types and sizes; the others fill the
//! same fields and check their types. None has escapes, so that everybody may borrow from the frame.

use std::hint::black_box;

use gochat_proto::frames::parse;
use serde::Deserialize;

use super::Outcome;
use super::case::{Case, OURS, Work, checked};

const FRAMES: [(&str, &str); 6] = [
    (
        "json-send",
        r#"{"type":"send-message","data":{"conversationId":"single_1844674407370955_1844674407370956","content":"See you at the station at seven, the train leaves from platform four.","messageType":1,"client_msg_id":"01989f3e-7a1b-7000-8000-00000000002a"}}"#,
    ),
    (
        "json-mark-read",
        r#"{"type":"mark-read","data":{"conversationId":"single_1844674407370955_1844674407370956","seqId":184467}}"#,
    ),
    ("json-ping", r#"{"type":"ping","data":{}}"#),
    ("json-typing", r#"{"type":"typing","data":{"conversationId":"single_1844674407370955_1844674407370956"}}"#),
    (
        "json-recall",
        r#"{"type":"recall-message","data":{"conversationId":"single_1844674407370955_1844674407370956","messageId":"7402018462213120000","reason":"a typo"}}"#,
    ),
    ("json-refresh", r#"{"type":"auth-refresh","data":{"token":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl"}}"#),
];

pub(super) fn cases() -> Vec<Case> {
    let of = |(step, frame): (&'static str, &'static str)| {
        [
            Case::new(step, OURS, move || ours(frame)),
            Case::new(step, "serde_json", move || serde_json(frame)),
            Case::new(step, "sonic-rs", move || sonic(frame)),
            Case::new(step, "simd-json", move || simd(frame)),
        ]
    };
    FRAMES.into_iter().flat_map(of).collect()
}

/// What the libraries are asked for: every field that any frame has.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    data: Option<Fields<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code, reason = "filled to be compared by cost")]
struct Fields<'a> {
    conversation_id: Option<&'a str>,
    content: Option<&'a str>,
    message_type: Option<i64>,
    #[serde(rename = "client_msg_id")]
    client_msg_id: Option<&'a str>,
    temp_message_id: Option<&'a str>,
    extra: Option<&'a str>,
    seq_id: Option<i64>,
    message_id: Option<&'a str>,
    reason: Option<&'a str>,
    token: Option<&'a str>,
}

/// A figure that differs when anything was lost.
fn filled(envelope: &Envelope<'_>) -> usize {
    let Some(data) = &envelope.data else { return 0 };
    let texts =
        [data.conversation_id, data.content, data.client_msg_id, data.message_id, data.reason, data.token].into_iter();
    envelope.kind.len() + texts.flatten().map(str::len).sum::<usize>() + usize::from(data.seq_id.is_some())
}

fn expected(frame: &str) -> Outcome<usize> {
    let envelope: Envelope<'_> = serde_json::from_str(frame)?;
    Ok(filled(&envelope))
}

fn ours(frame: &'static str) -> Outcome<Work> {
    checked(&true, move || black_box(parse(black_box(frame.as_bytes()))).is_ok())
}

fn serde_json(frame: &'static str) -> Outcome<Work> {
    checked(&expected(frame)?, move || {
        serde_json::from_slice(black_box(frame.as_bytes())).map(|it| filled(black_box(&it))).unwrap_or_default()
    })
}

fn sonic(frame: &'static str) -> Outcome<Work> {
    checked(&expected(frame)?, move || {
        sonic_rs::from_slice(black_box(frame.as_bytes())).map(|it| filled(black_box(&it))).unwrap_or_default()
    })
}

/// It parses in place, as it might in a receive buffer; without escapes it leaves the bytes as they were.
fn simd(frame: &'static str) -> Outcome<Work> {
    let (mut bytes, mut buffers) = (frame.as_bytes().to_vec(), simd_json::Buffers::new(frame.len()));
    checked(&expected(frame)?, move || {
        simd_json::serde::from_slice_with_buffers(black_box(bytes.as_mut_slice()), &mut buffers)
            .map(|it| filled(black_box(&it)))
            .unwrap_or_default()
    })
}
