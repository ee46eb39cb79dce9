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
pub const EXPLANATIONS: [Explanation; 9] = [
    Explanation {
        tests: ("", ""),
        saying: "OCI-Subject",
        whose: Whose::DockerRegistry,
        why: "It knows no `subject`, so it does not say that it has seen one.",
    },
    Explanation {
        tests: ("sha512", ""),
        saying: "Docker-Content-Digest header value expected",
        whose: Whose::DockerRegistry,
        why: "It names what it stores by SHA-256, whatever it was pushed by.",
    },
    Explanation {
        tests: ("", ""),
        saying: "expected one of [416], received 202",
        whose: Whose::DockerRegistry,
        why: "It takes chunks that are out of order.",
    },
    Explanation {
        tests: ("sha512/", ""),
        saying: "received 400",
        whose: Whose::DockerRegistry,
        why: "It takes no manifest by another digest than SHA-256.",
    },
    Explanation {
        tests: ("sha512/", ""),
        saying: "received 404",
        whose: Whose::DockerRegistry,
        why: "So what follows from that is not there to be read.",
    },
    Explanation {
        tests: ("sha512 blobs/mount/", ""),
        saying: "failed to verify returned location",
        whose: Whose::DockerRegistry,
        why: "It says that it has mounted what it then has not, under SHA-512.",
    },
    Explanation {
        tests: ("non-distributable-layers/push/", ""),
        saying: "received 500",
        whose: Whose::DockerRegistry,
        why: "It refuses manifests with layers to be had elsewhere.",
    },
    Explanation {
        tests: ("non-distributable-layers/", ""),
        saying: "",
        whose: Whose::DockerRegistry,
        why: "So what follows from that is not there to be read.",
    },
    Explanation {
        tests: ("invalid-digest-format/manifest-put", ""),
        saying: "received 500",
        whose: Whose::DockerRegistry,
        why: "A malformed digest is an error of its own to it.",
    },
];
