//! The `Accept` field: does this client want a metalink, and which form of a page does it prefer?
//!
//! [RFC 9110, section 12.5.1](https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1). A metalink is
//! consent, not a format among others: containerd sends `*/*` and would take it for the blob, so only
//! a range that names a metalink type counts. Where several forms say the same, [`preferred`] weighs them
//! as the RFC does.

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
        if name.is_empty() {
            // An element of a list that is not there (RFC 9110, section 5.6.1).
            return;
        }
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

/// Whether an `Accept` field line may name a metalink type: without one, [`metalink`] is `None`.
///
/// Hardly any client does, which is found out faster than what it weighs how.
pub fn may_name_a_metalink(line: &str) -> bool {
    let begins = |rest: &str| {
        let start = rest.as_bytes().get(.."metalink".len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(b"metalink"))
    };
    line.split('/').skip(1).any(begins)
}

/// Which of the media types `offered` a client prefers, by its position: the first of those it gives the
/// highest weight. `None` if it wants none of them.
///
/// ```
/// use oci_mirror::accept::preferred;
/// let offered = ["text/plain", "text/html"];
/// assert_eq!(preferred(["text/html,application/xml;q=0.9,*/*;q=0.8"], &offered), Some(1));
/// assert_eq!(preferred(["*/*"], &offered), Some(0));
/// ```
pub fn preferred<'a>(lines: impl IntoIterator<Item = &'a str>, offered: &[&str]) -> Option<usize> {
    // For each type the most specific range met, and its weight.
    let mut met: Vec<(Specificity, Weight)> = vec![(Specificity::None, 0); offered.len()];
    let mut empty = true;
    for range in lines.into_iter().flat_map(elements) {
        let mut parts = range.split(';');
        let name = parts.next().unwrap_or_default().trim();
        if name.is_empty() {
            continue;
        }
        empty = false;
        let weight = weight(parts).unwrap_or(0);
        for (media_type, best) in offered.iter().zip(&mut met) {
            let specificity = Specificity::of(name, media_type);
            if specificity > Specificity::None {
                *best = (*best).max((specificity, weight));
            }
        }
    }
    if empty {
        return (!offered.is_empty()).then_some(0);
    }
    let weights = met.iter().map(|(_, weight)| *weight).enumerate();
    // Of equals the last is taken, so the order is turned round.
    let (position, weight) = weights.rev().max_by_key(|(_, weight)| *weight)?;
    (weight > 0).then_some(position)
}

/// How closely a media range fits a media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    /// Not at all.
    None,
    /// `*/*`.
    Anything,
    /// `type/*`.
    Type,
    /// `type/subtype`.
    Exact,
}

impl Specificity {
    fn of(range: &str, media_type: &str) -> Self {
        let same_type = |kind: &str| {
            let own = media_type.split('/').next().unwrap_or_default();
            own.eq_ignore_ascii_case(kind)
        };
        if range.eq_ignore_ascii_case(media_type) {
            Self::Exact
        } else if range == "*/*" {
            Self::Anything
        } else if range.strip_suffix("/*").is_some_and(same_type) {
            Self::Type
        } else {
            Self::None
        }
    }
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
            (&["application/metalink4+xml;q=0.9,", ""], Some(V4)),
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

    #[test]
    fn the_most_specific_range_gives_the_weight_and_ties_go_to_the_first() {
        const FORMS: [&str; 3] = ["text/plain", "application/json", "text/html"];
        let firefox = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let cases: &[(&[&str], Option<usize>)] = &[
            (&[], Some(0)),
            (&[""], Some(0)),
            (&["*/*"], Some(0)),
            (&["text/*"], Some(0)),
            (&["application/*"], Some(1)),
            (&["application/json"], Some(1)),
            (&["Text/HTML; level=1"], Some(2)),
            (&[firefox], Some(2)),
            (&["text/html, */*"], Some(0)),
            (&["text/html;q=0.5", "application/json;q=0.6"], Some(1)),
            (&["text/*;q=0.9, text/plain;q=0.1"], Some(2)),
            (&["text/plain;q=0, */*"], Some(1)),
            (&["image/png"], None),
            (&["*/*;q=0"], None),
            (&["text/html;q=nonsense"], None),
        ];
        for (lines, expected) in cases {
            assert_eq!(
                preferred(lines.iter().copied(), &FORMS),
                *expected,
                "{lines:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_preferred_is_offered(line in "[a-z*/;=,.0-9 \"]{0,80}") {
            let offered = ["text/plain", "text/html"];
            prop_assert!(preferred([line.as_str()], &offered).is_none_or(|it| it < offered.len()));
        }

        #[test]
        fn nothing_without_the_word_metalink_is_consent(line in ".{0,120}") {
            let asked = metalink([line.as_str()]).is_some();
            prop_assert!(!asked || line.to_ascii_lowercase().contains("metalink"));
        }

        #[test]
        fn whoever_asks_passes_the_quick_look(
            line in "((\\*/\\*|(application|APPLICATION)/(metalink4?|Metalink4)\\+xml)(;q=(0|0\\.5|1))?[, ]{0,2}){1,4}",
        ) {
            prop_assert!(metalink([line.as_str()]).is_none() || may_name_a_metalink(&line));
        }
    }
}
