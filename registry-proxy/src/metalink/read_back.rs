//! What a parser makes of the documents: exactly what was written, whatever the values hold.

use jiff::Timestamp;
use oci_mirror::digest::{Algorithm, Digest, Hex};
use oci_mirror::tree::pieces::{Pieces, count_for};
use proptest::prelude::*;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};

use super::{Document, Resource, file_name, v3, v4};
use crate::geo::CountryCode;

/// An element that holds text, or nothing: its name, its attributes, its text.
type Leaf = (String, Vec<(String, String)>, String);

/// All leaves of a document, in order; panics if it is not well-formed.
fn leaves(xml: &[u8]) -> Vec<Leaf> {
    let mut reader = quick_xml::Reader::from_str(std::str::from_utf8(xml).unwrap());
    reader.config_mut().check_end_names = true;
    let mut found: Vec<Leaf> = Vec::new();
    let mut open: Vec<Leaf> = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => open.push(leaf(&start)),
            Event::Text(text) => {
                if let Some((_, _, content)) = open.last_mut() {
                    content.push_str(&text);
                }
            }
            Event::GeneralRef(name) => {
                let reference = format!("&{};", &*name);
                let text = unescape(&reference).unwrap().into_owned();
                open.last_mut().unwrap().2.push_str(&text);
            }
            Event::End(_) => found.push(open.pop().unwrap()),
            Event::Decl(_) => assert!(open.is_empty() && found.is_empty()),
            Event::Eof => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(open.is_empty());
    // The white space between elements is that of their parents.
    found.retain(|(_, _, text)| !text.contains('\n'));
    found
}

fn leaf(start: &BytesStart<'_>) -> Leaf {
    let attributes = start.attributes().map(|attribute| {
        let attribute = attribute.unwrap();
        let name: &str = attribute.key.as_ref();
        (
            name.to_owned(),
            unescape(&attribute.value).unwrap().into_owned(),
        )
    });
    let attributes = attributes.collect();
    let name = start.name();
    let name: &str = name.as_ref();
    (name.to_owned(), attributes, String::new())
}

fn element(name: &str, attributes: &[(&str, &str)], text: &str) -> Leaf {
    let attributes = attributes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    (name.to_owned(), attributes.collect(), text.to_owned())
}

fn expected_v4(document: &Document<'_>) -> Vec<Leaf> {
    let algorithm = match document.digest.algorithm() {
        Algorithm::Sha256 => "sha-256",
        Algorithm::Sha512 => "sha-512",
    };
    let published = document
        .published
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let mut leaves = vec![
        element("generator", &[], super::GENERATOR),
        element("origin", &[("dynamic", "true")], &document.origin),
        element("published", &[], &published),
        element("size", &[], &document.size.to_string()),
        element(
            "hash",
            &[("type", algorithm)],
            &document.digest.hex().to_string(),
        ),
    ];
    for hash in document.pieces.iter().flat_map(|pieces| pieces.hashes()) {
        leaves.push(element("hash", &[], &Hex(hash).to_string()));
    }
    for (priority, resource) in (1_u32..).zip(&document.resources) {
        let country = resource.country.map(|it| it.to_string().to_lowercase());
        let priority = priority.to_string();
        let mut attributes: Vec<(&str, &str)> = Vec::new();
        attributes.extend(country.as_deref().map(|country| ("location", country)));
        attributes.push(("priority", &priority));
        leaves.push(element("url", &attributes, &url(resource, document)));
    }
    leaves
}

fn expected_v3(document: &Document<'_>) -> Vec<Leaf> {
    let published = document.published.as_second().to_string();
    let mut leaves = vec![
        element("mm0:timestamp", &[], &published),
        element("size", &[], &document.size.to_string()),
        element(
            "hash",
            &[("type", document.digest.algorithm().name())],
            &document.digest.hex().to_string(),
        ),
    ];
    let hashes = document.pieces.iter().flat_map(|pieces| pieces.hashes());
    for (number, hash) in hashes.enumerate() {
        let number = number.to_string();
        leaves.push(element(
            "hash",
            &[("piece", &number)],
            &Hex(hash).to_string(),
        ));
    }
    for (position, resource) in (0_u32..).zip(&document.resources) {
        let scheme = resource.base.split(':').next().unwrap();
        let country = resource.country.map(|it| it.to_string());
        let preference = (100 - position).to_string();
        let mut attributes = vec![("protocol", scheme), ("type", scheme)];
        attributes.extend(country.as_deref().map(|country| ("location", country)));
        attributes.push(("preference", &preference));
        if resource.private {
            attributes.push(("mm0:private", "True"));
        }
        leaves.push(element("url", &attributes, &url(resource, document)));
    }
    leaves
}

fn url(resource: &Resource<'_>, document: &Document<'_>) -> String {
    [resource.base, document.path].concat()
}

prop_compose! {
    fn any_place()(
        // As nasty as a text can be that XML can hold and that has no line break to be taken for layout.
        base in "[ -~é€😀]{1,60}",
        country in prop::option::of("[A-Z]{2}"),
        private: bool,
    ) -> (String, Option<CountryCode>, bool) {
        (base, country.and_then(|country| country.parse().ok()), private)
    }
}

proptest! {
    #[test]
    fn documents_say_what_they_were_made_of(
        bytes: [u8; 32],
        long: bool,
        origin in "[ -~é€😀]{0,60}",
        name in prop::option::of("[ -~é]{1,30}"),
        size in 0_u64..200 << 20,
        with_pieces: bool,
        second in 0_i64..4_000_000_000,
        path in "[ -~é]{1,60}",
        places in prop::collection::vec(any_place(), 0..12),
    ) {
        let digest = if long { Algorithm::Sha512.digest(&bytes) } else { Digest::Sha256(bytes) };
        let hashes = vec![bytes[0]; 32 * usize::try_from(count_for(size)).unwrap()];
        let pieces = Pieces::from_bytes(&hashes, size).filter(|_| with_pieces);
        let document = Document {
            origin,
            published: Timestamp::from_second(second).unwrap(),
            size,
            digest: &digest,
            name: name.unwrap_or_else(|| file_name(&digest)).into(),
            pieces: pieces.as_ref(),
            path: &path,
            resources: places
                .iter()
                .map(|(base, country, private)| Resource { base, country: *country, private: *private })
                .collect(),
        };
        prop_assert_eq!(leaves(&v4::render(&document)), expected_v4(&document));
        let text = v3::render(&document);
        prop_assert_eq!(leaves(&text), expected_v3(&document));
    }
}
