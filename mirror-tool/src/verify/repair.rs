//! Repair: what a check found damaged or missing, had again from somewhere.
//!
//! Content is named by its digest, so anybody may deliver it: first the repositories' own links, as far
//! as they are files of their own, then each source in turn. A source that sends wrong bytes costs a
//! transfer and nothing else. Below a damaged manifest nobody knows what is missing, so the walk is
//! repeated until it finds nothing new. Links, pieces and `oci-layout` are made anew from what is there.
//!
//! Which tags a repository had, only the place it was exported from knows: a damaged or lost
//! `index.json` stays what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use oci_mirror::digest::Digest;
use oci_mirror::registry::client;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::tree::reach::{Holdings as _, Kind, Member, Reach};
use oci_mirror::tree::{RepoDir, Tree, TreePath, TreeWriter, writer};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::closure::Listed;
use super::inventory::Inventory;
use super::source::{Opened, RepairSource};
use super::{Damage, Repaired, Report};
use crate::export;
use crate::export::progress::Progress;
use crate::export::source::Wish;
use crate::export::transfer::{Store, Transfers, blocking};

/// How many transfers are under way at once.
const PARALLEL: usize = 4;

/// What to repair, from where, and how.
#[derive(Debug, Clone)]
pub struct RepairOptions {
    /// The tree.
    pub tree: PathBuf,
    /// Where content may be had, in the order in which to ask.
    pub sources: Vec<RepairSource>,
    /// How to talk to registries and mirrors.
    pub connection: client::Options,
    /// The logins to use.
    pub credentials: Credentials,
    /// Ends the repair early but cleanly when cancelled.
    pub shutdown: CancellationToken,
}

/// Checks a tree, repairs what can be repaired, and checks again. A sound tree is left alone, unless a
/// run was cut off in it: that may have been a repair, and its lists are still to be written.
pub async fn run_and_repair(options: RepairOptions) -> anyhow::Result<Report> {
    let root = options.tree.clone();
    let before = blocking(move || super::run(&root)).await?;
    let is_sound = before.damage.is_empty();
    if is_sound && !before.summary.interrupted {
        return Ok(before);
    }
    let root = options.tree.clone();
    let writer = match blocking(move || TreeWriter::open(&root)).await {
        // Not cut off, but at work.
        Err(writer::Error::Locked { .. }) if is_sound => return Ok(before),
        writer => Arc::new(writer?),
    };
    let credentials = Arc::new(options.credentials.clone());
    let mut sources = Vec::new();
    for source in &options.sources {
        let opened = source.open(&options.connection, &credentials).await;
        sources.push((source.to_string(), opened));
    }
    let mut repair = Repair {
        transfers: Transfers::new(Store::Tree(Arc::clone(&writer)), PARALLEL, Progress::Silent),
        writer,
        sources,
        shutdown: options.shutdown,
        repaired: Vec::new(),
        unrepaired: Vec::new(),
    };
    let mut ailing = Ailing::of(&before);
    repair.content(&mut ailing).await?;
    let root = options.tree.clone();
    let Repair {
        writer,
        transfers,
        mut repaired,
        mut unrepaired,
        ..
    } = repair;
    drop(transfers);
    let (ours, theirs) = blocking(move || {
        let mut local = Local {
            writer: &writer,
            repaired: Vec::new(),
            unrepaired: lost(writer.tree())?,
        };
        local.mend(&ailing)?;
        if ailing.lists {
            writer.mark_stale()?;
        }
        writer.discard_staged();
        writer.finish(Timestamp::now())?;
        anyhow::Ok((local.repaired, local.unrepaired))
    })
    .await?;
    repaired.extend(ours);
    unrepaired.extend(theirs);
    let mut after = blocking(move || super::run(&root)).await?;
    after.repaired = repaired;
    after.unrepaired = unrepaired;
    Ok(after)
}

/// What the check found, by what can be done about it.
#[derive(Debug, Default)]
struct Ailing {
    blobs: BTreeSet<Digest>,
    links: BTreeSet<(RepoDir, Digest)>,
    pieces: BTreeSet<Digest>,
    layouts: BTreeSet<RepoDir>,
    /// Whether what the tree tells of itself is not what it is.
    lists: bool,
}

impl Ailing {
    fn of(report: &Report) -> Self {
        let mut ailing = Self::default();
        for damage in &report.damage {
            match damage.path.parse() {
                Ok(TreePath::Blob(digest)) => {
                    ailing.blobs.insert(digest);
                }
                Ok(TreePath::Link(repo, digest)) => {
                    ailing.links.insert((repo, digest));
                }
                Ok(TreePath::Pieces(digest)) => {
                    ailing.pieces.insert(digest);
                }
                Ok(TreePath::Layout(repo)) => {
                    ailing.layouts.insert(repo);
                }
                _ => ailing.lists = true,
            }
        }
        ailing
    }
}

