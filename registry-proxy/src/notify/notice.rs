//! One notice, and which follow from a crawl.
//!
//! Only what changes for clients is told, and once: the fourth failed crawl, not those after it.

use jiff::Timestamp;
use oci_mirror::reference::RepoName;
use serde::Serialize;
use tracing::{info, warn};

use crate::db::{Change, Evidence, Recorded};
use crate::network::standing::FAILURES_TO_DISABLE;
use crate::network::{Health, HostName, SiteName};

/// Most pieces of evidence in a notice; the database has more.
const MAX_EVIDENCE: usize = 3;

/// Longest text in a notice: what mirrors send may be in it.
const MAX_TEXT: usize = 1024;

/// What became of a mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
    /// Of which mirror.
    pub mirror: HostName,
    /// Whose mirror it is.
    pub site: SiteName,
    /// Of which repository, if not of the mirror as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepoName>,
    /// Why.
    pub reason: String,
    /// Some of what it sent that was wrong.
    pub evidence: Vec<Evidence>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Too many crawls in a row failed.
    Disabled,
    /// A crawl went through again, or it has checked in.
    Returned,
    /// It sent wrong bytes.
    Quarantined,
    /// It has proved that its bytes are right again.
    Cleared,
    /// It is not used for a repository any more.
    RepositoryDisabled,
    /// It is used for a repository again.
    RepositoryReturned,
}

impl Notice {
    /// What is to be told of a recorded crawl of a host of `site`, with what it found wrong.
    pub fn of(
        recorded: &Recorded,
        site: &SiteName,
        evidence: &[Evidence],
        at: Timestamp,
    ) -> Vec<Self> {
        let notice = |event, repository: Option<&RepoName>, reason: &str| Self {
            at,
            event,
            mirror: recorded.name.clone(),
            site: site.clone(),
            repository: repository.cloned(),
            reason: clipped(reason),
            evidence: match event {
                Event::Quarantined => evidence.iter().take(MAX_EVIDENCE).map(shown).collect(),
                _ => Vec::new(),
            },
        };
        let mut notices: Vec<Self> = events(&recorded.before, &recorded.after)
            .into_iter()
            .map(|(event, reason)| notice(event, None, &reason))
            .collect();
        for (repository, change) in &recorded.repositories {
            let (event, reason) = match change {
                Change::Disabled(reason) => (Event::RepositoryDisabled, reason.as_str()),
                Change::Returned => (Event::RepositoryReturned, "it is there again"),
            };
            notices.push(notice(event, Some(repository), reason));
        }
        notices
    }

    /// Says it in the log.
    pub(super) fn log(&self) {
        let (mirror, site) = (self.mirror.as_str(), self.site.as_str());
        let repository = self.repository.as_ref().map(RepoName::as_str);
        let reason = self.reason.as_str();
        let became = match self.event {
            Event::Disabled => "is not used any more",
            Event::Returned => "is used again",
            Event::Quarantined => "is in quarantine",
            Event::Cleared => "is out of quarantine",
            Event::RepositoryDisabled => "is not used for a repository any more",
            Event::RepositoryReturned => "is used for a repository again",
        };
        match self.event {
            Event::Disabled | Event::Quarantined | Event::RepositoryDisabled => {
                warn!(
                    mirror,
                    site, repository, reason, "mirror `{mirror}` {became}"
                );
            }
            Event::Returned | Event::Cleared | Event::RepositoryReturned => {
                info!(
                    mirror,
                    site, repository, reason, "mirror `{mirror}` {became}"
                );
            }
        }
    }
}

/// What follows from a change of health, and why.
fn events(before: &Health, after: &Health) -> Vec<(Event, String)> {
    let quarantined = |health: &Health| matches!(health, Health::Quarantined { .. });
    let disabled = |health: &Health| matches!(health, Health::Failing { crawls, .. } if *crawls >= FAILURES_TO_DISABLE);
    let mut events = Vec::new();
    if quarantined(before) && !quarantined(after) {
        let reason = "what it was damaged in is right again";
        events.push((Event::Cleared, reason.to_owned()));
    }
    match after {
        Health::Quarantined { reason } if !quarantined(before) => {
            events.push((Event::Quarantined, reason.clone()));
        }
        Health::Failing { crawls, reason } if disabled(after) && !disabled(before) => {
            let reason = format!("{crawls} crawls in a row failed, the last one: {reason}");
            events.push((Event::Disabled, reason));
        }
        Health::Healthy if disabled(before) => {
            events.push((
                Event::Returned,
                "a crawl of it went through, or it has checked in".to_owned(),
            ));
        }
        _ => {}
    }
    events
}

fn shown(evidence: &Evidence) -> Evidence {
    Evidence {
        url: clipped(&evidence.url),
        expected: clipped(&evidence.expected),
        found: clipped(&evidence.found),
        ..*evidence
    }
}

fn clipped(text: &str) -> String {
    let mut ends = (0..=MAX_TEXT).rev();
    let end = ends.find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or_default()].to_owned()
}

