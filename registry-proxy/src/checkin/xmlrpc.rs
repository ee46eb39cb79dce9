//! The envelope of MirrorManager's check-ins: a call of XML-RPC with one text, and its answers.
//!
//! Of the format only what a check-in needs is understood. There are no entities to be expanded, no document types, no
//! structures to be nested: whatever else comes is refused with a fault.
//!
//! <https://xmlrpc.com/spec.md>

use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::Event;

/// The one method there is.
pub const METHOD: &str = "checkin";

/// How deep elements are nested in a call: `methodCall`, `params`, `param`, `value`, `string`.
const DEPTH: usize = 5;

/// Of what type the argument is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A text.
    Text,
    /// Bytes, written in base64.
    Bytes,
}

/// The argument of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Of what type.
    pub kind: Type,
    /// As it is written.
    pub text: String,
}

/// Reads a call of `checkin`.
///
/// ```
/// use registry_proxy::checkin::xmlrpc::argument;
/// let call = "<?xml version='1.0'?><methodCall><methodName>checkin</methodName>\
///             <params><param><value><string>QlpoOQ==</string></value></param></params></methodCall>";
/// assert_eq!(argument(call.as_bytes()).unwrap().text, "QlpoOQ==");
/// ```
pub fn argument(body: &[u8]) -> Result<Argument, NoCall> {
    let text = std::str::from_utf8(body).map_err(|_| NoCall::Encoding)?;
    let mut reader = Reader::from_str(text);
    let mut call = Call::default();
    loop {
        match reader.read_event()? {
            Event::Start(start) => {
                let name: &str = start.name().into_inner();
                call.open(name)?;
            }
            Event::Empty(start) => {
                let name: &str = start.name().into_inner();
                call.open(name)?;
                call.close();
            }
            Event::End(_) => call.close(),
            Event::Text(text) => call.text(&text)?,
            Event::CData(text) => call.text(&text)?,
            // Nothing of a check-in has to be escaped.
            Event::GeneralRef(_) | Event::DocType(_) | Event::PI(_) => {
                return Err(NoCall::Unwanted);
            }
            Event::Comment(_) | Event::Decl(_) => {}
            Event::Eof => return call.finish(),
        }
    }
}

/// What was read of a call so far.
#[derive(Default)]
struct Call {
    open: Vec<Element>,
    method: String,
    /// What is written in the value itself: white space, unless it has no type.
    bare: String,
    typed: Option<Argument>,
    values: usize,
}

/// The elements of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    Call,
    Name,
    Params,
    Param,
    Value,
    Typed,
}

impl Call {
    fn open(&mut self, name: &str) -> Result<(), NoCall> {
        let element = match (self.open.last(), name) {
            (None, "methodCall") => Element::Call,
            (Some(Element::Call), "methodName") => Element::Name,
            (Some(Element::Call), "params") => Element::Params,
            (Some(Element::Params), "param") => Element::Param,
            (Some(Element::Param), "value") => {
                self.values += 1;
                Element::Value
            }
            (Some(Element::Value), "string" | "base64") if self.typed.is_none() => {
                let kind = if name == "string" {
                    Type::Text
                } else {
                    Type::Bytes
                };
                let text = String::new();
                self.typed = Some(Argument { kind, text });
                Element::Typed
            }
            _ => return Err(NoCall::Unwanted),
        };
        debug_assert!(self.open.len() < DEPTH);
        self.open.push(element);
        Ok(())
    }

    fn close(&mut self) {
        // That each end fits its start is seen to by the reader.
        self.open.pop();
    }

    fn text(&mut self, text: &str) -> Result<(), NoCall> {
        match self.open.last() {
            Some(Element::Name) => self.method.push_str(text),
            Some(Element::Value) => self.bare.push_str(text),
            Some(Element::Typed) => {
                if let Some(argument) = &mut self.typed {
                    argument.text.push_str(text);
                }
            }
            _ if text.trim().is_empty() => {}
            _ => return Err(NoCall::Unwanted),
        }
        Ok(())
    }