/// Content that some repository needs and the tree does not have, or not right.
#[derive(Debug)]
struct Need {
    member: Member,
    /// The repositories that need or link it; never empty.
    repos: BTreeSet<RepoDir>,
}

/// What is needed and not there, or in `wrong`.
fn needs(tree: &Tree, wrong: &BTreeSet<Digest>) -> anyhow::Result<BTreeMap<Digest, Need>> {
    let inventory = Inventory::take(tree.root())?;
    let mut needs: BTreeMap<Digest, Need> = BTreeMap::new();
    for repo in tree.repositories()? {
        // Damage of its own, which the check reports.
        let Ok(index) = tree.index(&repo) else {
            continue;
        };
        let links = inventory.links.get(&repo);
        let listed = Listed {
            links,
            inventory: &inventory,
        };
        let reach = Reach::of(&index, &listed, tree);
        let problems = reach.problems.iter();
        let ill: BTreeSet<Digest> = problems.filter_map(|it| it.problem.digest()).collect();
        for (digest, member) in reach.members {
            if ill.contains(&digest) || wrong.contains(&digest) || listed.size(&digest).is_none() {
                let need = needs.entry(digest).or_insert_with(|| Need {
                    member,
                    repos: BTreeSet::new(),
                });
                need.repos.insert(repo.clone());
            }
        }
    }
    for (repo, links) in &inventory.links {
        for (digest, need) in &mut needs {
            if links.contains_key(digest) {
                need.repos.insert(repo.clone());
            }
        }
    }
    Ok(needs)
}

struct Repair {
    writer: Arc<TreeWriter>,
    transfers: Transfers,
    sources: Vec<(String, Result<Opened, export::Error>)>,
    shutdown: CancellationToken,
    repaired: Vec<Repaired>,
    unrepaired: Vec<Damage>,
}

impl Repair {
    /// Brings content until nothing new is known to be missing.
    async fn content(&mut self, ailing: &mut Ailing) -> anyhow::Result<()> {
        let mut tried = BTreeSet::new();
        loop {
            let (tree, wrong) = (self.writer.tree().clone(), ailing.blobs.clone());
            let mut needs = blocking(move || needs(&tree, &wrong)).await?;
            needs.retain(|digest, _| tried.insert(*digest));
            if needs.is_empty() {
                break;
            }
            let this = &*self;
            let results: Vec<_> = stream::iter(needs)
                .map(|(digest, need)| async move { (digest, this.bring(&need).await) })
                .buffer_unordered(PARALLEL)
                .collect()
                .await;
            for (digest, result) in results {
                let path = TreePath::Blob(digest).to_string();
                match result {
                    Ok(from) => {
                        info!(%digest, from, "repaired a blob");
                        ailing.blobs.remove(&digest);
                        self.repaired.push(Repaired { path, from });
                    }
                    Err(problem) => self.unrepaired.push(Damage { path, problem }),
                }
            }
        }
        for digest in ailing.blobs.difference(&tried) {
            let problem = "no tag needs it, so it was not fetched: prune removes it";
            let damage = Damage::new(TreePath::Blob(*digest), problem);
            self.unrepaired.push(damage);
        }
        Ok(())
    }

    /// Has one blob from the first who has it; says from whom, or why from nobody.
    async fn bring(&self, need: &Need) -> Result<String, String> {
        let digest = need.member.descriptor.digest;
        let mut problems = Vec::new();
        let mut from = self.own(need).await;
        let repo = need.repos.first();
        for (source, opened) in &self.sources {
            let (None, Some(repo)) = (&from, repo) else {
                break;
            };
            let fetched = match opened {
                Err(error) => Err(error.chain()),
                Ok(opened) => {
                    let fetched = tokio::select! {
                        biased;
                        () = self.shutdown.cancelled() => Err(export::Error::Stopped),
                        fetched = self.fetch(&need.member, repo, opened) => fetched,
                    };
                    fetched.map_err(|error| error.chain())
                }
            };
            match fetched {
                Ok(()) => from = Some(source.clone()),
                Err(problem) => problems.push(format!("{source}: {problem}")),
            }
        }
        let Some(from) = from else {
            return Err(problems.join("; "));
        };
        let writer = Arc::clone(&self.writer);
        let repos: Vec<RepoDir> = need.repos.iter().cloned().collect();
        let placed = blocking(move || writer.replace_blob(&digest, &repos)).await;
        match placed {
            Ok(()) => Ok(from),
            Err(error) => Err(export::Error::from(error).chain()),
        }
    }

