//! The forms of the list: text for people and scripts, JSON for programs, HTML for browsers.

use std::fmt::Write as _;

use http::header::ACCEPT;
use oci_mirror::accept;

use super::{Asker, LeftOut, Listed, MirrorList};
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
        } = &self.client;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# {} of {}, {} bytes\n# for {}, country {}, {}\n# {}\n\
             # rank\tname\ttier\tcountry\tweight\tkm\turl, or why not",
            self.digest,
            self.repository,
            self.size,
            address.map_or_else(unknown, |it| it.to_string()),
            country.map_or_else(unknown, |it| it.to_string()),
            asn.map_or_else(|| "AS unknown".to_owned(), |it| it.to_string()),
            self.treatment(),
        );
        for Listed {
            rank,
            about,
            url,
            tier,
        } in &self.mirrors
        {
            let (name, country, km) = (&about.name, about.country(), about.kilometres());
            let _ = writeln!(
                text,
                "{rank}\t{name}\t{tier}\t{country}\t{:.0}\t{km}\t{url}",
                about.weight
            );
        }
        let _ = writeln!(
            text,
            "{}\t-\torigin\t-\t-\t-\t{}",
            self.mirrors.len() + 1,
            self.origin
        );
        for LeftOut { about, why, .. } in &self.left_out {
            let (name, country, km) = (&about.name, about.country(), about.kilometres());
            let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
            let why = why.replace(breaks, " ");
            let _ = writeln!(
                text,
                "-\t{name}\t-\t{country}\t{:.0}\t{km}\t{why}",
                about.weight
            );
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

    pub(super) fn others(&self) -> String {
        format!(
            "private mirrors that are not for this client: {}",
            self.private_mirrors
        )
    }
}

#[cfg(test)]
mod tests {
    use askama::Template as _;

    use super::super::About;
    use super::*;
    use crate::geo::Asn;
    use crate::network::Inactive;
    use crate::select::{Reason, Tier};

    fn about(name: &str, country: &str, weight: f64, distance_km: Option<f64>) -> About {
        About {
            name: name.to_owned(),
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
            },
            redirected: true,
            mirrors: vec![
                Listed {
                    rank: 1,
                    about: about("heidelberg", "DE", 1000.0, Some(77.0)),
                    url: "https://m1.example/a&b'c/blobs/x".to_owned(),
                    tier: Tier::Country,
                },
                Listed {
                    rank: 2,
                    about: about("anywhere", "", 100.0, None),
                    url: "http://m2.example/blobs/x".to_owned(),
                    tier: Tier::Elsewhere,
                },
            ],
            origin: "https://registry.example/tree/blobs/x".to_owned(),
            left_out: vec![
                LeftOut {
                    about: about("unseen", "FR", 100.0, None),
                    why: Reason::Unverified.to_string(),
                    reason: Reason::Unverified,
                },
                hostile(),
            ],
            private_mirrors: 2,
        }
    }

    fn hostile() -> LeftOut {
        let reason = Reason::Inactive(Inactive::DisabledByAdmin {
            reason: "</td><script>alert(1)</script>\r\n1\tevil\t\"&quot;'\u{2028}".to_owned(),
        });
        LeftOut {
            about: about("hostile", "", 0.0, Some(12.0)),
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
