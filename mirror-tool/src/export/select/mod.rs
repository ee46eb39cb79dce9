//! Selection: which tags of a source are wanted.
//!
//! A tag is wanted if every filter that is set lets it through ([`Selection::wants`]); of those,
//! [`newest`] keeps as many as asked for. Filters need nothing but the tag. Ages need a manifest and
//! perhaps a config of each image, so that [`newest`] asks for them only when versions do not settle
//! the matter, and an export of versioned tags costs no request more than the tags list.
//!
//! Pure: the clock and the registry are the caller's.

use std::cmp::Reverse;
use std::num::NonZeroUsize;
use std::time::Duration;

use jiff::Timestamp;
use oci_mirror::reference::Tag;
use regex::Regex;

use super::version::{TagVersion, VersionRange};

pub mod created;

mod digest_tag;

pub use digest_tag::{DigestTag, Subject};

/// Which tags are wanted of a source that names none. The default wants all.
///
/// ```
/// use mirror_tool::export::select::Selection;
/// let selection = Selection {
///     semver: Some(">=42".parse().unwrap()),
///     ..Selection::default()
/// };
/// assert!(selection.wants("43"));
/// assert!(!selection.wants("41") && !selection.wants("latest"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only tags this matches somewhere.
    pub tags: Option<Regex>,
    /// No tag this matches somewhere.
    pub exclude_tags: Option<Regex>,
    /// Only tags that are versions in this range.
    pub semver: Option<VersionRange>,
    /// Only so many, the newest.
    pub latest: Option<NonZeroUsize>,
    /// Only images created at least so long ago.
    pub min_age: Option<Duration>,
}

impl Selection {
    /// Whether the filters let a tag through.
    ///
    /// A [digest tag](DigestTag) is never wanted: it goes with the image it belongs to.
    pub fn wants(&self, tag: &str) -> bool {
        let matches = |regex: &Regex| regex.is_match(tag);
        self.tags.as_ref().is_none_or(matches)
            && !self.exclude_tags.as_ref().is_some_and(matches)
            && self.semver.as_ref().is_none_or(|range| {
                TagVersion::of(tag).is_some_and(|version| range.contains(&version))
            })
            && DigestTag::parse(tag).is_none()
    }

    /// Whether entries of a layout that have no tag are wanted: unless a filter asks for certain ones.
    pub fn wants_untagged(&self) -> bool {
        self.tags.is_none() && self.semver.is_none()
    }

    /// Whether an image created at `created` is old enough at `now`.
    ///
    /// One that does not say when it was made is not: it may have been made a moment ago, and keeping
    /// such images back is what a minimum age is for.
    pub fn is_old_enough(&self, created: Option<Timestamp>, now: Timestamp) -> bool {
        let Some(min_age) = self.min_age else {
            return true;
        };
        // An age that leads out of the calendar is one no image has.
        created.is_some_and(|created| now.checked_sub(min_age).is_ok_and(|then| created <= then))
    }
}

/// The newest of some tags, as far as their names tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Newest {
    /// These are they, newest first.
    Known(Vec<Tag>),
    /// More must be known.
    NeedsTimes {
        /// These are among them, newest first.
        sure: Vec<Tag>,
        /// Of these, the `open` that were created last; see [`by_time`].
        undated: Vec<Tag>,
        /// How many more there may be; less than there are in `undated`.
        open: usize,
    },
}

/// The `n` newest of `tags`: versions first, the highest first, then what is no version.
///
/// Tags that are the same version (`1.2` and `v1.2.0`) stand in the order of their text, so that the
/// same tags give the same answer whatever order a registry lists them in.
pub fn newest(n: NonZeroUsize, tags: Vec<Tag>) -> Newest {
    let (mut versions, mut others) = (Vec::new(), Vec::new());
    for tag in tags {
        match TagVersion::of(tag.as_str()) {
            Some(version) => versions.push((Reverse(version), tag)),
            None => others.push(tag),
        }
    }
    versions.sort_unstable();
    others.sort_unstable();
    let mut sure: Vec<_> = versions
        .into_iter()
        .map(|(_, tag)| tag)
        .take(n.get())
        .collect();
    let open = n.get() - sure.len();
    if open == 0 {
        Newest::Known(sure)
    } else if others.len() <= open {
        sure.append(&mut others);
        Newest::Known(sure)
    } else {
        Newest::NeedsTimes {
            sure,
            undated: others,
            open,
        }
    }
}