    fn finish(self) -> Result<Argument, NoCall> {
        if !self.open.is_empty() {
            return Err(NoCall::Unwanted);
        }
        if self.method.trim() != METHOD {
            return Err(NoCall::Method);
        }
        if self.values != 1 {
            return Err(NoCall::Arguments);
        }
        Ok(self.typed.unwrap_or(Argument {
            kind: Type::Text,
            text: self.bare,
        }))
    }
}

/// The answer to a call that was understood.
pub fn answer(text: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<methodResponse><params><param><value><string>{}</string></value>\
         </param></params></methodResponse>\n",
        written(text)
    )
}

/// The answer to one that was not.
pub fn fault(text: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<methodResponse><fault><value><struct><member><name>faultCode</name>\
         <value><int>1</int></value></member><member><name>faultString</name><value><string>{}</string></value></member>\
         </struct></value></fault></methodResponse>\n",
        written(text)
    )
}

/// A text as it can stand in XML, which has no way to write most control characters.
fn written(text: &str) -> String {
    let text = text.replace(|c: char| c.is_control() && c != '\n', " ");
    escape(text).into_owned()
}

/// Why there is no call of ours.
#[derive(Debug, thiserror::Error)]
pub enum NoCall {
    /// It is not UTF-8.
    #[error("the call is not UTF-8")]
    Encoding,
    /// It is not XML.
    #[error("the call is not well-formed: {0}")]
    Xml(#[from] quick_xml::Error),
    /// There is something in it that no check-in needs.
    #[error("the call holds more than one method and one text")]
    Unwanted,
    /// Another method.
    #[error("there is no method but `{METHOD}`")]
    Method,
    /// None or several.
    #[error("`{METHOD}` takes one text")]
    Arguments,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(value: &str) -> String {
        format!(
            "<?xml version='1.0'?>\n<methodCall>\n<methodName>checkin</methodName>\n<params>\n<param>\n{value}\n\
             </param>\n</params>\n</methodCall>\n"
        )
    }

    #[test]
    fn an_argument_is_read_however_it_is_written() {
        for (value, kind, text) in [
            (
                "<value><string>QlpoOQ</string></value>",
                Type::Text,
                "QlpoOQ",
            ),
            ("<value>QlpoOQ</value>", Type::Text, "QlpoOQ"),
            (
                "<value> <base64>Ql\nho</base64>\n</value>",
                Type::Bytes,
                "Ql\nho",
            ),
            (
                "<value><string><![CDATA[Ql]]></string></value>",
                Type::Text,
                "Ql",
            ),
            ("<value><!-- x --><string/></value>", Type::Text, ""),
            ("<value/>", Type::Text, ""),
        ] {
            let text = text.to_owned();
            let found = argument(call(value).as_bytes()).unwrap();
            assert_eq!(found, Argument { kind, text }, "{value}");
        }
    }

    #[test]
    fn what_no_check_in_needs_is_refused() {
        for value in [
            "",
            "<value>a</value><value>b</value>",
            "<value><string>a</string><string>b</string></value>",
            "<value><int>1</int></value>",
            "<value><struct/></value>",
            "<value><string><string>a</string></string></value>",
            "<value>&amp;</value>",
            "<value>&x;</value>",
            "<value><string>a</value></string>",
            "<value>a</value>b",
        ] {
            assert!(argument(call(value).as_bytes()).is_err(), "{value}");
        }
        let good = call("<value>a</value>");
        let document = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">]>";
        for text in [
            String::new(),
            "<methodCall>".repeat(100_000),
            good.replace("checkin", "system.listMethods"),
            good.replace("<methodCall>", &format!("{document}<methodCall>")),
            good.replace("</methodCall>", ""),
            format!("{good}<methodCall/>").replace("checkin", "x"),
        ] {
            assert!(argument(text.as_bytes()).is_err(), "{text:.100}");
        }
        assert!(matches!(argument(b"\xff"), Err(NoCall::Encoding)));
    }

    #[test]
    fn an_answer_holds_any_text() {
        let text = "a < b & \"c\" ]]>\0\u{1b}";
        for answer in [answer(text), fault(text)] {
            assert!(answer.contains("a &lt; b &amp; "), "{answer}");
            assert!(!answer.contains(['\0', '\u{1b}']), "{answer}");
            let mut reader = Reader::from_str(&answer);
            while reader.read_event().unwrap() != Event::Eof {}
        }
    }
}
