//! The tags of a repository.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use http::{HeaderMap, Method};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tracing::warn;
use url::Url;

use super::client::Registry;
use super::error::{Error, Subject};
use super::pages::Pages;
use crate::excerpt::Excerpt;
use crate::reference::{RepoName, Tag};

/// Longest page of a tag list, in bytes: room for about 100,000 tags.
const MAX_TAG_PAGE: u64 = 16 << 20;

/// Most bytes of all pages.
const MAX_BYTES: u64 = 256 << 20;

/// Most pages of a tag list. The smallest page seen in practice has 100 tags.
const MAX_TAG_PAGES: usize = 10_000;

/// Most tags of a repository; what is beyond cannot be meant for a mirror.
const MAX_TAGS: usize = 1_000_000;

/// How many of the texts that are no tags a warning shows.
const EXAMPLES: usize = 3;

impl Registry {
    /// All tags of a repository, sorted, over however many pages.
    ///
    /// What is no tag of the grammar cannot be asked for either; it is left out with a warning.
    pub async fn tags(&self, name: &RepoName) -> Result<Vec<Tag>, Error> {
        let subject = Subject::Tags(name.clone());
        let mut all = Names::default();
        let mut pages = Pages::new(self.url(name, "tags/list"), MAX_TAG_PAGES);
        let mut left = MAX_BYTES;
        while let Some(page) = pages.turn(self, &subject)? {
            let page = self.ask(|| self.tag_page(&subject, &page, left)).await?;
            left = left.saturating_sub(page.bytes);
            all.add(page.list.tags.unwrap_or_default());
            if all.tags.len() > MAX_TAGS {
                return Err(Error::TooMany {
                    registry: self.host.clone(),
                    subject,
                    most: MAX_TAGS,
                });
            }
            pages.follow(page.next);
        }
        if all.refused > 0 {
            let (refused, examples) = (all.refused, all.examples.join(", "));
            warn!(registry = %self.host, repository = %name, refused, examples, "leaving out what is no tag");
        }
        Ok(all.tags.into_iter().collect())
    }

    async fn tag_page(&self, subject: &Subject, page: &Url, left: u64) -> Result<Page, Error> {
        let answer = self
            .send(Method::GET, page, &HeaderMap::new(), subject)
            .await?;
        let answer = self.expect_success(answer, subject).await?;
        let next = self.following(page, answer.headers(), subject)?;
        let body = self.read(answer, left.min(MAX_TAG_PAGE), subject).await?;
        let list = serde_json::from_slice(&body).map_err(|source| Error::TagList {
            registry: self.host.clone(),
            subject: subject.clone(),
            source,
        })?;
        Ok(Page {
            list,
            bytes: body.len() as u64,
            next,
        })
    }
}

#[derive(Debug)]
struct Page {
    list: TagList,
    bytes: u64,
    next: Option<Url>,
}

#[derive(Debug, Deserialize)]
struct TagList {
    /// distribution writes `null` for none.
    tags: Option<Names>,
}

/// The names in a list. Each becomes a tag or an example as it is read: a page of millions of short names
/// would be many times larger as a list of texts.
#[derive(Debug, Default)]
struct Names {
    tags: BTreeSet<Tag>,
    refused: usize,
    examples: Vec<String>,
}

impl Names {
    fn add(&mut self, mut page: Self) {
        // `append` would build the whole set anew for each of many small pages.
        self.tags.extend(page.tags);
        self.refused += page.refused;
        self.examples.append(&mut page.examples);
        self.examples.truncate(EXAMPLES);
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(NamesVisitor)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tags")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
        let mut names = Names::default();
        while let Some(name) = list.next_element::<Cow<'_, str>>()? {
            match name.parse() {
                Ok(tag) => {
                    names.tags.insert(tag);
                }
                Err(_) => {
                    names.refused += 1;
                    if names.examples.len() < EXAMPLES {
                        names.examples.push(Excerpt(&name).to_string());
                    }
                }
            }
            if names.tags.len() > MAX_TAGS {
                return Err(de::Error::custom(format_args!("more than {MAX_TAGS} tags")));
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Option<Names>, serde_json::Error> {
        Ok(serde_json::from_str::<TagList>(json)?.tags)
    }

    #[test]
    fn names_become_sorted_tags_and_the_rest_a_few_examples() {
        let long = "x".repeat(1 << 20);
        let json =
            format!(r#"{{"name":"a","tags":["b","a","a/b","","{long}","b","-c","\u0061"]}}"#);
        let names = parse(&json).unwrap().unwrap();
        let tags: Vec<_> = names.tags.iter().map(Tag::as_str).collect();
        assert_eq!(tags, ["a", "b"]);
        assert_eq!((names.refused, names.examples.len()), (4, EXAMPLES));
        assert!(names.examples.iter().all(|example| example.len() < 200));
    }

    #[test]
    fn a_list_may_be_null_but_nothing_else() {
        assert!(parse(r#"{"tags":null}"#).unwrap().is_none());
        assert!(parse(r#"{"name":"a"}"#).unwrap().is_none());
        for json in [r#"{"tags":"a"}"#, r#"{"tags":[1]}"#, r#"{"tags":{}}"#, "[]"] {
            assert!(parse(json).is_err(), "{json}");
        }
    }
}