/// The `open` tags that were created last, newest first. Unknown times come last; ties stand in the
/// order of their text.
pub fn by_time(tags: Vec<(Tag, Option<Timestamp>)>, open: usize) -> Vec<Tag> {
    let mut tags = tags;
    // `None` is less than every time.
    tags.sort_unstable_by(|(a, created_a), (b, created_b)| {
        created_b.cmp(created_a).then_with(|| a.cmp(b))
    });
    tags.into_iter().map(|(tag, _)| tag).take(open).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags(names: &[&str]) -> Vec<Tag> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn some(n: usize) -> NonZeroUsize {
        n.try_into().unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn every_filter_must_let_a_tag_through() {
        let selection = Selection {
            tags: Some(Regex::new("^4").unwrap()),
            exclude_tags: Some(Regex::new("-rc").unwrap()),
            semver: Some("<43 || 43.0.0-rc1 || 43".parse().unwrap()),
            ..Selection::default()
        };
        for (tag, wanted) in [
            ("42", true),
            ("43", true),
            ("43-rc1", false),
            ("44", false),
            ("39", false),
            ("4x", false),
            ("rawhide", false),
        ] {
            assert_eq!(selection.wants(tag), wanted, "{tag}");
        }
    }

    #[test]
    fn without_filters_all_but_digest_tags_are_wanted() {
        let all = Selection::default();
        assert!(all.wants("anything") && all.wants_untagged());
        let digest = format!("sha256-{}", "0".repeat(64));
        assert!(!all.wants(&digest) && !all.wants(&format!("{digest}.sig")));
        let some = Selection {
            tags: Some(Regex::new("sha256").unwrap()),
            ..Selection::default()
        };
        assert!(!some.wants(&digest) && !some.wants_untagged());
    }

    #[test]
    fn an_image_of_unknown_age_is_not_old_enough() {
        let selection = Selection {
            min_age: Some(Duration::from_secs(60)),
            ..Selection::default()
        };
        let now = at(1000);
        assert!(selection.is_old_enough(Some(at(940)), now));
        assert!(!selection.is_old_enough(Some(at(941)), now));
        assert!(!selection.is_old_enough(Some(at(2000)), now));
        assert!(!selection.is_old_enough(None, now));
        assert!(Selection::default().is_old_enough(None, now));
        let never = Selection {
            min_age: Some(Duration::MAX),
            ..Selection::default()
        };
        assert!(!never.is_old_enough(Some(Timestamp::MIN), now));
    }

    #[test]
    fn versions_alone_need_no_times() {
        let known = |n, names: &[&str]| match newest(some(n), tags(names)) {
            Newest::Known(newest) => newest.iter().map(ToString::to_string).collect::<Vec<_>>(),
            other @ Newest::NeedsTimes { .. } => panic!("{other:?}"),
        };
        assert_eq!(known(2, &["1.9", "latest", "1.10", "1.8"]), ["1.10", "1.9"]);
        assert_eq!(known(2, &["2-rc1", "1", "2"]), ["2", "2-rc1"]);
        assert_eq!(known(1, &["v1.2.0", "1.2", "1.2.0"]), ["1.2"]);
        assert_eq!(known(9, &["latest", "1", "edge"]), ["1", "edge", "latest"]);
    }

    #[test]
    fn what_is_no_version_competes_by_time() {
        let answer = newest(some(3), tags(&["c", "1", "b", "d", "a"]));
        assert_eq!(
            answer,
            Newest::NeedsTimes {
                sure: tags(&["1"]),
                undated: tags(&["a", "b", "c", "d"]),
                open: 2
            }
        );
        let times = [None, Some(at(1)), Some(at(2)), Some(at(2))];
        let dated = || tags(&["a", "b", "d", "c"]).into_iter().zip(times).collect();
        assert_eq!(by_time(dated(), 2), tags(&["c", "d"]));
        assert_eq!(by_time(dated(), 9), tags(&["c", "d", "b", "a"]));
    }

    fn some_tags() -> impl Strategy<Value = Vec<Tag>> {
        let tag = "v?[0-9]{1,2}(\\.[0-9]){0,2}(-rc[0-9])?|[a-z]{1,2}";
        proptest::collection::btree_set(tag, 0..20)
            .prop_map(|names| names.iter().map(|name| name.parse().unwrap()).collect())
            .prop_shuffle()
    }

    proptest! {
        #[test]
        fn as_many_as_asked_for_and_the_order_does_not_matter(tags in some_tags(), n in 1_usize..25) {
            let answer = newest(some(n), tags.clone());
            let mut sorted = tags.clone();
            sorted.sort();
            prop_assert_eq!(&newest(some(n), sorted), &answer);
            let chosen = match answer {
                Newest::Known(chosen) => chosen,
                Newest::NeedsTimes { mut sure, undated, open } => {
                    prop_assert!(0 < open && open < undated.len());
                    let dated = undated.into_iter().map(|tag| (tag, None)).collect();
                    sure.extend(by_time(dated, open));
                    sure
                }
            };
            prop_assert_eq!(chosen.len(), n.min(tags.len()));
            let version = |tag: &Tag| TagVersion::of(tag.as_str());
            prop_assert!(chosen.is_sorted_by(|a, b| version(a) >= version(b)));
            for left_out in tags.iter().filter(|tag| !chosen.contains(tag)) {
                prop_assert!(chosen.iter().all(|tag| version(tag) >= version(left_out)));
            }
        }

        #[test]
        fn the_order_of_times_does_not_matter(
            dated in proptest::collection::btree_map("[a-z]{1,2}", proptest::option::of(0_i64..4), 0..20)
                .prop_map(|tags| tags.into_iter().collect::<Vec<_>>())
                .prop_shuffle(),
            open in 0_usize..20,
        ) {
            let dated: Vec<(Tag, Option<Timestamp>)> = dated
                .into_iter()
                .map(|(name, second)| (name.parse().unwrap(), second.map(at)))
                .collect();
            let mut sorted = dated.clone();
            sorted.sort();
            let chosen = by_time(dated.clone(), open);
            prop_assert_eq!(&by_time(sorted, open), &chosen);
            let time = |tag: &Tag| dated.iter().find(|(name, _)| name == tag).unwrap().1;
            prop_assert_eq!(chosen.len(), open.min(dated.len()));
            prop_assert!(chosen.is_sorted_by(|a, b| time(a) >= time(b)));
        }
    }
}
