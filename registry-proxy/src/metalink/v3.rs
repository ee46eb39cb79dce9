//! Metalink 3 in the dialect of MirrorManager, for tools that know only that.
//!
//! Here a higher preference is better, countries are upper case and hash names have no hyphen.
//! `mm0:private` marks mirrors that are not for everyone, and `maxconnections="1"` asks for one
//! connection per mirror.

use oci_mirror::digest::Hex;

use super::xml::{escape, number};
use super::{Document, GENERATOR};

/// The document as XML.
pub fn render(document: &Document<'_>) -> Vec<u8> {
    let mut xml = Vec::with_capacity(document.estimate());
    let out = &mut xml;
    out.extend_from_slice(
        b"<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
          <metalink version=\"3.0\" xmlns=\"http://www.metalinker.org/\" type=\"dynamic\" pubdate=\"",
    );
    let date = document.published.strftime("%a, %d %b %Y %H:%M:%S GMT");
    out.extend_from_slice(date.to_string().as_bytes());
    out.extend_from_slice(b"\" generator=\"");
    out.extend_from_slice(GENERATOR.as_bytes());
    out.extend_from_slice(b"\" origin=\"");
    escape(out, &document.origin);
    out.extend_from_slice(
        b"\" xmlns:mm0=\"http://fedorahosted.org/mirrormanager\">\n <files>\n  <file name=\"",
    );
    escape(out, &document.name);
    out.extend_from_slice(b"\">\n   <mm0:timestamp>");
    out.extend_from_slice(document.published.as_second().to_string().as_bytes());
    out.extend_from_slice(b"</mm0:timestamp>\n   <size>");
    number(out, document.size);
    out.extend_from_slice(b"</size>\n   <verification>\n    <hash type=\"");
    out.extend_from_slice(document.digest.algorithm().name().as_bytes());
    out.extend_from_slice(b"\">");
    document.digest.hex().append_to(out);
    out.extend_from_slice(b"</hash>\n");
    if let Some(pieces) = document.pieces {
        out.extend_from_slice(b"    <pieces length=\"");
        number(out, pieces.length());
        out.extend_from_slice(b"\" type=\"sha256\">\n");
        for (position, hash) in (0..).zip(pieces.hashes()) {
            out.extend_from_slice(b"     <hash piece=\"");
            number(out, position);
            out.extend_from_slice(b"\">");
            Hex(hash).append_to(out);
            out.extend_from_slice(b"</hash>\n");
        }
        out.extend_from_slice(b"    </pieces>\n");
    }
    out.extend_from_slice(b"   </verification>\n   <resources maxconnections=\"1\">\n");
    for (position, resource) in (0_u64..).zip(&document.resources) {
        let scheme = resource.base.split(':').next().unwrap_or_default();
        out.extend_from_slice(b"    <url protocol=\"");
        escape(out, scheme);
        out.extend_from_slice(b"\" type=\"");
        escape(out, scheme);
        if let Some(country) = resource.country {
            out.extend_from_slice(b"\" location=\"");
            out.extend_from_slice(country.as_str().as_bytes());
        }
        out.extend_from_slice(b"\" preference=\"");
        number(out, 100_u64.saturating_sub(position).max(1));
        if resource.private {
            out.extend_from_slice(b"\" mm0:private=\"True");
        }
        out.extend_from_slice(b"\">");
        escape(out, resource.base);
        escape(out, document.path);
        out.extend_from_slice(b"</url>\n");
    }
    out.extend_from_slice(b"   </resources>\n  </file>\n </files>\n</metalink>\n");
    xml
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metalink::tests::document;

    #[test]
    fn the_document_is_as_mirrormanager_writes_it() {
        let xml = String::from_utf8(render(&document())).unwrap();
        insta::assert_snapshot!(xml);
    }
}