    /// What a repository still has as a file of its own, when the canonical name has lost it.
    async fn own(&self, need: &Need) -> Option<String> {
        let Member { descriptor, .. } = &need.member;
        for repo in &need.repos {
            let (writer, repo) = (Arc::clone(&self.writer), repo.clone());
            let (digest, size) = (descriptor.digest, descriptor.size);
            let link = TreePath::Link(repo.clone(), digest);
            let staged = blocking(move || {
                let fits = writer.tree().size(&TreePath::Link(repo.clone(), digest))? == Some(size);
                Ok::<_, writer::Error>(fits && writer.stage_link(&repo, &digest).is_ok())
            });
            if matches!(staged.await, Ok(true)) {
                return Some(link.to_string());
            }
        }
        None
    }

    async fn fetch(
        &self,
        member: &Member,
        repo: &RepoDir,
        source: &Opened,
    ) -> Result<(), export::Error> {
        let Member { descriptor, kind } = member;
        let origin = source.origin(repo);
        if *kind == Kind::Blob || !source.knows_manifests() {
            return self.transfers.fetch(descriptor, &origin).await;
        }
        let manifest = origin.manifest(&Wish::Entry(descriptor.clone())).await?;
        if manifest.size() != descriptor.size {
            return Err(export::Error::Size {
                digest: descriptor.digest,
                described: descriptor.size,
                size: manifest.size(),
            });
        }
        let writer = Arc::clone(&self.writer);
        let staged = move || writer.stage_bytes(manifest.digest(), manifest.bytes());
        Ok(blocking(staged).await?)
    }
}

/// What needs nobody else: links, pieces, layouts.
struct Local<'a> {
    writer: &'a TreeWriter,
    repaired: Vec<Repaired>,
    unrepaired: Vec<Damage>,
}

impl Local<'_> {
    fn mend(&mut self, ailing: &Ailing) -> anyhow::Result<()> {
        let tree = self.writer.tree();
        let mut links = ailing.links.clone();
        links.extend(unlinked(tree)?);
        for (repo, digest) in &links {
            // Without the blob there is nothing to link to, and that has been said.
            if ailing.blobs.contains(digest) || tree.blob_size(digest)?.is_none() {
                continue;
            }
            let result = self.writer.relink(digest, std::slice::from_ref(repo));
            self.note(&TreePath::Link(repo.clone(), *digest), result);
        }
        for digest in &ailing.pieces {
            if !ailing.blobs.contains(digest) {
                let result = self.writer.restore_pieces(digest);
                self.note(&TreePath::Pieces(*digest), result);
            }
        }
        for repo in &ailing.layouts {
            let result = self.writer.restore_layout(repo);
            self.note(&TreePath::Layout(repo.clone()), result);
        }
        Ok(())
    }

    fn note(&mut self, path: &TreePath, result: Result<(), writer::Error>) {
        match result {
            Ok(()) => self.repaired.push(Repaired {
                path: path.to_string(),
                from: "the tree itself".to_owned(),
            }),
            Err(error) => self.unrepaired.push(Damage::error(path, &error)),
        }
    }
}

/// The links that repositories need and do not have.
fn unlinked(tree: &Tree) -> anyhow::Result<Vec<(RepoDir, Digest)>> {
    let inventory = Inventory::take(tree.root())?;
    let mut unlinked = Vec::new();
    for repo in tree.repositories()? {
        let Ok(index) = tree.index(&repo) else {
            continue;
        };
        let listed = Listed {
            links: inventory.links.get(&repo),
            inventory: &inventory,
        };
        let members = Reach::of(&index, &listed, tree).members.into_keys();
        unlinked.extend(
            members
                .filter(|digest| !listed.is_linked(digest))
                .map(|digest| (repo.clone(), digest)),
        );
    }
    Ok(unlinked)
}

/// Repositories whose index is gone, when the state counts more than there are. Said here, because
/// the new state will not count them any more.
fn lost(tree: &Tree) -> anyhow::Result<Vec<Damage>> {
    let repositories: BTreeSet<RepoDir> = tree.repositories()?.into_iter().collect();
    let said = tree.state().map_or(0, |state| state.totals.repositories);
    if repositories.len() as u64 >= said {
        return Ok(Vec::new());
    }
    let inventory = Inventory::take(tree.root())?;
    let lost = inventory
        .links
        .keys()
        .filter(|repo| !repositories.contains(repo));
    Ok(lost
        .map(|repo| Damage::new(TreePath::Index(repo.clone()), "missing: export it again"))
        .collect())
}
