//! Metalink 3 in the dialect of MirrorManager, for tools that know only that.
//!
//! Here a higher preference is better, countries are upper case and hash names have no hyphen.
//! `mm0:private` marks mirrors that are not for everyone, and `maxconnections="1"` asks for one
//! connection per mirror.

use std::io;

use oci_mirror::digest::Hex;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::{Document, GENERATOR, text};

/// The document as XML.
pub fn render(document: &Document<'_>) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new_with_indent(Vec::with_capacity(2048), b' ', 1);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("utf-8"), None)))?;
    let date = document
        .published
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    let root = writer.create_element("metalink").with_attributes([
        ("version", "3.0"),
        ("xmlns", "http://www.metalinker.org/"),
        ("type", "dynamic"),
        ("pubdate", date.as_str()),
        ("generator", GENERATOR),
        ("origin", document.origin.as_str()),
        ("xmlns:mm0", "http://fedorahosted.org/mirrormanager"),
    ]);
    root.write_inner_content(|writer| {
        writer
            .create_element("files")
            .write_inner_content(|writer| {
                let file = writer
                    .create_element("file")
                    .with_attribute(("name", &*document.name));
                file.write_inner_content(|writer| file_content(writer, document))
                    .map(drop)
            })?;
        Ok(())
    })?;
    let mut bytes = writer.into_inner();
    bytes.push(b'\n');
    Ok(bytes)
}

fn file_content(writer: &mut Writer<Vec<u8>>, document: &Document<'_>) -> io::Result<()> {
    text(
        writer,
        "mm0:timestamp",
        &document.published.as_second().to_string(),
    )?;
    text(writer, "size", &document.size.to_string())?;
    writer
        .create_element("verification")
        .write_inner_content(|writer| {
            let hash = writer
                .create_element("hash")
                .with_attribute(("type", document.digest.algorithm().name()));
            hash.write_text_content(BytesText::new(&document.digest.hex().to_string()))?;
            let Some(pieces) = &document.pieces else {
                return Ok(());
            };
            let length = pieces.length().to_string();
            let element = writer.create_element("pieces");
            let element =
                element.with_attributes([("length", length.as_str()), ("type", "sha256")]);
            element.write_inner_content(|writer| {
                for (number, hash) in pieces.hashes().iter().enumerate() {
                    let element = writer
                        .create_element("hash")
                        .with_attribute(("piece", number.to_string().as_str()));
                    element.write_text_content(BytesText::new(&Hex(hash).to_string()))?;
                }
                Ok(())
            })?;
            Ok(())
        })?;
    let resources = writer
        .create_element("resources")
        .with_attribute(("maxconnections", "1"));
    resources.write_inner_content(|writer| {
        for (position, resource) in document.resources.iter().enumerate() {
            let scheme = resource.url.split(':').next().unwrap_or_default();
            let preference = 100_usize.saturating_sub(position).max(1).to_string();
            let mut url = writer
                .create_element("url")
                .with_attributes([("protocol", scheme), ("type", scheme)]);
            if let Some(country) = resource.country {
                url = url.with_attribute(("location", country.to_string().as_str()));
            }
            url = url.with_attribute(("preference", preference.as_str()));
            if resource.private {
                url = url.with_attribute(("mm0:private", "True"));
            }
            url.write_text_content(BytesText::new(&resource.url))?;
        }
        Ok(())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metalink::tests::document;

    #[test]
    fn the_document_is_as_mirrormanager_writes_it() {
        let xml = String::from_utf8(render(&document()).unwrap()).unwrap();
        insta::assert_snapshot!(xml);
    }
}
