//! Whether what an upstream says is news.

use oci_mirror::digest::Digest;

use crate::sync::Options;
use crate::sync::memory::Last;

/// What an upstream says of itself.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// Who says it, without credentials.
    pub(super) from: String,
    pub(super) serial: u64,
    /// The digest of its `state.json`.
    pub(super) digest: Digest,
}

/// What that is to a tree that has followed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is what was followed last.
    Same,
    /// It is as new as what was followed last, but something else of somebody who is asked after that one:
    /// another tier, that carries another part of the same.
    Sibling,
    /// It is older than what was followed last.
    Behind {
        /// The serial of that.
        last: u64,
    },
    /// It is news.
    New,
}

/// Compares what is said with what was followed last.
///
/// The digest of the state decides, and not its serial alone: a tree that was made anew counts from one,
/// and one that carries less has another state of the same serial.
pub(super) fn judge(last: Option<&Last>, said: &Said, options: &Options) -> Verdict {
    let Some(last) = last else {
        return Verdict::New;
    };
    if said.digest == last.digest {
        return Verdict::Same;
    }
    if said.serial < last.serial && !options.accept_older {
        return Verdict::Behind { last: last.serial };
    }
    // The one that is named first is wanted most: a tier that stood in for it does not keep it out.
    let place = |name: &str| options.from.iter().position(|it| it.to_string() == name);
    let is_after = match (place(&last.from), place(&said.from)) {
        (Some(last), Some(said)) => last < said,
        // Whom nobody asks any more has no say.
        (None, _) => false,
        (Some(_), None) => true,
    };
    if said.serial == last.serial && is_after {
        return Verdict::Sibling;
    }
    Verdict::New
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use oci_mirror::digest::Algorithm;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::sync::Filter;

    fn digest(text: &str) -> Digest {
        Algorithm::Sha256.digest(text.as_bytes())
    }

    fn options(accept_older: bool) -> Options {
        let from = ["https://one.example/tree", "https://other.example/tree"];
        Options {
            from: from.iter().map(|url| url.parse().unwrap()).collect(),
            tree: "/nowhere".into(),
            filter: Filter::default(),
            grace: Duration::ZERO,
            bandwidth: None,
            jobs: NonZeroUsize::MIN,
            retries: 0,
            accept_shrink: false,
            accept_older,
            check: false,
            max_entries: 1,
            static_v2: None,
            report: None,
            tls_ca: None,
            dry_run: false,
            now: None,
            shutdown: CancellationToken::new(),
        }
    }

    #[test]
    fn the_digest_says_what_is_news_and_the_serial_what_is_old() {
        let last = |from: &str| Last {
            from: from.to_owned(),
            serial: 7,
            digest: digest("seven"),
            filter: digest(""),
            published: digest(""),
            oldest_gone: None,
            kept: 0,
            static_v2: None,
        };
        let one = "https://one.example/tree";
        let behind = Verdict::Behind { last: 7 };
        for (from, serial, content, verdict) in [
            (one, 7, "seven", Verdict::Same),
            ("https://other.example/tree", 7, "seven", Verdict::Same),
            ("https://other.example/tree", 7, "a part", Verdict::Sibling),
            (one, 7, "made anew", Verdict::New),
            (one, 6, "six", behind),
            ("https://other.example/tree", 6, "six", behind),
            ("https://other.example/tree", 8, "eight", Verdict::New),
        ] {
            let said = Said {
                from: from.to_owned(),
                serial,
                digest: digest(content),
            };
            let found = judge(Some(&last(one)), &said, &options(false));
            assert_eq!(found, verdict, "{said:?}");
            assert_eq!(judge(None, &said, &options(false)), Verdict::New);
        }
        let said = Said {
            from: one.to_owned(),
            serial: 6,
            digest: digest("six"),
        };
        assert_eq!(judge(Some(&last(one)), &said, &options(true)), Verdict::New);
        // The first of them takes over again from one that stood in for it.
        let said = Said {
            from: one.to_owned(),
            serial: 7,
            digest: digest("all of it"),
        };
        let stood_in = last("https://other.example/tree");
        assert_eq!(judge(Some(&stood_in), &said, &options(false)), Verdict::New);
        // Whom nobody asks any more has no say.
        let said = Said {
            from: one.to_owned(),
            serial: 7,
            digest: digest("a part"),
        };
        let gone = last("https://gone.example/tree");
        assert_eq!(judge(Some(&gone), &said, &options(false)), Verdict::New);
    }
}
