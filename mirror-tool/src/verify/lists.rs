//! What mirrors go by: does the file list say what is there, and do the sizes add up.
//!
//! A list that is wrong costs its mirrors content, or makes them delete some, though every blob here is
//! whole. The list of a tree at rest differs in nothing from a walk over it; so one second walk, in the
//! order of the list, compares them with no memory to speak of.
//!
//! What a mirror keeps for its grace is not in its list any more, and no damage.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Seek as _};

use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::error_chain::chain;
use oci_mirror::tree::list::{Entry, Kind, ListPath, Reader, Record, Sum};
use oci_mirror::tree::sizes::Sizes;
use oci_mirror::tree::state::{ListRef, State};
use oci_mirror::tree::walk::Walk;
use oci_mirror::tree::{Tree, TreePath, reader};

use super::content::Vouched;
use super::grace::Grace;
use super::{Damage, is_changing};

/// How many differences between list and tree are told one by one.
const TOLD: usize = 20;

/// What is to be done about a list that does not fit its tree.
const REMEDY: &str = "`--repair`, or the next export or prune that changes the tree, writes it anew; in a tree that follows \
     another, `sync --check`";

/// Compares the list and the sizes with the tree, unless an export is at work or was cut short. A tree
/// that an older version made has no list until it is next written to.
pub(super) fn check(before: Option<&State>, grace: &Grace, tree: &Tree, damage: &mut Vec<Damage>) {
    let Some(list) = before.and_then(|state| state.list.as_ref()) else {
        return;
    };
    let mut found = match compare(list, grace, tree) {
        Ok(found) => found,
        Err(error) => vec![Damage::error(".", &error)],
    };
    // Looked at last, the mark before the state: whoever changed what was compared has changed these.
    if is_changing(tree) || tree.state().ok().as_ref() != before {
        return;
    }
    // A file that is known to be damaged differs from the list too, under every name it has; once is
    // enough for each.
    let mut known: HashSet<String> = damage.iter().map(|damage| damage.path.clone()).collect();
    let content: HashSet<Digest> = damage.iter().filter_map(Damage::content).collect();
    found.retain(|damage| damage.content().is_none_or(|it| !content.contains(&it)));
    found.retain(|damage| known.insert(damage.path.clone()));
    let untold = found.len().saturating_sub(TOLD);
    found.truncate(TOLD);
    if untold > 0 {
        let path = TreePath::List(list.module.clone());
        found.push(Damage::new(path, format!("{untold} more differences")));
    }
    damage.append(&mut found);
}

/// The sums the list has of pieces files; none unless it is the list that the state names.
pub(super) fn vouched(state: Option<&State>, tree: &Tree) -> Vouched {
    let list = state.and_then(|state| state.list.as_ref());
    let Some(file) = list.and_then(|list| open(list, tree).ok()) else {
        return Vouched::new();
    };
    let sums = Reader::new(BufReader::new(file)).map_while(|record| match record {
        Ok(Record::Sum(path, sum)) => match path.as_str().parse() {
            Ok(TreePath::Pieces(digest)) => Some(Some((digest, sum))),
            _ => Some(None),
        },
        Ok(Record::Entry(_)) => Some(None),
        Err(_) => None,
    });
    sums.flatten().collect()
}

/// Walks list and tree side by side.
fn compare(list: &ListRef, grace: &Grace, tree: &Tree) -> Result<Vec<Damage>, reader::Error> {
    let mut here = Here::new(grace, tree)?;
    let mut damage = Vec::new();
    match open(list, tree) {
        Err(problem) => {
            let path = TreePath::List(list.module.clone());
            damage.push(Damage::new(path, format!("{problem}; {REMEDY}")));
            // That it is in no list has been said with this.
            while here.unlisted(&mut Vec::new())? {}
        }
        Ok(file) => {
            for record in Reader::new(BufReader::new(file)) {
                match record {
                    Ok(Record::Entry(entry)) => check_entry(&entry, &mut here, &mut damage)?,
                    Ok(Record::Sum(path, sum)) => damage.extend(check_sum(&path, &sum, tree)),
                    Err(error) => {
                        let path = TreePath::List(list.module.clone());
                        damage.push(Damage::new(path, format!("{}; {REMEDY}", chain(&error))));
                    }
                }
            }
            while here.unlisted(&mut damage)? {}
        }
    }
    damage.extend(check_sizes(&here.sizes, tree));
    Ok(damage)
}

