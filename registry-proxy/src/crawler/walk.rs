//! The way through a host: its state, what is there, the bytes of some of it, and what else clients do.

use std::sync::Arc;

use jiff::tz::TimeZone;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::catalog::BlobId;
use roaring::RoaringBitmap;
use tracing::debug;

use super::chance;
use super::check::{Answer, Mirror};
use super::end::End;
use super::findings::Findings;
use super::guard::Policy;
use super::listing::{self, Listing};
use super::odds::SMALL;
use super::pace::Pace;
use super::plan::{Plan, Question};
use super::probe::probe;
use super::sample::{self, sample};
use super::state::{Seen, as_looked_for, see};
use super::visit::{Depth, Occasion, Surroundings};
use crate::db::{Known, ProbeName, Verdict};
use crate::network::base_url::Scheme;
use crate::network::{BaseUrl, Health, Host};

/// A listing of all that a mirror has is worth it from so many blobs on.
const MANY: u64 = 200;

/// So many blobs that a listing has, and as many that it does not, are asked for nevertheless: it may be
/// of another place than the one clients are sent to.
const TRIED: u64 = 20;

/// So many of the blobs held to be there are open to be sampled again, and up to a hundredth of them.
const AGAIN: u64 = 20;

/// A host being visited.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub(super) host: &'a Host,
    pub(super) base: &'a BaseUrl,
    pub(super) carried: &'a RoaringBitmap,
    pub(super) known: &'a Known,
    pub(super) occasion: &'a Occasion,
    pub(super) surroundings: &'a Surroundings,
    pub(super) policy: Policy,
    pub(super) mirror: Mirror,
    pub(super) end: End,
    /// How many bytes may still be read.
    pub(super) budget: u64,
    pub(super) findings: Findings,
}

