//! Histograms as text: HdrHistogram's V2 form in base64, which keeps every count. Owns nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as HistogramDeserializer, Serializer as _, V2Serializer};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::percentiles::Latencies;

/// Latencies on their way from an agent to its coordinator.
#[derive(Debug, Default)]
pub(super) struct Packed(pub(super) Latencies);

impl Packed {
    pub(super) fn of(latencies: &Latencies) -> Packed {
        let mut copy = Latencies::new();
        copy.add(latencies);
        Packed(copy)
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(histogram) = self.0.histogram().filter(|histogram| !histogram.is_empty()) else {
            return serializer.serialize_str("");
        };
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(histogram, &mut bytes).map_err(S::Error::custom)?;
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Packed, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Packed::default());
        }
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        let histogram: Histogram<u64> =
            HistogramDeserializer::new().deserialize(&mut bytes.as_slice()).map_err(D::Error::custom)?;
        let latencies = Latencies::from_histogram(&histogram);
        match latencies.count() == histogram.len() {
            true => Ok(Packed(latencies)),
            false => Err(D::Error::custom("a histogram with other bounds than this version has")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::message::mix;

    #[test]
    fn merging_what_was_sent_equals_recording_it_in_one_place() {
        for seed in 0..40 {
            let mut state = mix(seed);
            let mut next = || {
                state = mix(state);
                state
            };
            let agents = 1 + next() % 4;
            let (mut whole, mut merged) = (Latencies::new(), Latencies::new());
            for _ in 0..agents {
                let mut share = Latencies::new();
                for _ in 0..next() % 500 {
                    // From nanoseconds to beyond the longest that is told apart.
                    let nanos = next() >> (next() % 64);
                    whole.record(nanos);
                    share.record(nanos);
                }
                let text = serde_json::to_string(&Packed::of(&share)).unwrap();
                merged.add(&serde_json::from_str::<Packed>(&text).unwrap().0);
            }
            assert_eq!(merged.histogram().unwrap(), whole.histogram().unwrap(), "seed {seed}");
            assert_eq!(merged.percentiles(), whole.percentiles(), "seed {seed}");
        }
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for text in ["\"x\"", "\"AAAA\"", "7"] {
            assert!(serde_json::from_str::<Packed>(text).is_err(), "{text}");
        }
        assert_eq!(serde_json::from_str::<Packed>("\"\"").unwrap().0.count(), 0);
    }
}
