//! Metalink 4, [RFC 5854](https://www.rfc-editor.org/rfc/rfc5854).
//!
//! Written for the clients there are: the default namespace without a prefix (wget2 matches literal
//! names), no foreign element below the root (aria2 up to 1.36 gives up on one), no white space around
//! values (aria2 takes it for part of a URL), `size` always, at most one `pieces`, always sha-256, and
//! countries in lower case (aria2 compares them as written).

use std::io;

use oci_mirror::digest::{Algorithm, Hex};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::{Document, GENERATOR, text};

/// The document as XML.
pub fn render(document: &Document<'_>) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new_with_indent(Vec::with_capacity(2048), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let root = writer
        .create_element("metalink")
        .with_attribute(("xmlns", "urn:ietf:params:xml:ns:metalink"));
    root.write_inner_content(|writer| {
        text(writer, "generator", GENERATOR)?;
        let origin = writer
            .create_element("origin")
            .with_attribute(("dynamic", "true"));
        origin.write_text_content(BytesText::new(&document.origin))?;
        text(
            writer,
            "published",
            &document
                .published
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string(),
        )?;
        let file = writer
            .create_element("file")
            .with_attribute(("name", &*document.name));
        file.write_inner_content(|writer| file_content(writer, document))?;
        Ok(())
    })?;
    let mut bytes = writer.into_inner();
    bytes.push(b'\n');
    Ok(bytes)
}

fn file_content(writer: &mut Writer<Vec<u8>>, document: &Document<'_>) -> io::Result<()> {
    text(writer, "size", &document.size.to_string())?;
    let algorithm = match document.digest.algorithm() {
        Algorithm::Sha256 => "sha-256",
        Algorithm::Sha512 => "sha-512",
    };
    let hash = writer
        .create_element("hash")
        .with_attribute(("type", algorithm));
    hash.write_text_content(BytesText::new(&document.digest.hex().to_string()))?;
    if let Some(pieces) = &document.pieces {
        let length = pieces.length().to_string();
        let element = writer.create_element("pieces");
        let element = element.with_attributes([("length", length.as_str()), ("type", "sha-256")]);
        element.write_inner_content(|writer| {
            pieces
                .hashes()
                .iter()
                .try_for_each(|hash| text(writer, "hash", &Hex(hash).to_string()))
        })?;
    }
    for (position, resource) in document.resources.iter().enumerate() {
        let priority = (position + 1).to_string();
        let mut url = writer.create_element("url");
        if let Some(country) = resource.country {
            url = url.with_attribute((
                "location",
                country.to_string().to_ascii_lowercase().as_str(),
            ));
        }
        let url = url.with_attribute(("priority", priority.as_str()));
        url.write_text_content(BytesText::new(&resource.url))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metalink::tests::{document, with_hostile_url};

    #[test]
    fn the_document_is_as_clients_want_it() {
        let xml = String::from_utf8(render(&document()).unwrap()).unwrap();
        insta::assert_snapshot!(xml);
    }

    #[test]
    fn urls_are_escaped() {
        let xml = String::from_utf8(render(&with_hostile_url()).unwrap()).unwrap();
        assert!(
            xml.contains("http://m.example/?a=1&amp;b=&lt;x&gt;</url>"),
            "{xml}"
        );
    }
}
