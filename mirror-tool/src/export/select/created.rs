//! When an image was made, as it says itself.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

/// The annotation of a manifest that says when the image was made.
///
/// See the [predefined annotations](https://github.com/opencontainers/image-spec/blob/main/annotations.md).
pub const CREATED: &str = "org.opencontainers.image.created";

/// Largest config read for its time, in bytes. A config lists layers and history: kilobytes.
pub const MAX_CONFIG: usize = 4 << 20;

/// The creation time the annotations of a manifest give.
///
/// Asked first: the manifest is at hand, while a config costs a request.
pub fn of_annotations(annotations: &BTreeMap<String, String>) -> Option<Timestamp> {
    time(annotations.get(CREATED)?)
}

/// The creation time an image's [config][spec] gives.
///
/// Whatever is no such document says nothing, for a config may be of any type.
///
/// [spec]: https://github.com/opencontainers/image-spec/blob/main/config.md
pub fn of_config(config: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Config {
        created: Option<String>,
    }
    if config.len() > MAX_CONFIG {
        return None;
    }
    let config: Config = serde_json::from_slice(config).ok()?;
    time(&config.created?)
}

/// The creation time of an image: of the manifest if it has one, else of the config.
pub fn of_image(annotations: &BTreeMap<String, String>, config: &[u8]) -> Option<Timestamp> {
    of_annotations(annotations).or_else(|| of_config(config))
}

/// A time as RFC 3339 has it. The year 1 is how Go writes a time that was never set.
fn time(text: &str) -> Option<Timestamp> {
    const LONGEST: usize = 64;
    if text.len() > LONGEST || text.starts_with("0001-") {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn annotated(time: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(CREATED.to_owned(), time.to_owned())])
    }

    #[test]
    fn the_manifest_is_believed_before_the_config() {
        let config = br#"{"created":"2025-02-03T04:05:06.789Z","os":"linux"}"#;
        let of_config = "2025-02-03T04:05:06.789Z".parse().ok();
        for (annotations, expected) in [
            (BTreeMap::new(), of_config),
            (annotated("yesterday"), of_config),
            (annotated("0001-01-01T00:00:00Z"), of_config),
            (
                annotated("2024-01-05T12:00:00+02:00"),
                "2024-01-05T10:00:00Z".parse().ok(),
            ),
        ] {
            assert_eq!(of_image(&annotations, config), expected, "{annotations:?}");
        }
    }

    #[test]
    fn garbage_says_nothing() {
        let deep = "[".repeat(100_000);
        let nested = format!(r#"{{"history":{deep}"#);
        for config in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"created":null}"#,
            r#"{"created":1700000000}"#,
            r#"{"created":""}"#,
            r#"{"created":"2024-13-01T00:00:00Z"}"#,
            r#"{"created":"2024-01-01"}"#,
            r#"{"created":"0001-01-01T00:00:00Z"}"#,
            &deep,
            &nested,
        ] {
            assert_eq!(of_config(config.as_bytes()), None);
        }
        assert_eq!(of_annotations(&annotated(&"2".repeat(1000))), None);
        let mut large = br#"{"created":"2024-01-05T12:00:00Z"}"#.to_vec();
        assert!(of_config(&large).is_some());
        large.resize(MAX_CONFIG + 1, b' ');
        assert_eq!(of_config(&large), None);
    }

    proptest! {
        #[test]
        fn no_config_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,40}") {
            let _ = of_config(&bytes);
            let _ = of_config(format!(r#"{{"created":{text:?}}}"#).as_bytes());
        }
    }
}
