//! What the [distribution specification][spec] asks of the pull side of a registry, in our words.
//!
//! Each [`Requirement`] has a check of the same name in `tests/pull.rs`; a test there fails if one of
//! the two is without the other. The list covers pulling, discovery and errors of version 1.1.
//!
//! [spec]: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md

/// How strongly the specification asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Without it a registry does not conform.
    Must,
    /// It conforms without, but had better have it.
    Should,
}

/// One thing the specification asks for.
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
}

const fn must(name: &'static str, section: &'static str, text: &'static str) -> Requirement {
    Requirement {
        name,
        section,
        level: Level::Must,
        text,
    }
}

const fn should(name: &'static str, section: &'static str, text: &'static str) -> Requirement {
    Requirement {
        name,
        section,
        level: Level::Should,
        text,
    }
}

/// Everything that is checked.
pub const REQUIREMENTS: [Requirement; 21] = [
    must(
        "version_check",
        "Determining Support",
        "GET /v2/ answers 200",
    ),
    must(
        "manifest_by_tag",
        "Pulling manifests",
        "GET by tag answers 200 with the manifest",
    ),
    must(
        "manifest_by_digest",
        "Pulling manifests",
        "GET by digest answers 200 with exactly the bytes of that digest",
    ),
    must(
        "manifest_type",
        "Pulling manifests",
        "Content-Type is the media type of the manifest",
    ),
    should(
        "manifest_digest_field",
        "Pulling manifests",
        "Docker-Content-Digest is there and right",
    ),
    must(
        "unknown_manifest",
        "Pulling manifests",
        "an unknown manifest answers 404",
    ),
    must(
        "manifest_head",
        "Checking if content exists in the registry",
        "HEAD answers 200 with the length and no body",
    ),
    must(
        "unknown_manifest_head",
        "Checking if content exists in the registry",
        "HEAD of an unknown manifest answers 404",
    ),
    must(
        "blob",
        "Pulling blobs",
        "GET answers 200 with the bytes of the digest, redirects allowed",
    ),
    must(
        "unknown_blob",
        "Pulling blobs",
        "an unknown blob answers 404",
    ),
    must(
        "blob_head",
        "Checking if content exists in the registry",
        "HEAD answers 200 with the length and no body",
    ),
    should(
        "blob_range",
        "Pulling blobs",
        "a Range request answers 206 with the part and its place",
    ),
    should(
        "blob_range_beyond",
        "Pulling blobs",
        "a range beyond the end answers 416",
    ),
    must(
        "tags",
        "Listing Tags",
        "the list of tags answers 200 with name and tags in lexical order",
    ),
    must(
        "tags_limited",
        "Listing Tags",
        "n limits the list, 0 included, and Link leads to the rest",
    ),
    must(
        "tags_after",
        "Listing Tags",
        "last starts the list after that tag, whether it exists or not",
    ),
    must(
        "referrers_always",
        "Listing Referrers",
        "the referrers of anything answer 200 with an image index",
    ),
    must(
        "referrers_listed",
        "Listing Referrers",
        "what names a subject is listed with type, size, artifactType and annotations",
    ),
    should(
        "referrers_filtered",
        "Listing Referrers",
        "artifactType filters, and OCI-Filters-Applied says so",
    ),
    must(
        "errors",
        "Error Codes",
        "a 4xx answer is a JSON object of errors with codes of the specification",
    ),
    must(
        "read_only",
        "Endpoints",
        "what is not supported answers 405 or another 4xx",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = REQUIREMENTS
            .iter()
            .map(|requirement| requirement.name)
            .collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), REQUIREMENTS.len());
    }
}
