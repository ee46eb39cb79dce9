//! What MirrorManager's `report_mirror` sends: JSON in bzip2 in base64.
//!
//! It names its site with a password, its host, and for each category all directories it has. Of these the ones of
//! repositories matter. There is no serial in it, so that it does not say how new anything is.
//!
//! The text comes from anybody, since the password is in it. So it is read as it is unpacked, at most so much of it, and
//! only what matters is kept. What is not JSON is refused; that the server of old took Python's pickles for such a case,
//! with all that they can be made to run, is a reason to say it here.

mod packed;
mod sections;

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};

use bzip2::read::BzDecoder;
use oci_mirror::reference::RepoName;

use super::xmlrpc::Argument;
use packed::Bounded;
use sections::Sections;

/// Largest text a check-in unpacks to.
pub const MAX_BYTES: u64 = 64 << 20;

/// Most categories named; Fedora has a dozen. Each may name the largest repositories once more.
pub const MAX_CATEGORIES: usize = 64;

/// Most repositories named in all categories together.
pub const MAX_REPOSITORIES: usize = 100_000;

/// What a mirror says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckIn {
    /// Which site it is of.
    pub site: String,
    /// By what it is known: the token of the host.
    pub password: String,
    /// Which host it is.
    pub host: String,
    /// The categories that are enabled.
    pub categories: Vec<Category>,
}

/// A part of a mirror.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Category {
    /// What it is called.
    pub name: String,
    /// The repositories whose blobs it has.
    pub repositories: BTreeSet<RepoName>,
    /// How many directories it has.
    pub directories: u64,
}

impl CheckIn {
    /// Unpacks the argument of a call.
    pub fn unpack(argument: &Argument) -> Result<Self, Malformed> {
        let packed = packed::decode(argument)?;
        // What is packed ends with a checksum, so that a part is not taken for the whole.
        Self::read(BzDecoder::new(&packed[..]))
    }

    /// Reads what was unpacked, as far as it may go.
    pub fn read(unpacked: impl Read) -> Result<Self, Malformed> {
        let unpacked = Bounded::new(unpacked, MAX_BYTES);
        let sections: Sections =
            serde_json::from_reader(BufReader::new(unpacked)).map_err(Malformed::of)?;
        Ok(sections.0)
    }
}

/// Why a check-in is refused.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is not base64.
    #[error("the text is not base64")]
    Base64,
    /// It does not unpack.
    #[error("the text does not unpack with bzip2")]
    Packed(#[source] io::Error),
    /// It unpacks to too much.
    #[error("the text unpacks to more than {MAX_BYTES} bytes")]
    Large,
    /// It is not JSON of this shape. What it says is not repeated: there may be a password in it.
    #[error("the text is not JSON of a check-in, at line {line}, column {column}")]
    Json {
        /// Where.
        line: usize,
        /// In which column.
        column: usize,
    },
}

