//! The `Accept` field, read for one question: does this client want a metalink?
//!
//! [RFC 9110, section 12.5.1](https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1). A metalink is
//! consent, not a format among others: containerd sends `*/*` and would take it for the blob, so only
//! a range that names a metalink type counts.

/// The two metalink formats a client can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetalinkVersion {
    /// Metalink 3, as MirrorManager emits it: `application/metalink+xml`.
    V3,
    /// Metalink 4, RFC 5854: `application/metalink4+xml`.
    V4,
}

impl MetalinkVersion {
    /// The media type of documents of this version.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::V3 => "application/metalink+xml",
            Self::V4 => "application/metalink4+xml",
        }
    }
}

/// The weight of a media range, in thousandths: 0 (refused) to 1000.
type Weight = u16;

/// Decides from all `Accept` field lines of a request whether it asks for a metalink.
///
/// It does when the weight of an explicit metalink type is not zero and at least that of every
/// other range listed. Version 4 wins a tie.
///
/// ```
/// use oci_mirror::accept::{MetalinkVersion, metalink};
/// let aria2 = ["*/*,application/metalink4+xml,application/metalink+xml"];
/// assert_eq!(metalink(aria2), Some(MetalinkVersion::V4));
/// assert_eq!(metalink(["*/*"]), None);
/// ```
pub fn metalink<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<MetalinkVersion> {
    let (mut v3, mut v4, mut others): (Weight, Weight, Weight) = (0, 0, 0);
    let mut read = |range: &str| {
        let mut parts = range.split(';');
        let name = parts.next().unwrap_or_default().trim();
        let slot = if name.eq_ignore_ascii_case(MetalinkVersion::V4.media_type()) {
            &mut v4
        } else if name.eq_ignore_ascii_case(MetalinkVersion::V3.media_type()) {
            &mut v3
        } else {
            &mut others
        };
        // A malformed weight makes a range that cannot be honoured, not one that is preferred.
        *slot = (*slot).max(weight(parts).unwrap_or(0));
    };
    for line in lines {
        // Hardly anybody quotes, and without quotes every comma separates.
        if line.contains('"') {
            elements(line).for_each(&mut read);
        } else {
            line.split(',').for_each(&mut read);
        }
    }
    let (best, version) = if v4 >= v3 {
        (v4, MetalinkVersion::V4)
    } else {
        (v3, MetalinkVersion::V3)
    };
    (best > 0 && best >= others).then_some(version)
}

/// Splits a list field at the commas outside quoted strings.
fn elements(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    line.split(move |character| {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => return true,
            _ => {}
        }
        false
    })
}

/// The `q` among a range's parameters: 1000 without one, `None` if it is malformed.
fn weight<'a>(parameters: impl Iterator<Item = &'a str>) -> Option<Weight> {
    for parameter in parameters {
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("q")
        {
            return qvalue(value.trim());
        }
    }
    Some(1000)
}

/// `qvalue` of RFC 9110, section 12.4.2: 0 to 1 with at most three decimals.
fn qvalue(text: &str) -> Option<Weight> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let thousandths: Weight = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

    #[test]
    fn only_explicit_consent_counts() {
        use MetalinkVersion::{V3, V4};
        let cases: &[(&[&str], Option<MetalinkVersion>)] = &[
            (&[], None),
            (&[""], None),
            (&["*/*"], None),
            (&["application/*"], None),
            (&["application/metalink4+xml"], Some(V4)),
            (&["application/metalink+xml"], Some(V3)),
            (&["Application/Metalink4+XML"], Some(V4)),
            (
                &["*/*,application/metalink4+xml,application/metalink+xml"],
                Some(V4),
            ),
            (&["application/metalink4+xml;q=0"], None),
            (&["application/metalink4+xml;q=0.5, */*"], None),
            (&["application/metalink4+xml;q=0.5, */*;q=0.5"], Some(V4)),
            (
                &["application/metalink4+xml;q=0.4, application/metalink+xml"],
                Some(V3),
            ),
            (
                &[
                    "application/metalink4+xml; charset=utf-8; q=0.9",
                    "text/html;q=0.8",
                ],
                Some(V4),
            ),
            (&[OCI, "application/metalink4+xml;q=0.9"], None),
            (&[OCI, "application/metalink4+xml"], Some(V4)),
            (&["text/plain;x=\"application/metalink4+xml,\""], None),
            (&["application/metalink4+xml;q=2"], None),
            (&["application/metalink4+xml;q=0.1234"], None),
            (&["application/metalink4+xml;q="], None),
        ];
        for (lines, expected) in cases {
            assert_eq!(metalink(lines.iter().copied()), *expected, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_without_the_word_metalink_is_consent(line in ".{0,120}") {
            let asked = metalink([line.as_str()]).is_some();
            prop_assert!(!asked || line.to_ascii_lowercase().contains("metalink"));
        }
    }
}
