//! Metalink 4, [RFC 5854](https://www.rfc-editor.org/rfc/rfc5854).
//!
//! Written for the clients there are: the default namespace without a prefix (wget2 matches literal
//! names), no foreign element below the root (aria2 up to 1.36 gives up on one), no white space around
//! values (aria2 takes it for part of a URL), `size` always, at most one `pieces`, always sha-256, and
//! countries in lower case (aria2 compares them as written).

use oci_mirror::digest::{Algorithm, Hex};

use super::xml::{escape, number};
use super::{Document, GENERATOR};

/// The document as XML.
pub fn render(document: &Document<'_>) -> Vec<u8> {
    let mut xml = Vec::with_capacity(document.estimate());
    let out = &mut xml;
    out.extend_from_slice(
        b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
          <metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\n  <generator>",
    );
    out.extend_from_slice(GENERATOR.as_bytes());
    out.extend_from_slice(b"</generator>\n  <origin dynamic=\"true\">");
    escape(out, &document.origin);
    out.extend_from_slice(b"</origin>\n  <published>");
    // RFC 3339, without a fraction.
    out.extend_from_slice(format!("{:.0}", document.published).as_bytes());
    out.extend_from_slice(b"</published>\n  <file name=\"");
    escape(out, &document.name);
    out.extend_from_slice(b"\">\n    <size>");
    number(out, document.size);
    out.extend_from_slice(match document.digest.algorithm() {
        Algorithm::Sha256 => b"</size>\n    <hash type=\"sha-256\">",
        Algorithm::Sha512 => b"</size>\n    <hash type=\"sha-512\">",
    });
    document.digest.hex().append_to(out);
    out.extend_from_slice(b"</hash>\n");
    if let Some(pieces) = document.pieces {
        out.extend_from_slice(b"    <pieces length=\"");
        number(out, pieces.length());
        out.extend_from_slice(b"\" type=\"sha-256\">\n");
        for hash in pieces.hashes() {
            out.extend_from_slice(b"      <hash>");
            Hex(hash).append_to(out);
            out.extend_from_slice(b"</hash>\n");
        }
        out.extend_from_slice(b"    </pieces>\n");
    }
    for (priority, resource) in (1..).zip(&document.resources) {
        out.extend_from_slice(b"    <url");
        if let Some(country) = resource.country {
            out.extend_from_slice(b" location=\"");
            out.extend_from_slice(&country.to_lower());
            out.push(b'"');
        }
        out.extend_from_slice(b" priority=\"");
        number(out, priority);
        out.extend_from_slice(b"\">");
        escape(out, resource.base);
        escape(out, document.path);
        out.extend_from_slice(b"</url>\n");
    }
    out.extend_from_slice(b"  </file>\n</metalink>\n");
    xml
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metalink::tests::{document, with_hostile_url};

    #[test]
    fn the_document_is_as_clients_want_it() {
        let xml = String::from_utf8(render(&document())).unwrap();
        insta::assert_snapshot!(xml);
    }

    #[test]
    fn urls_are_escaped() {
        let xml = String::from_utf8(render(&with_hostile_url())).unwrap();
        assert!(
            xml.contains("http://m.example/?a=1&amp;b=&lt;x&gt;x</url>"),
            "{xml}"
        );
    }
}
