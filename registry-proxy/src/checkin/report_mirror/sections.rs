//! The sections of a check-in, read one by one: of a category only what is to be known of it is kept.

use std::collections::BTreeSet;
use std::fmt;

use oci_mirror::digest::Algorithm;
use oci_mirror::reference::RepoName;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Category, CheckIn, MAX_CATEGORIES, MAX_REPOSITORIES};

/// Longest name of a category.
const MAX_NAME: usize = 255;

/// A check-in as it is written: sections by name, where any name that is none of these is a category.
pub(super) struct Sections(pub(super) CheckIn);

impl<'de> Deserialize<'de> for Sections {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SectionByName)
    }
}

struct SectionByName;

impl<'de> Visitor<'de> for SectionByName {
    type Value = Sections;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sections of a check-in")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut sections: A) -> Result<Sections, A::Error> {
        use serde::de::Error as _;
        let mut check_in = CheckIn::default();
        let mut named = 0;
        while let Some(name) = sections.next_key::<String>()? {
            match &*name {
                "version" | "global" | "stats" => {
                    sections.next_value::<IgnoredAny>()?;
                }
                "site" => {
                    let site: Site = sections.next_value()?;
                    check_in.site = site.name;
                    check_in.password = site.password;
                }
                "host" => check_in.host = sections.next_value::<Named>()?.name,
                _ => {
                    let section: Section = sections.next_value()?;
                    if !section.is_enabled() {
                        continue;
                    }
                    if check_in.categories.len() >= MAX_CATEGORIES {
                        return Err(A::Error::custom("too many categories"));
                    }
                    if name.is_empty() {
                        return Err(A::Error::custom("a category without a name"));
                    }
                    if name.len() > MAX_NAME {
                        return Err(A::Error::custom("too long a name"));
                    }
                    named += section.dirtree.repositories.len();
                    if named > MAX_REPOSITORIES {
                        return Err(A::Error::custom("too many repositories"));
                    }
                    check_in.categories.push(Category {
                        name,
                        repositories: section.dirtree.repositories,
                        directories: section.dirtree.directories,
                    });
                }
            }
        }
        Ok(Sections(check_in))
    }
}

#[derive(Deserialize)]
struct Site {
    name: String,
    password: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Section {
    /// `1`, as a text, where nobody has turned it off.
    enabled: Option<String>,
    #[serde(default)]
    dirtree: Directories,
}

impl Section {
    fn is_enabled(&self) -> bool {
        self.enabled.as_deref().is_none_or(|enabled| enabled == "1")
    }
}

/// What the directories of a category are.
#[derive(Default)]
struct Directories {
    repositories: BTreeSet<RepoName>,
    directories: u64,
}

impl<'de> Deserialize<'de> for Directories {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DirectoryTree)
    }
}

struct DirectoryTree;

impl<'de> Visitor<'de> for DirectoryTree {
    type Value = Directories;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("directories")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut tree: A) -> Result<Directories, A::Error> {
        use serde::de::Error as _;
        let mut found = Directories::default();
        while let Some(path) = tree.next_key::<String>()? {
            tree.next_value::<IgnoredAny>()?;
            found.directories += 1;
            if let Some(name) = repository(&path) {
                found.repositories.insert(name);
            }
            if found.repositories.len() > MAX_REPOSITORIES {
                return Err(A::Error::custom("too many repositories"));
            }
        }
        Ok(found)
    }
}

/// The repository whose blobs are in a directory, if it is one of those. The category may begin at the tree or one
/// directory above it.
fn repository(path: &str) -> Option<RepoName> {
    let path = path.trim_matches('/');
    let below = |path: &str| path.strip_prefix("repos/").map(str::to_owned);
    let below = below(path).or_else(|| below(path.split_once('/')?.1))?;
    let (blobs, algorithm) = below.rsplit_once('/')?;
    algorithm.parse::<Algorithm>().ok()?;
    blobs.strip_suffix("/blobs")?.parse().ok()
}