#[cfg(test)]
mod tests {
    use oci_mirror::digest::Algorithm;
    use oci_mirror::tree::{Catalog, TreeWriter};

    use super::*;
    use crate::crawler::identity::Identity;
    use crate::db::{Crawl, Database, Outcome, Scope};
    use crate::network::NewHost;

    fn failing(crawls: u32) -> Health {
        Health::Failing {
            crawls,
            reason: "it is silent".to_owned(),
        }
    }

    fn quarantined() -> Health {
        Health::Quarantined {
            reason: "it lies".to_owned(),
        }
    }

    #[test]
    fn each_change_for_clients_is_told_once() {
        use Event::{Cleared, Disabled, Quarantined, Returned};
        for (before, after, told) in [
            (Health::Healthy, Health::Healthy, &[][..]),
            (Health::Healthy, failing(1), &[]),
            (failing(3), failing(4), &[Disabled]),
            (failing(4), failing(5), &[]),
            (failing(3), Health::Healthy, &[]),
            (failing(4), Health::Healthy, &[Returned]),
            (failing(9), Health::Healthy, &[Returned]),
            (Health::Healthy, quarantined(), &[Quarantined]),
            (failing(4), quarantined(), &[Quarantined]),
            (quarantined(), quarantined(), &[]),
            (quarantined(), Health::Healthy, &[Cleared]),
            (quarantined(), failing(1), &[Cleared]),
            (quarantined(), failing(4), &[Cleared, Disabled]),
        ] {
            let events = events(&before, &after);
            let events: Vec<Event> = events.into_iter().map(|(event, _)| event).collect();
            assert_eq!(events, told, "{before:?} {after:?}");
        }
    }

    #[test]
    fn a_notice_is_one_object_with_bounded_texts() {
        let piece = Evidence {
            digest: Algorithm::Sha256.digest(b"x"),
            url: "https://m.example/blobs".to_owned(),
            expected: "2 bytes".to_owned(),
            found: "é".repeat(10_000),
            identity: Identity::Browser,
        };
        let recorded = Recorded {
            name: "m".parse().unwrap(),
            before: Health::Healthy,
            after: quarantined(),
            repositories: vec![
                ("a/b".parse().unwrap(), Change::Disabled("gone".to_owned())),
                ("c".parse().unwrap(), Change::Returned),
            ],
        };
        let evidence = vec![piece; 5];
        let site = "s".parse().unwrap();
        let notices = Notice::of(&recorded, &site, &evidence, Timestamp::UNIX_EPOCH);
        let json = serde_json::to_value(&notices).unwrap();
        let mut shown = json[0]["evidence"].clone();
        assert_eq!(shown.as_array().map(Vec::len), Some(3));
        assert_eq!(shown[0]["found"].take(), "é".repeat(MAX_TEXT / 2));
        assert_eq!(shown[0]["identity"], "browser");
        let expected = serde_json::json!([
            {
                "at": "1970-01-01T00:00:00Z", "event": "quarantined", "mirror": "m", "site": "s",
                "reason": "it lies", "evidence": json[0]["evidence"],
            },
            {
                "at": "1970-01-01T00:00:00Z", "event": "repository-disabled", "mirror": "m", "site": "s",
                "repository": "a/b", "reason": "gone", "evidence": [],
            },
            {
                "at": "1970-01-01T00:00:00Z", "event": "repository-returned", "mirror": "m", "site": "s",
                "repository": "c", "reason": "it is there again", "evidence": [],
            },
        ]);
        assert_eq!(json, expected);
    }

    #[test]
    fn of_four_failed_crawls_and_one_that_went_through_two_notices_come() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(&dir.path().join("tree")).unwrap();
        writer.finish(Timestamp::UNIX_EPOCH).unwrap();
        let catalog = Catalog::load(writer.tree(), None).unwrap();
        let mut database = Database::open(&dir.path().join("x.db")).unwrap();
        let new: NewHost =
            serde_json::from_str(r#"{"name": "m", "urls": ["https://m.example/t"]}"#).unwrap();
        let id = database.add_host(&new).unwrap();
        let site = "s".parse().unwrap();
        let failed = || Outcome::Failed("it is silent".to_owned());
        let finished = Outcome::Finished {
            scope: Scope::Whole,
            verdicts: Vec::new(),
            evidence: Vec::new(),
        };
        let mut told = Vec::new();
        let outcomes = std::iter::repeat_with(failed).take(6).chain([finished]);
        for (number, outcome) in (0_i64..).zip(outcomes) {
            let at = Timestamp::from_second(number).unwrap();
            let crawl = Crawl::new(at, outcome);
            let recorded = database.record_crawl(id, &crawl, &catalog).unwrap();
            let notices = Notice::of(&recorded.unwrap(), &site, &[], at);
            told.extend(notices.into_iter().map(|notice| (number, notice.event)));
        }
        assert_eq!(told, [(3, Event::Disabled), (6, Event::Returned)]);
    }
}
