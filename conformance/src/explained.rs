//! Why tests of the official suite fail, and whose failure it is.
//!
//! A failure that nothing here explains is an error, and so is an explanation that explains nothing: the
//! table in `README.md` must neither hide a failure nor excuse one that is gone.

/// Whose failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Of `registry-proxy` or `mirror-tool`.
    Ours,
    /// Of docker-registry, which takes the writes.
    DockerRegistry,
    /// Of the suite.
    Suite,
}

/// Why some tests fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// What the names of the tests begin with, and end with.
    pub tests: (&'static str, &'static str),
    /// What they say, in part.
    pub saying: &'static str,
    /// Whose failure it is.
    pub whose: Whose,
    /// Why.
    pub why: &'static str,
}

/// The explanation of a failure, by its number.
pub fn explain(test: &str, said: &str) -> Option<usize> {
    EXPLANATIONS.iter().position(|it| {
        test.starts_with(it.tests.0) && test.ends_with(it.tests.1) && said.contains(it.saying)
    })
}

/// Everything that is known.
pub const EXPLANATIONS: [Explanation; 0] = [];
