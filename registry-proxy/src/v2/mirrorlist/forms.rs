//! The forms of the list: text for people and scripts, JSON for programs, HTML for browsers.

use std::fmt::Write as _;

use http::header::ACCEPT;
use oci_mirror::accept;

use super::MirrorList;
use crate::select::told::{About, Asker, LeftOut, Listed};
use crate::v2::request::Request;

/// How the list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
    Html,
}

impl Form {
    /// The form a client wants most; whoever wants none of them gets text all the same.
    pub(super) fn preferred_by(request: &Request<'_>) -> Self {
        let lines = request.headers.get_all(ACCEPT).iter();
        let lines = lines.filter_map(|line| line.to_str().ok());
        let offered = ["text/plain", "application/json", "text/html"];
        match accept::preferred(lines, &offered) {
            Some(1) => Self::Json,
            Some(2) => Self::Html,
            _ => Self::Text,
        }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::Html => "text/html; charset=utf-8",
        }
    }
}

impl MirrorList {
    /// Lines of fields separated by tabs, and remarks after `#`.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let unknown = || "unknown".to_owned();
        let Asker {
            address,
            country,
            asn,
            wanted: _,
        } = &self.client;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# {} of {}, {} bytes\n# for {}, country {}, {}{}\n# {}\n\
             # rank\tname\ttier\tcountry\tweight\tkm\turl, or why not",
            self.digest,
            self.repository,
            self.size,
            address.map_or_else(unknown, |it| it.to_string()),
            country.map_or_else(unknown, |it| it.to_string()),
            asn.map_or_else(|| "AS unknown".to_owned(), |it| it.to_string()),
            self.asked(),
            self.treatment(),
        );
        for Listed { rank, about, url } in &self.mirrors {
            let _ = writeln!(text, "{rank}\t{}\t{url}", fields(about));
        }
        let _ = writeln!(
            text,
            "{}\t-\torigin\t-\t-\t-\t{}",
            self.mirrors.len() + 1,
            self.origin
        );
        for LeftOut { about, why, .. } in &self.left_out {
            let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
            let why = why.replace(breaks, " ");
            let _ = writeln!(text, "-\t{}\t{why}", fields(about));
        }
        if self.private_mirrors > 0 {
            let _ = writeln!(text, "# {}", self.others());
        }
        text
    }

    /// What becomes of a plain request.
    pub(super) fn treatment(&self) -> &'static str {
        if self.redirected {
            "a plain request is redirected to the first mirror"
        } else {
            "a plain request is answered with the content"
        }
    }

    /// Of which countries mirrors are asked for.
    pub(super) fn asked(&self) -> String {
        let named: Vec<String> = self.client.wanted.iter().map(|it| it.to_string()).collect();
        match &*named {
            [] => String::new(),
            named => format!(", who asks for mirrors in {}", named.join(", ")),
        }
    }

    pub(super) fn others(&self) -> String {
        format!(
            "private mirrors that are not for this client: {}",
            self.private_mirrors
        )
    }
}

/// What is said of every mirror.
fn fields(about: &About) -> String {
    let (tier, country, km) = (about.tier(), about.country(), about.kilometres());
    format!(
        "{}\t{tier}\t{country}\t{:.0}\t{km}",
        about.name, about.weight
    )
}

#[cfg(test)]
mod tests {
    use askama::Template as _;

    use super::*;
    use crate::geo::{Asn, Countries, CountryCode};
    use crate::network::Inactive;
    use crate::select::{Reason, Tier};

    fn about(
        name: &str,
        tier: Tier,
        country: &str,
        weight: f64,
        distance_km: Option<f64>,
    ) -> About {
        About {
            name: name.to_owned(),
            tier: Some(tier),
            country: country.parse().ok(),
            weight,
            distance_km,
        }
    }

    /// A list with everything that could break out of its form.
    fn list() -> MirrorList {
        MirrorList {
            repository: "fedora/fedora".to_owned(),
            digest: oci_mirror::digest::Algorithm::Sha256.digest(b"blob"),
            size: 73_400_320,
            client: Asker {
                address: "192.0.2.7".parse().ok(),
                country: "DE".parse().ok(),
                asn: Some(Asn(64500)),
                wanted: ["DE", "FR"]
                    .iter()
                    .filter_map(|code| code.parse::<CountryCode>().ok())
                    .collect::<Countries>(),
            },
            redirected: true,
            mirrors: vec![
                Listed {
                    rank: 1,
                    about: about("heidelberg", Tier::Country, "DE", 1000.0, Some(77.0)),
                    url: "https://m1.example/a&b'c/blobs/x".to_owned(),
                },
                Listed {
                    rank: 2,
                    about: about("anywhere", Tier::Elsewhere, "", 100.0, None),
                    url: "http://m2.example/blobs/x".to_owned(),
                },
            ],
            origin: "https://registry.example/tree/blobs/x".to_owned(),
            left_out: vec![
                LeftOut {
                    about: about("unseen", Tier::Continent, "FR", 100.0, None),
                    why: Reason::Unverified.to_string(),
                    reason: Reason::Unverified,
                },
                hostile(),
            ],
            private_mirrors: 2,
        }
    }

    fn hostile() -> LeftOut {
        let reason = Reason::Inactive {
            inactive: Inactive::DisabledByAdmin {
                reason: "</td><script>alert(1)</script>\r\n1\tevil\t\"&quot;'\u{2028}".to_owned(),
            },
        };
        LeftOut {
            about: about("hostile", Tier::Elsewhere, "", 0.0, Some(12.0)),
            why: reason.to_string(),
            reason,
        }
    }

    #[test]
    fn the_text_has_one_line_for_each_mirror() {
        let text = list().text();
        assert_eq!(text.matches("evil").count(), 1);
        assert!(
            !text.contains("\n1\tevil") && !text.contains('\r'),
            "{text}"
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_json_is_read_back_with_every_reason() {
        let json = serde_json::to_string_pretty(&list()).unwrap();
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["left-out"][0]["reason"], "unverified");
        assert_eq!(read["left-out"][1]["inactive"], "disabled-by-admin");
        insta::assert_snapshot!(json);
    }

    #[test]
    fn the_page_has_no_script_whatever_a_reason_says() {
        let html = list().render().unwrap();
        assert!(!html.contains("<script"), "{html}");
        insta::assert_snapshot!(html);
    }
}
