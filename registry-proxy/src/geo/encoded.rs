//! Geographic databases in the MaxMind format, written for tests.

/// Encodes the parts of the MaxMind format that a test needs.
pub(super) enum Value<'a> {
    Text(&'a str),
    Double(f64),
    Short(u16),
    Number(u32),
    Long(u64),
    Map(Vec<(&'a str, Value<'a>)>),
    EmptyList,
}

impl Value<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                out.push(2 << 5 | u8::try_from(text.len()).unwrap());
                out.extend(text.as_bytes());
            }
            Self::Double(value) => {
                out.push(3 << 5 | 8);
                out.extend(value.to_be_bytes());
            }
            Self::Short(value) => {
                out.push(5 << 5 | 2);
                out.extend(value.to_be_bytes());
            }
            Self::Long(value) => {
                // An extended type: its number less 7 stands in a second byte.
                out.extend([8, 9 - 7]);
                out.extend(value.to_be_bytes());
            }
            Self::Number(value) => {
                out.push(6 << 5 | 4);
                out.extend(value.to_be_bytes());
            }
            Self::EmptyList => out.extend([0, 11 - 7]),
            Self::Map(entries) => {
                out.push(7 << 5 | u8::try_from(entries.len()).unwrap());
                for (key, value) in entries {
                    Value::Text(key).encode(out);
                    value.encode(out);
                }
            }
        }
    }
}

/// A database that says the same of every address.
pub(super) fn database(record: &Value<'_>) -> Vec<u8> {
    // One node; both branches lead to the start of the data, which is node count + 16.
    let mut bytes = vec![0, 0, 17, 0, 0, 17];
    bytes.extend([0; 16]);
    record.encode(&mut bytes);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    Value::Map(vec![
        ("node_count", Value::Number(1)),
        ("record_size", Value::Short(24)),
        ("ip_version", Value::Short(6)),
        ("description", Value::Map(Vec::new())),
        ("languages", Value::EmptyList),
        ("database_type", Value::Text("Test")),
        ("binary_format_major_version", Value::Short(2)),
        ("binary_format_minor_version", Value::Short(0)),
        ("build_epoch", Value::Long(1)),
    ])
    .encode(&mut bytes);
    bytes
}
