//! What somebody probably meant by a name that does not exist. Knows no names itself.

/// Names less alike than this are no spelling mistakes of each other.
const ALIKE_MIN: f64 = 0.7;

/// What was probably meant, or everything there is.
pub(crate) fn suggestion(unknown: &str, known: &[&str]) -> String {
    let alike = known.iter().map(|key| (strsim::jaro_winkler(unknown, key), *key)).max_by(|a, b| a.0.total_cmp(&b.0));
    match alike {
        Some((alike, key)) if alike >= ALIKE_MIN => format!("did you mean {key}?"),
        Some(_) => format!("there are {}", known.join(", ")),
        None => "there are none".to_owned(),
    }
}