impl Malformed {
    fn of(error: serde_json::Error) -> Self {
        match error.io_error_kind() {
            Some(io::ErrorKind::FileTooLarge) => Self::Large,
            Some(_) => Self::Packed(error.into()),
            None => Self::Json {
                line: error.line(),
                column: error.column(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
    use bzip2::Compression;
    use bzip2::write::BzEncoder;
    use serde_json::json;

    use super::super::xmlrpc::Type;
    use super::*;

    fn pack(text: &[u8]) -> Vec<u8> {
        let mut encoder = BzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(text: &[u8]) -> Result<CheckIn, Malformed> {
        CheckIn::unpack(&Argument {
            kind: Type::Text,
            text: URL_SAFE.encode(pack(text)),
        })
    }

    fn example() -> String {
        json!({
            "version": 0,
            "global": {"enabled": "1", "server": "https://containers.example/xmlrpc"},
            "site": {"enabled": "1", "name": "uni", "password": "secret"},
            "host": {"enabled": "1", "name": "campus", "user_active": "1"},
            "stats": {},
            "containers": {"enabled": "1", "dirtree": {
                "": {}, "blobs": {}, "blobs/sha256/00": {}, "repos": {}, "repos/fedora/fedora": {},
                "repos/fedora/fedora/blobs/sha256": {}, "repos/a/blobs": {}, "repos/b/blobs/sha512": {"x": 1},
            }},
            "fedora linux": {"enabled": "1", "dirtree": {"releases/39": {}}},
            "above": {"enabled": "1", "dirtree": {"containers/repos/c/blobs/sha256": {}}},
            "off": {"enabled": "0", "dirtree": {"repos/off/blobs/sha256": {}}},
        })
        .to_string()
    }

    #[test]
    fn a_check_in_names_its_repositories() {
        let check_in = unpack(example().as_bytes()).unwrap();
        assert_eq!(check_in.site, "uni");
        assert_eq!(check_in.password, "secret");
        assert_eq!(check_in.host, "campus");
        let mut found: Vec<String> = check_in
            .categories
            .iter()
            .map(|it| {
                let names: Vec<_> = it.repositories.iter().map(RepoName::as_str).collect();
                format!("{} {} {}", it.name, it.directories, names.join(" "))
            })
            .collect();
        found.sort();
        assert_eq!(
            found,
            [
                "above 1 c",
                "containers 8 b fedora/fedora",
                "fedora linux 1 "
            ]
        );
    }

    #[test]
    fn repositories_are_counted_over_all_categories() {
        let text = |each: usize| {
            let category = || -> serde_json::Value {
                let tree: serde_json::Map<_, _> = (0..each)
                    .map(|it| (format!("repos/r{it}/blobs/sha256"), json!({})))
                    .collect();
                json!({"enabled": "1", "dirtree": tree})
            };
            json!({
                "site": {"name": "s", "password": "p"},
                "host": {"name": "h"},
                "a": category(),
                "b": category(),
            })
            .to_string()
        };
        assert!(CheckIn::read(text(MAX_REPOSITORIES / 2).as_bytes()).is_ok());
        assert!(CheckIn::read(text(MAX_REPOSITORIES / 2 + 1).as_bytes()).is_err());
    }

    #[test]
    fn categories_are_counted() {
        let text = |many: usize| {
            let mut text = json!({
                "site": {"name": "s", "password": "p"},
                "host": {"name": "h"},
                "off": {"enabled": "0"},
            });
            for number in 0..many {
                text[format!("c{number}")] = json!({"enabled": "1", "dirtree": {}});
            }
            text.to_string()
        };
        let most = CheckIn::read(text(MAX_CATEGORIES).as_bytes()).unwrap();
        assert_eq!(most.categories.len(), MAX_CATEGORIES);
        let refused = CheckIn::read(text(MAX_CATEGORIES + 1).as_bytes());
        assert!(matches!(refused, Err(Malformed::Json { .. })));
    }

    #[test]
    fn base64_is_read_however_it_is_written() {
        let packed = pack(example().as_bytes());
        let expected = unpack(example().as_bytes()).unwrap();
        let lines = URL_SAFE.encode(&packed).replace('A', "A\n");
        for (kind, text) in [
            (Type::Text, STANDARD.encode(&packed)),
            (Type::Text, URL_SAFE_NO_PAD.encode(&packed)),
            (Type::Text, lines),
            (Type::Bytes, STANDARD.encode(&packed)),
            (Type::Bytes, STANDARD.encode(URL_SAFE.encode(&packed))),
        ] {
            let found = CheckIn::unpack(&Argument { kind, text }).unwrap();
            assert_eq!(found, expected);
        }
        for text in ["?", "AAAA", "QlpoOQ"] {
            let text = text.to_owned();
            let kind = Type::Text;
            assert!(CheckIn::unpack(&Argument { kind, text }).is_err());
        }
    }

    #[test]
    fn a_part_is_not_taken_for_the_whole() {
        let packed = pack(example().as_bytes());
        for length in [0, 3, 10, packed.len() / 2, packed.len() - 1] {
            let text = STANDARD.encode(&packed[..length]);
            let kind = Type::Text;
            let refused = CheckIn::unpack(&Argument { kind, text });
            assert!(refused.is_err(), "{length} of {}", packed.len());
        }
    }

    #[test]
    fn a_bomb_is_refused_where_it_is_too_much() {
        let example = example();
        let bomb = |size: u64| {
            let spaces = io::repeat(b' ').take(size - example.len() as u64);
            CheckIn::read(spaces.chain(example.as_bytes()))
        };
        assert!(bomb(MAX_BYTES).is_ok());
        assert!(matches!(bomb(MAX_BYTES + 1), Err(Malformed::Large)));
    }

    #[test]
    fn a_pickle_or_anything_else_is_refused_without_repeating_it() {
        for text in [
            &b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."[..],
            b"cposix\nsystem\n(S'true'\ntR.",
            b"null",
            b"[]",
            b"{\"site\": {\"name\": \"secret\"}}",
            b"{\"secret\": 1}",
            b"{\"secret\": {\"dirtree\": []}}",
            format!("{{\"secret{}\": {{}}}}", "t".repeat(250)).as_bytes(),
            b"{} {}",
            b"{",
        ] {
            let error = unpack(text).unwrap_err();
            assert!(matches!(error, Malformed::Json { .. }), "{error:?}");
            assert!(!error.to_string().contains("secret"));
        }
        let deep = [b"{\"stats\":".to_vec(), b"[".repeat(1 << 20)].concat();
        assert!(unpack(&deep).is_err());
    }
}
