//! The requirements themselves: pulling, content discovery and errors of version 1.1, sentence by
//! sentence, in our words.

use crate::{Level, Requirement};

const fn must(name: &'static str, section: &'static str, text: &'static str) -> Requirement {
    Requirement {
        name,
        section,
        level: Level::Must,
        text,
        deviation: None,
    }
}

const fn should(name: &'static str, section: &'static str, text: &'static str) -> Requirement {
    Requirement {
        name,
        section,
        level: Level::Should,
        text,
        deviation: None,
    }
}

impl Requirement {
    /// With what we do instead, which the check shows.
    const fn but(self, deviation: &'static str) -> Self {
        Self {
            deviation: Some(deviation),
            ..self
        }
    }
}

/// What is asked of a registry that is read, each with a check of the same name.
pub const REQUIREMENTS: [Requirement; 51] = [
    must(
        "pull_category",
        "Requirements",
        "every API of the category Pull is there",
    ),
    should(
        "other_categories",
        "Requirements",
        "Push, Content Discovery and Content Management are supported too",
    )
    .but("deviates: a mirror network is read-only, so of these only Content Discovery is"),
    must(
        "discovery_category",
        "Requirements",
        "a category that is claimed has all of its APIs: Content Discovery",
    ),
    must(
        "version_check",
        "Determining support",
        "`GET /v2/` answers 200",
    ),
    must(
        "name_grammar",
        "Pulling manifests",
        "a name has the form that is given for names",
    ),
    must(
        "reference_forms",
        "Pulling manifests",
        "a reference is a digest or a tag and nothing else",
    ),
    must(
        "tag_grammar",
        "Pulling manifests",
        "a tag has at most 128 characters, of those that are given",
    ),
    should(
        "manifest_type_bare",
        "Pulling manifests",
        "`Content-Type` has no parameters",
    ),
    should(
        "manifest_type",
        "Pulling manifests",
        "`Content-Type` is the one the manifest was pushed with",
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
    should(
        "manifest_digest_field",
        "Pulling manifests",
        "`Docker-Content-Digest` has the digest",
    ),
    must(
        "unknown_manifest",
        "Pulling manifests",
        "a manifest that the repository has not answers 404",
    ),
    must("blob", "Pulling blobs", "GET answers 200 with the blob"),
    should(
        "blob_digest_field",
        "Pulling blobs",
        "`Docker-Content-Digest` is there",
    ),
    must(
        "blob_digest_matches",
        "Pulling blobs",
        "`Docker-Content-Digest`, if there, is a digest of the body",
    ),
    must(
        "unknown_blob",
        "Pulling blobs",
        "a blob that the repository has not answers 404",
    ),
    should(
        "blob_range",
        "Pulling blobs",
        "`Range` is supported: 206, the part, and where it belongs",
    ),
    should(
        "blob_range_beyond",
        "Pulling blobs",
        "a range beyond the end answers 416 with the length",
    ),
    must(
        "manifest_head",
        "Checking if content exists",
        "HEAD of a manifest answers 200",
    ),
    must(
        "blob_head",
        "Checking if content exists",
        "HEAD of a blob answers 200",
    ),
    should(
        "head_digest_field",
        "Checking if content exists",
        "`Docker-Content-Digest` has the digest",
    ),
    should(
        "head_length",
        "Checking if content exists",
        "`Content-Length` has the size",
    ),
    must(
        "unknown_head",
        "Checking if content exists",
        "HEAD of what the repository has not answers 404",
    ),
    must(
        "tags",
        "Listing tags",
        "the tags of a repository answer 200, none included",
    ),
    must(
        "tags_body",
        "Listing tags",
        "the body is a JSON object of `name` and `tags`",
    ),
    must(
        "tags_in_order",
        "Listing tags",
        "tags are in lexical order, upper and lower case alike",
    )
    .but("deviates: in the order of their bytes, upper case first, as the official suite has them"),
    must(
        "tags_limited",
        "Listing tags",
        "`n` gives so many, fewer only at the end or with a `Link`",
    ),
    must(
        "tags_link",
        "Listing tags",
        "a `Link` is as RFC 5988 has it, with the relation `next`",
    ),
    must(
        "tags_none",
        "Listing tags",
        "`n=0` gives an empty list and no `Link`",
    ),
    must(
        "tags_after",
        "Listing tags",
        "`last` begins after that tag, with and without `n`, in order",
    ),
    must(
        "referrers",
        "Listing referrers",
        "the referrers of a manifest answer 200",
    ),
    must(
        "referrers_always",
        "Listing referrers",
        "they never answer 404",
    ),
    must(
        "referrers_invalid",
        "Listing referrers",
        "what is no digest answers 400",
    ),
    must(
        "referrers_index",
        "Listing referrers",
        "the body is an image index of descriptors",
    ),
    must(
        "referrers_type",
        "Listing referrers",
        "`Content-Type` is that of an image index",
    ),
    must(
        "referrers_own_type",
        "Listing referrers",
        "a descriptor has the `artifactType` of the manifest or index",
    ),
    must(
        "referrers_config_type",
        "Listing referrers",
        "without it, that of a manifest is the media type of its config",
    ),
    must(
        "referrers_no_type",
        "Listing referrers",
        "without it, that of an index is left out",
    ),
    must(
        "referrers_annotations",
        "Listing referrers",
        "a descriptor has the annotations of the manifest or index",
    ),
    must(
        "referrers_none",
        "Listing referrers",
        "without any, the list is empty",
    ),
    must(
        "referrers_whole",
        "Listing referrers",
        "what does not fit one answer goes on with a `Link`: here all fits one",
    ),
    should(
        "referrers_filtered",
        "Listing referrers",
        "`artifactType` filters",
    ),
    must(
        "referrers_filter_named",
        "Listing referrers",
        "a filter that was applied is named by `OCI-Filters-Applied`",
    ),
    must(
        "referrers_listed_by_tag",
        "Enabling the referrers API",
        "what only an index under the tag of the older scheme lists is among the referrers",
    ),
    must(
        "deletion_refused",
        "Content management",
        "where deletion is disabled, DELETE answers 400 or 405",
    ),
    must(
        "errors_body",
        "Error codes",
        "a JSON body of a 4xx is an object of `errors`",
    ),
    must(
        "errors_code_form",
        "Error codes",
        "a code is of upper case letters and underscores",
    ),
    should(
        "errors_message",
        "Error codes",
        "a message can be read by people",
    ),
    must(
        "errors_codes",
        "Error codes",
        "a code is one of those that are listed",
    ),
    must(
        "warnings",
        "Warnings",
        "`Warning`, if there, is of the form that is given: there is none",
    ),
];
