//! What the [distribution specification][spec] asks of the pull side of a registry, in our words, and
//! how we fare with it.
//!
//! Each [`Requirement`] of [`REQUIREMENTS`] has a check of the same name in `tests/checks`, run against a
//! running `registry-proxy`; a test there fails if one of the two is without the other. What the same
//! sections ask of clients, or of a registry that is written to, is in [`OTHERS`], so that nobody wonders.
//!
//! [`official`] runs the official suite, [`shim`] lets the part of it that pushes be run too, and [`table`]
//! writes what came out into `README.md`.
//!
//! [spec]: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md

pub mod explained;
pub mod official;
mod others;
mod requirements;
pub mod sample;
pub mod shim;
pub mod table;

pub use others::OTHERS;
pub use requirements::REQUIREMENTS;

/// How strongly the specification asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Without it a registry does not conform.
    Must,
    /// It conforms without, but had better have it.
    Should,
}

/// One thing the specification asks of a registry that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    /// The name of its check.
    pub name: &'static str,
    /// The section of the specification.
    pub section: &'static str,
    /// How strongly it is asked.
    pub level: Level,
    /// What is asked, in our words.
    pub text: &'static str,
    /// What we do instead, and why; the check shows that we do.
    pub deviation: Option<&'static str>,
}

/// One thing the specification asks of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Other {
    /// The section of the specification.
    pub section: &'static str,
    /// How strongly it is asked.
    pub level: Level,
    /// What is asked, in our words.
    pub text: &'static str,
    /// Of whom, or why it is not for us.
    pub whose: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = REQUIREMENTS.iter().map(|it| it.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), REQUIREMENTS.len());
    }
}
