//! What was found at a host so far, and what that comes to.

use oci_mirror::tree::catalog::{Blob, BlobId};
use roaring::RoaringBitmap;
use tracing::debug;

use super::check::Answer;
use super::identity::Identity;
use super::sample::Found;
use super::visit::{Depth, Visit};
use crate::db::{
    Cost, Evidence, Outcome, Probe, ProbeName, ProbeResult, Sampled, Scope, TreeState, Verdict,
};

/// So many requests in a row without an answer, and the host is given up for this time.
const PATIENCE: usize = 3;

/// Most wrong answers described: after these it is clear.
const MAX_EVIDENCE: usize = 20;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The last word on a blob counts.
    verdicts: Vec<(BlobId, Verdict)>,
    evidence: Vec<Evidence>,
    /// The mirror's own state.
    pub(super) state: Option<TreeState>,
    probes: Vec<Probe>,
    sampled: Sampled,
    /// Whether anything could be told of a blob at all.
    answered: bool,
    /// Requests in a row that got no usable answer.
    unanswered: usize,
    /// Why the last of them got none.
    reason: Option<String>,
    given_up: Option<GivenUp>,
}

/// Why no more is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GivenUp {
    /// It does not answer, so clients would get nothing either; or what it answers no client can use.
    Useless,
    /// There is no more time; it may be large or far away.
    Late,
}

impl Findings {
    /// Whether no more is to be asked.
    pub(super) fn is_over(&self) -> bool {
        self.given_up.is_some()
    }

    /// The verdicts so far; later ones are right.
    pub(super) fn verdicts(&self) -> &[(BlobId, Verdict)] {
        &self.verdicts
    }

    /// A verdict that needed no question.
    pub(super) fn tell(&mut self, id: BlobId, verdict: Verdict) {
        self.verdicts.push((id, verdict));
    }

    /// The answer to a question after a blob; `there` is the verdict if it is there.
    pub(super) fn note(
        &mut self,
        (id, blob): (BlobId, &Blob),
        url: String,
        answer: Answer,
        there: Verdict,
    ) -> Verdict {
        let verdict = match answer {
            Answer::Right => Verdict::Read,
            Answer::There => there,
            Answer::Missing => Verdict::Missing,
            Answer::Damaged(found) => {
                if self.evidence.len() < MAX_EVIDENCE {
                    self.evidence.push(Evidence {
                        digest: blob.digest,
                        url,
                        expected: format!("{} bytes with the digest {}", blob.size, blob.digest),
                        found,
                        identity: Identity::Crawler,
                    });
                }
                Verdict::Damaged
            }
            Answer::Unknown(reason) | Answer::Unreachable(reason) => {
                debug!(url, reason, "no usable answer");
                self.miss(reason);
                Verdict::Unknown
            }
        };
        if verdict != Verdict::Unknown {
            self.answered = true;
            self.unanswered = 0;
        }
        self.verdicts.push((id, verdict));
        verdict
    }

    /// A question got no usable answer.
    pub(super) fn miss(&mut self, reason: String) {
        self.reason = Some(reason);
        self.unanswered += 1;
        if self.unanswered >= PATIENCE {
            self.given_up = Some(GivenUp::Useless);
        }
    }

    /// Nothing more can come of it.
    pub(super) fn fail(&mut self, reason: String) {
        self.reason = Some(reason);
        self.given_up = Some(GivenUp::Useless);
    }

    /// There is no more time. What was not reached stays as it was.
    pub(super) fn run_out_of_time(&mut self, reason: String) {
        self.reason = Some(reason);
        self.given_up = Some(GivenUp::Late);
    }

    /// What reading bytes has shown.
    pub(super) fn take(&mut self, found: Found) {
        let told = |(_, verdict): &(BlobId, Verdict)| *verdict != Verdict::Unknown;
        self.answered |= found.verdicts.iter().any(told);
        self.verdicts.extend(found.verdicts);
        self.evidence.extend(found.evidence);
        self.evidence.truncate(MAX_EVIDENCE);
        self.sampled.blobs += found.sampled.blobs;
        self.sampled.undetected += found.sampled.undetected;
        if let Some(reason) = found.failure {
            // It may say of all blobs that they are there: no client would get one.
            self.fail(reason);
        }
    }

    /// What was tried besides. What no client could use is a failure, however right the bytes are.
    pub(super) fn try_besides(&mut self, probes: Vec<Probe>) {
        let harms = |probe: &&Probe| {
            let matters = match probe.name {
                ProbeName::Tls | ProbeName::Range | ProbeName::Encoding => true,
                // We may have no such network ourselves.
                ProbeName::Ipv4 | ProbeName::Ipv6 => false,
            };
            matters && probe.result == ProbeResult::Failed
        };
        if let Some(probe) = probes.iter().find(harms) {
            self.fail(format!("{}: {}", probe.name, probe.detail));
        }
        self.probes = probes;
    }

    /// What it comes to at a host that should carry these blobs.
    pub(super) fn into_visit(mut self, carried: RoaringBitmap, depth: Depth, cost: Cost) -> Visit {
        // The last word first, and then no other on the same blob.
        self.verdicts.reverse();
        self.verdicts.sort_by_key(|(id, _)| *id);
        self.verdicts.dedup_by_key(|(id, _)| *id);
        let told = self
            .verdicts
            .iter()
            .filter(|(id, _)| carried.contains(id.0));
        let is_whole = told.count() as u64 == carried.len();
        let is_complete = match depth {
            Depth::Full => is_whole,
            Depth::Incremental => self.given_up.is_none(),
            Depth::Check => false,
        };
        let useless = match self.given_up {
            Some(GivenUp::Useless) => true,
            Some(GivenUp::Late) | None => !self.answered,
        };
        let outcome = match self.reason {
            // Damage is kept even so: falling silent after it must not save a mirror from quarantine.
            Some(reason) if useless && self.evidence.is_empty() => Outcome::Failed(reason),
            _ => Outcome::Finished {
                scope: if is_whole { Scope::Whole } else { Scope::Part },
                verdicts: self.verdicts,
                evidence: self.evidence,
            },
        };
        Visit {
            outcome,
            carried,
            cost,
            state: self.state,
            probes: self.probes,
            sampled: self.sampled,
            is_complete,
        }
    }
}