impl Walk<'_> {
    /// Looks and reads.
    pub(super) async fn walk(&mut self) {
        let depth = self.surroundings.options.depth;
        let moved = depth != Depth::Check && self.has_moved().await;
        if self.findings.is_over() {
            return;
        }
        let plan = Plan::of(&Question {
            host: &self.host.name,
            catalog: &self.surroundings.catalog,
            carried: self.carried,
            known: self.known,
            moved,
            suspects: &self.occasion.suspects,
            now: self.occasion.now,
            recheck: self.surroundings.options.recheck,
            depth,
            budget: self.budget,
        });
        if depth == Depth::Full {
            // Reading tells all that looking would.
            let all: Vec<BlobId> = self.carried.iter().map(BlobId).collect();
            self.sample(&plan.first, &all).await;
            return;
        }
        if !plan.first.is_empty() {
            self.sample(&plan.first, &[]).await;
            let is_quarantined = matches!(self.host.health, Health::Quarantined { .. });
            let is_damaged = |told: &(BlobId, Verdict)| told.1 == Verdict::Damaged;
            // It is not used before this is right, whatever else it holds.
            if is_quarantined && self.findings.verdicts().iter().any(is_damaged) {
                // Nothing was looked at: if it has moved, that is still to be seen.
                self.findings.state = None;
                return;
            }
        }
        if depth == Depth::Incremental && !self.findings.is_over() {
            self.look_at(plan.look, moved).await;
            self.look_further().await;
            if !self.findings.is_over() {
                let present = self.to_be_sampled(&plan.first);
                self.sample(&[], &present).await;
            }
        }
    }

    /// Whether the copy of the tree may be another one than last time.
    async fn has_moved(&mut self) -> bool {
        let seeing = see(&mut self.mirror, self.base);
        match self.end.before(seeing).await {
            Some(Ok(Seen::There(state))) => {
                let state = as_looked_for(state, self.surroundings.catalog.state().serial);
                self.findings.state = Some(state);
                self.known.state != Some(state.digest)
            }
            Some(Ok(Seen::Absent)) => false,
            // The very first request: nobody is there.
            Some(Err(Answer::Unreachable(reason))) => {
                self.findings.fail(reason);
                false
            }
            Some(Err(answer)) => {
                let reason = match answer {
                    Answer::Unknown(reason) | Answer::Damaged(reason) => reason,
                    _ => "no usable state".to_owned(),
                };
                self.findings.miss(reason);
                false
            }
            None => {
                self.come_to_the_end();
                false
            }
        }
    }

    /// Whether blobs are there; by the mirror's own listing, if that is worth it.
    async fn look_at(&mut self, mut look: RoaringBitmap, moved: bool) {
        if (moved || look.len() > MANY)
            && let Some(listing) = self.list().await
            && let Some(rest) = self.believe(&listing, &look).await
        {
            look = rest;
        }
        self.ask_for(&look).await;
    }

    /// What the rsync daemon of the host lists.
    async fn list(&self) -> Option<Listing> {
        let mut urls = self.host.urls.iter();
        let url = urls.find(|url| url.scheme() == Scheme::Rsync)?;
        let program = &self.surroundings.options.rsync;
        let catalog = &self.surroundings.catalog;
        let listing = listing::list(program, url, self.policy, catalog, self.end.deadline());
        match self.end.before(listing).await? {
            Ok(listing) => Some(listing),
            Err(error) => {
                debug!(host.name = %self.host.name, error = &error as &dyn std::error::Error, "no listing");
                None
            }
        }
    }

    /// Takes a listing's word, if it stands the test, and gives what is to be asked for nevertheless.
    async fn believe(&mut self, listing: &Listing, look: &RoaringBitmap) -> Option<RoaringBitmap> {
        let listed = &listing.right & look;
        // What was there and is not listed, or has another length, is worth a question.
        let unlisted = look - &listed - &listing.other - &self.known.verified;
        let tried = self.some_of(&listed, TRIED) | self.some_of(&unlisted, TRIED);
        self.ask_for(&tried).await;
        let contradicts = |(id, verdict): &(BlobId, Verdict)| match verdict {
            Verdict::Missing => listed.contains(id.0),
            Verdict::Unknown => false,
            _ => unlisted.contains(id.0),
        };
        if self.findings.verdicts().iter().any(contradicts) {
            debug!(host.name = %self.host.name, "its listing is of another place");
            return Some(look - tried);
        }
        if self.findings.is_over() {
            return None;
        }
        for number in &listed - &tried {
            let verdict = self.if_there(BlobId(number));
            self.findings.tell(BlobId(number), verdict);
        }
        for number in &unlisted - &tried {
            self.findings.tell(BlobId(number), Verdict::Missing);
        }
        Some(look - listed - unlisted)
    }

    /// Looks at all the rest if a part of what was there is not any more: then more may be gone, and each
    /// blob's own turn is far away.
    async fn look_further(&mut self) {
        let verified = &self.known.verified & self.carried;
        let mut told = RoaringBitmap::new();
        let mut lost = 0;
        for (id, verdict) in self.findings.verdicts() {
            if verified.contains(id.0) && told.insert(id.0) && *verdict == Verdict::Missing {
                lost += 1;
            }
        }
        if lost > 0 && lost * 10 >= told.len() {
            let rest = verified - told;
            self.ask_for(&rest).await;
        }
    }

    /// Asks for blobs, one after the other.
    async fn ask_for(&mut self, blobs: &RoaringBitmap) {
        for number in blobs {
            if self.findings.is_over() {
                return;
            }
            let id = BlobId(number);
            let blob = self.surroundings.catalog.blob(id);
            let url = self.base.join(&TreePath::Blob(blob.digest));
            let there = self.if_there(id);
            let reads = there == Verdict::Present && blob.size <= SMALL && blob.size <= self.budget;
            let (before, most) = (self.mirror.bytes, self.budget.max(SMALL));
            let asking = async {
                if reads {
                    self.mirror.read(&url, blob.size, &blob.digest).await
                } else {
                    self.mirror.look(&url, blob.size, &blob.digest, most).await
                }
            };
            match self.end.before(asking).await {
                Some(answer) => {
                    let read = self.mirror.bytes - before;
                    self.budget = self.budget.saturating_sub(read);
                    self.findings.note((id, blob), url, answer, there);
                }
                None => self.come_to_the_end(),
            }
        }
    }

    /// What it means that a blob is there.
    fn if_there(&self, id: BlobId) -> Verdict {
        if self.known.verified.contains(id.0) {
            Verdict::Confirmed
        } else {
            Verdict::Present
        }
    }

    /// Blobs that are there and may be sampled: all that never were, and some of the others. A mirror
    /// that sent something wrong is sampled throughout.
    fn to_be_sampled(&self, first: &[BlobId]) -> Vec<BlobId> {
        let mut verified = &self.known.verified & self.carried;
        let mut present = RoaringBitmap::new();
        for (id, verdict) in self.findings.verdicts() {
            match verdict {
                Verdict::Present => drop(present.insert(id.0)),
                Verdict::Read | Verdict::Missing | Verdict::Damaged | Verdict::Unknown => {
                    verified.remove(id.0);
                    present.remove(id.0);
                }
                Verdict::Sampled | Verdict::Confirmed => {}
            }
        }
        if matches!(self.host.health, Health::Quarantined { .. }) {
            present |= verified;
        } else {
            let popular: RoaringBitmap = self.occasion.popular.iter().map(|id| id.0).collect();
            present |= popular & &verified;
            present |= self.some_of(&verified, AGAIN.max(verified.len() / 100));
        }
        for id in first {
            present.remove(id.0);
        }
        present.iter().map(BlobId).collect()
    }

    /// At most so many of the blobs, any of them.
    fn some_of(&self, blobs: &RoaringBitmap, count: u64) -> RoaringBitmap {
        if blobs.len() <= count {
            return blobs.clone();
        }
        let seed = self.seed();
        let ranks = (0..count).map(|turn| chance::nth(seed, turn) % blobs.len());
        let ranks = ranks.filter_map(|rank| u32::try_from(rank).ok());
        ranks.filter_map(|rank| blobs.select(rank)).collect()
    }

    fn seed(&self) -> u64 {
        let now = self.occasion.now.as_millisecond().cast_unsigned();
        chance::mix(chance::of_text(self.host.name.as_str()) ^ now)
    }

    /// Reads bytes.
    async fn sample(&mut self, first: &[BlobId], present: &[BlobId]) {
        let options = &self.surroundings.options;
        let before = self.mirror.bytes;
        let task = sample::Task {
            host: self.host,
            catalog: &self.surroundings.catalog,
            tree: &self.surroundings.tree,
            present,
            known: self.known,
            first,
            popular: &self.occasion.popular,
            budget: self.budget,
            depth: options.depth,
            today: self.occasion.now.to_zoned(TimeZone::UTC).date(),
            seed: self.seed(),
            end: &self.end,
        };
        let mut found = sample(&mut self.mirror, &task).await;
        if present.is_empty() && options.depth == Depth::Incremental {
            // Few were asked for; the others are to show whether it answers at all.
            if let Some(reason) = found.failure.take() {
                self.findings.miss(reason);
            }
        }
        self.budget = self.budget.saturating_sub(self.mirror.bytes - before);
        self.findings.take(found);
        if self.end.has_come() && !self.findings.is_over() {
            self.come_to_the_end();
        }
    }

    /// Tries what else clients do: daily, and when the last crawl failed.
    pub(super) async fn probe(&mut self, pace: Arc<Pace>) {
        let day = |time: jiff::Timestamp| time.to_zoned(TimeZone::UTC).date();
        let last = self.known.finished_at.map(day);
        let is_due = last != Some(day(self.occasion.now)) || self.host.health != Health::Healthy;
        let there = self.findings.verdicts().iter().filter(|(_, verdict)| {
            use Verdict::{Confirmed, Present, Read, Sampled};
            matches!(verdict, Read | Sampled | Confirmed | Present)
        });
        let catalog = &self.surroundings.catalog;
        let blobs = there.map(|(id, _)| catalog.blob(*id));
        // A part of it is to be asked for.
        let blob = blobs
            .filter(|blob| blob.size > 1)
            .min_by_key(|blob| blob.size);
        let Some(blob) = blob.filter(|_| is_due && !self.findings.is_over()) else {
            return;
        };
        let url = self.base.join(&TreePath::Blob(blob.digest));
        let trying = probe(
            &self.surroundings.wire,
            self.host,
            self.policy,
            pace,
            &ProbeName::ALL,
            (&url, blob.size),
        );
        match self.end.before(trying).await {
            Some(probes) => self.findings.try_besides(probes),
            None => self.come_to_the_end(),
        }
    }

    fn come_to_the_end(&mut self) {
        self.findings.run_out_of_time(if self.end.is_stopped() {
            "cut off".to_owned()
        } else {
            format!("not done within {:?}", self.surroundings.options.per_host)
        });
    }
}
