//! Which clients get the bytes through here, by what they call themselves.

use std::fmt;
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;
use serde::Deserialize;

/// Most numbers in a version, and so as many are compared.
const MAX_PARTS: usize = 4;

/// Clients, as `containers<5.25` or `skopeo`: the first product of `User-Agent`, and the first version that is
/// not meant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ClientRule {
    product: Box<str>,
    below: Option<Version>,
}

/// Numbers between dots; those that are missing are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version([u32; MAX_PARTS]);

impl ClientRule {
    /// Whether a client that calls itself so is meant. One whose version cannot be read is not, where the
    /// version matters.
    pub fn names(&self, agent: &str) -> bool {
        let first = agent.split_ascii_whitespace().next().unwrap_or_default();
        let (product, version) = match first.split_once('/') {
            Some((product, version)) => (product, Some(version)),
            None => (first, None),
        };
        product.eq_ignore_ascii_case(&self.product)
            && self.below.is_none_or(|below| {
                version
                    .and_then(Version::leading)
                    .is_some_and(|version| version < below)
            })
    }
}

impl Version {
    /// The version that a text begins with: `5.23.1-dev` is 5.23.1.
    fn leading(text: &str) -> Option<Self> {
        let is_part = |c: char| c.is_ascii_digit() || c == '.';
        let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
        let mut parts = [0; MAX_PARTS];
        let numbers = text[..end].split('.').filter(|part| !part.is_empty());
        let mut found = false;
        for (part, number) in parts.iter_mut().zip(numbers) {
            *part = number.parse().unwrap_or(u32::MAX);
            found = true;
        }
        found.then_some(Self(parts))
    }

    /// A text that is a version and nothing else.
    fn exact(text: &str) -> Option<Self> {
        let mut parts = [0; MAX_PARTS];
        let mut numbers = text.split('.');
        for (part, number) in parts.iter_mut().zip(&mut numbers) {
            let digits = number.bytes().all(|c| c.is_ascii_digit());
            *part = number.parse().ok().filter(|_| digits)?;
        }
        numbers.next().is_none().then_some(Self(parts))
    }
}

impl fmt::Display for ClientRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.product)?;
        let Some(Version(parts)) = self.below else {
            return Ok(());
        };
        let last = parts.iter().rposition(|part| *part > 0).unwrap_or_default();
        for (at, part) in parts[..=last].iter().enumerate() {
            write!(f, "{}{part}", if at == 0 { '<' } else { '.' })?;
        }
        Ok(())
    }
}

impl FromStr for ClientRule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let invalid = || InvalidRule(Excerpt(text).into());
        let (product, below) = match text.split_once('<') {
            Some((product, version)) => {
                let version = Version::exact(version).ok_or_else(invalid)?;
                (product, Some(version))
            }
            None => (text, None),
        };
        let is_token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
        if product.is_empty() || !product.bytes().all(is_token) {
            return Err(invalid());
        }
        Ok(Self {
            product: product.into(),
            below,
        })
    }
}

crate::by_text::by_text!(ClientRule);

/// The text names no clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} names no clients: write PRODUCT or PRODUCT<VERSION, as containers<5.25")]
pub struct InvalidRule(Box<str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clients_are_told_by_product_and_version() {
        let podman = "containers/5.23.1 (github.com/containers/image)";
        for (rule, agent, named) in [
            ("containers", podman, true),
            ("containers<5.25", podman, true),
            ("Containers<5.23.2", podman, true),
            ("containers<5.23.1", podman, false),
            ("containers<5.3", podman, false),
            ("containers<6", podman, true),
            ("skopeo<1.12", podman, false),
            ("skopeo<1.12", "skopeo/1.9.3", true),
            ("skopeo<1.12", "skopeo/1.12.0-dev", false),
            ("skopeo<1.12", "skopeo/1.11.0-dev", true),
            ("skopeo<1.12", "skopeo", false),
            ("skopeo<1.12", "skopeo/dev", false),
            ("skopeo", "skopeo", true),
            ("skopeo<1.12", "skopeo/99999999999999999999", false),
            ("image", podman, false),
            ("docker", "docker/20.10.24+dfsg1 go/go1.19.8", true),
            ("go", "docker/20.10.24+dfsg1 go/go1.19.8", false),
            ("skopeo", "", false),
        ] {
            let parsed: ClientRule = rule.parse().unwrap();
            assert_eq!(parsed.names(agent), named, "{rule} {agent}");
        }
    }

    #[test]
    fn what_names_no_clients_is_refused() {
        for text in [
            "",
            "<",
            "<1",
            "a<",
            "a<b",
            "a<1.b",
            "a<1..2",
            "a<+1",
            "a b",
            "a/1",
            "a<1.2.3.4.5",
            "a>1",
            "a<99999999999",
        ] {
            assert!(text.parse::<ClientRule>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn rules_round_trip(text in "[a-z!-]{1,9}(<[0-9]{1,4}(\\.[0-9]{1,4}){0,3})?") {
            let rule: ClientRule = text.parse().unwrap();
            prop_assert_eq!(rule.to_string().parse::<ClientRule>().unwrap(), rule);
        }

        #[test]
        fn nothing_that_calls_itself_anything_panics(agent in ".{0,80}", rule in "[a-c]{1}(<[0-9]{1,2})?") {
            let rule: ClientRule = rule.parse().unwrap();
            rule.names(&agent);
        }
    }
}
