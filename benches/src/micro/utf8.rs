//! The step "utf8": a text is found valid. Ours is what framing calls for a whole message.

use std::hint::black_box;

use super::case::{Case, OURS, checked};

pub(super) fn cases() -> Vec<Case> {
    let texts =
        [("ascii", "the quick brown fox jumps over 13 lazy dogs. "), ("mixed", "größer 大きい больше 👍 plain ")];
    let mut cases = Vec::new();
    for (kind, text) in texts {
        for size in [64, 1024, 16 * 1024] {
            let text = text.repeat(size / text.len() + 1);
            let bytes = text.as_bytes()[..text.floor_char_boundary(size)].to_vec();
            let (step, copy) = (format!("utf8-{kind}-{size}"), bytes.clone());
            cases.push(Case::new(step.clone(), OURS, move || {
                let bytes = bytes.clone();
                checked(&true, move || simdutf8::basic::from_utf8(black_box(&bytes)).is_ok())
            }));
            cases.push(Case::new(step, "std", move || {
                let bytes = copy.clone();
                checked(&true, move || std::str::from_utf8(black_box(&bytes)).is_ok())
            }));
        }
    }
    cases
}
