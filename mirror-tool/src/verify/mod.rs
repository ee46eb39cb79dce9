//! Verify: what of a tree is not as it should be.
//!
//! Three passes over the whole tree: `inventory` sorts every file by what its name says it is,
//! `content` hashes every blob on all cores, `closure` follows every repository from its index
//! to the last layer. Then `lists` compares the tree with what it tells mirrors. Nothing is changed,
//! unless `repair` is asked to. What an interrupted export leaves behind, and what a moved
//! tag no longer needs, is not damage: it is counted, and `prune` removes it.

mod closure;
mod content;
mod grace;
mod inventory;
mod lists;
mod repair;
mod source;

use std::fmt;
use std::path::Path;

use oci_mirror::digest::Digest;
use oci_mirror::error_chain::chain;
use oci_mirror::size::ByteSize;
use oci_mirror::tree::state::{State, Totals};
use oci_mirror::tree::writer::{DIRTY, TEMPORARY};
use oci_mirror::tree::{Tree, TreePath};
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use grace::Grace;
use inventory::Inventory;
pub use repair::{RepairOptions, run_and_repair};
pub use source::{InvalidSource, RepairSource};

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// All damage, by path.
    pub damage: Vec<Damage>,
    /// What was looked at.
    pub summary: Summary,
    /// What was damaged and is not any more.
    #[serde(default)]
    pub repaired: Vec<Repaired>,
    /// What was to be repaired and why it could not be.
    #[serde(default)]
    pub unrepaired: Vec<Damage>,
}

/// One file that is as it should be again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Repaired {
    /// The file, relative to the tree.
    pub path: String,
    /// Where the content came from.
    pub from: String,
}

/// One file that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Damage {
    /// The file, relative to the tree.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Blobs hashed.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Repositories followed.
    pub repositories: u64,
    /// Tags followed.
    pub tags: u64,
    /// Blobs no repository reaches.
    pub unreferenced: u64,
    /// Images of indexes that were left out on purpose.
    pub left_out: u64,
    /// Whether an export was interrupted and not yet repeated.
    pub interrupted: bool,
    /// How much damage was found.
    pub damage: u64,
}

impl Report {
    /// The exit status that sums it up.
    pub fn exit(&self) -> Exit {
        if self.damage.is_empty() && self.unrepaired.is_empty() {
            Exit::Fine
        } else {
            Exit::Damage
        }
    }
}

impl Damage {
    fn new(path: impl fmt::Display, problem: impl Into<String>) -> Self {
        Self {
            path: path.to_string(),
            problem: problem.into(),
        }
    }

    /// The content that is damaged, if the path is one of its names.
    pub fn content(&self) -> Option<Digest> {
        match self.path.parse() {
            Ok(TreePath::Blob(digest) | TreePath::Link(_, digest)) => Some(digest),
            _ => None,
        }
    }

    /// The chain of an error, as a problem.
    fn error(path: impl fmt::Display, error: &dyn std::error::Error) -> Self {
        Self::new(path, chain(error))
    }
}

/// Checks the tree at `root`. Fails only if there is no tree to be checked.
pub fn run(root: &Path) -> anyhow::Result<Report> {
    let tree = Tree::open(root)?;
    // In this order, because an export may be at work beside us: what is named first was there before.
    let before = tree.state().ok();
    let grace = Grace::of(&tree);
    let indexes = closure::indexes(&tree)?;
    let inventory = Inventory::take(root)?;
    let interrupted = inventory.interrupted;
    anyhow::ensure!(
        !inventory.is_empty(),
        "{} holds no tree: there is neither a state.json nor a repository",
        root.display()
    );
    let mut damage = Vec::new();
    let vouched = lists::vouched(before.as_ref(), &tree);
    let hashed = content::check(&inventory, &vouched, &tree, &mut damage);
    let reached = closure::check(&indexes, &inventory, &tree, &mut damage);
    let found = grace.totals(&inventory, &indexes, &reached);
    check_state(before.as_ref(), &inventory, found, &tree, &mut damage);
    damage.extend(inventory.stray.iter().map(|stray| {
        Damage::new(
            stray.escape_debug(),
            "stray: no file of a tree has such a name",
        )
    }));
    lists::check(before.as_ref(), &grace, &tree, &mut damage);
    damage.sort();
    damage.dedup();
    let unreferenced = inventory
        .blobs
        .keys()
        .filter(|digest| !reached.digests.contains(*digest));
    let summary = Summary {
        blobs: inventory.blobs.len() as u64,
        bytes: hashed,
        repositories: inventory.repositories.len() as u64,
        tags: reached.tags,
        unreferenced: unreferenced.count() as u64,
        left_out: reached.left_out.len() as u64,
        interrupted,
        damage: damage.len() as u64,
    };
    Ok(Report {
        damage,
        summary,
        repaired: Vec::new(),
        unrepaired: Vec::new(),
    })
}

/// A state must be there and agree with the indexes, unless an export was cut short before it could
/// write one.
fn check_state(
    before: Option<&State>,
    inventory: &Inventory,
    found: Totals,
    tree: &Tree,
    damage: &mut Vec<Damage>,
) {
    // An export that began or ended meanwhile has made the counts differ. Looked at before the state is
    // read: what ends in between has changed that.
    let changing = is_changing(tree);
    match tree.state() {
        Err(error) if error.is_not_found() && inventory.interrupted => {}
        Err(error) => damage.push(Damage::error(TreePath::State, &error)),
        Ok(state) => {
            let is_still = before == Some(&state) && !changing;
            if found != state.totals && is_still && !inventory.interrupted {
                let count = |totals: &Totals| {
                    format!(
                        "{} repositories, {} tags and {} blobs of {} bytes",
                        totals.repositories, totals.tags, totals.blobs, totals.bytes
                    )
                };
                let problem = format!(
                    "counts {}, but there are {}",
                    count(&state.totals),
                    count(&found)
                );
                damage.push(Damage::new(TreePath::State, problem));
            }
        }
    }
}

/// Whether a writer is at work, or was and did not finish.
fn is_changing(tree: &Tree) -> bool {
    tree.root().join(TEMPORARY).join(DIRTY).exists()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Repaired { path, from } in &self.repaired {
            writeln!(f, "{path}: repaired from {from}")?;
        }
        for Damage { path, problem } in &self.unrepaired {
            writeln!(f, "{path}: cannot be repaired: {problem}")?;
        }
        self.damage
            .iter()
            .try_for_each(|damage| writeln!(f, "{damage}"))
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} blobs ({}), {} repositories, {} tags: ",
            self.blobs,
            ByteSize(self.bytes),
            self.repositories,
            self.tags
        )?;
        match self.damage {
            0 => f.write_str("no damage")?,
            1 => f.write_str("1 damage")?,
            damage => write!(f, "{damage} damages")?,
        }
        if self.left_out > 0 {
            write!(f, "; {} images of indexes left out", self.left_out)?;
        }
        if self.unreferenced > 0 {
            write!(f, "; {} blobs that no tag needs", self.unreferenced)?;
        }
        if self.interrupted {
            write!(
                f,
                "; an export was interrupted ({TEMPORARY} says so): run it again"
            )?;
        }
        Ok(())
    }
}