/// The list, if it is the one that the state names.
fn open(list: &ListRef, tree: &Tree) -> Result<File, String> {
    let path = TreePath::List(list.module.clone());
    let mut file = match tree.open_file(&path) {
        Err(error) if error.is_not_found() => return Err("missing".to_owned()),
        file => file.map_err(|error| chain(&error))?,
    };
    let found = Algorithm::Sha256.digest_of(&file);
    let found = found.and_then(|found| file.rewind().map(|()| found));
    let found = found.map_err(|error| chain(&error))?;
    if found == list.digest {
        Ok(file)
    } else {
        Err(format!(
            "its digest is {found}, but state.json names {}",
            list.digest
        ))
    }
}

/// Where the walk is, and the sizes of what it has passed.
struct Here<'a> {
    walk: Walk,
    next: Option<Entry>,
    sizes: Sizes,
    grace: &'a Grace,
}

impl<'a> Here<'a> {
    fn new(grace: &'a Grace, tree: &Tree) -> Result<Self, reader::Error> {
        let mut here = Self {
            walk: Walk::new(tree)?,
            next: None,
            sizes: Sizes::default(),
            grace,
        };
        here.advance()?;
        Ok(here)
    }

    /// Goes on by one; returns what was next.
    fn advance(&mut self) -> Result<Option<Entry>, reader::Error> {
        let passed = self.next.take();
        self.next = self.walk.next().transpose()?.map(|found| found.entry);
        Ok(passed)
    }

    /// Passes something that the list has.
    fn listed(&mut self) -> Result<Option<Entry>, reader::Error> {
        let passed = self.advance()?;
        if let Some(entry) = &passed {
            self.count(entry);
        }
        Ok(passed)
    }

    /// Passes something that the list does not have, if there is anything left.
    fn unlisted(&mut self, damage: &mut Vec<Damage>) -> Result<bool, reader::Error> {
        let Some(entry) = self.advance()? else {
            return Ok(false);
        };
        if !self.grace.has(&entry.path) {
            self.count(&entry);
            let problem = format!("not in the file list; {REMEDY}");
            damage.push(Damage::new(&entry.path, problem));
        }
        Ok(true)
    }

    fn count(&mut self, entry: &Entry) {
        if entry.kind == Kind::File {
            let path = entry.path.as_str().parse().ok();
            self.sizes.add(path.as_ref(), entry.size);
        }
    }
}

/// Compares one entry with what is there, once the walk has come that far.
fn check_entry(
    entry: &Entry,
    here: &mut Here<'_>,
    damage: &mut Vec<Damage>,
) -> Result<(), reader::Error> {
    loop {
        let order = here.next.as_ref().map(|next| next.path.cmp(&entry.path));
        match order {
            Some(Ordering::Less) => {
                here.unlisted(damage)?;
            }
            Some(Ordering::Equal) => {
                if let Some(found) = here.listed()? {
                    damage.extend(difference(entry, &found));
                }
                return Ok(());
            }
            Some(Ordering::Greater) | None => {
                let problem = format!("missing, but the file list has it; {REMEDY}");
                damage.push(Damage::new(&entry.path, problem));
                return Ok(());
            }
        }
    }
}

/// Times are not compared: only where a tree is made are they what its list says.
fn difference(listed: &Entry, found: &Entry) -> Option<Damage> {
    let problem = match (listed.kind, found.kind) {
        (Kind::Directory, Kind::Directory) => return None,
        (Kind::File, Kind::File) if listed.size == found.size => return None,
        (Kind::File, Kind::File) => format!(
            "has {} bytes, but {} in the file list; {REMEDY}",
            found.size, listed.size
        ),
        _ => format!("of another type in the file list; {REMEDY}"),
    };
    Some(Damage::new(&found.path, problem))
}

fn check_sum(path: &ListPath, sum: &Sum, tree: &Tree) -> Option<Damage> {
    let parsed = path.as_str().parse::<TreePath>().ok();
    let file = match tree.open_file(&parsed?) {
        // Its entry has told so.
        Err(error) if error.is_not_found() => return None,
        Err(error) => return Some(Damage::error(path, &error)),
        Ok(file) => file,
    };
    match Algorithm::Sha256.digest_of(file) {
        Ok(Digest::Sha256(found)) if found == *sum => None,
        Ok(_) => Some(Damage::new(
            path,
            format!("its content is not what the file list says; {REMEDY}"),
        )),
        Err(error) => Some(Damage::error(path, &error)),
    }
}

fn check_sizes(sizes: &Sizes, tree: &Tree) -> Option<Damage> {
    let path = TreePath::DirectorySizes;
    let expected = sizes.to_text();
    let problem = match tree.read(&path, expected.len() as u64) {
        Ok(bytes) if bytes == expected.as_bytes() => return None,
        Ok(_) | Err(reader::Error::TooLarge { .. }) => "does not agree with the tree".to_owned(),
        Err(error) if error.is_not_found() => "missing".to_owned(),
        Err(error) => chain(&error),
    };
    Some(Damage::new(path, format!("{problem}; {REMEDY}")))
}
