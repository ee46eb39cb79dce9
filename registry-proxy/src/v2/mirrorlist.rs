//! `?mirrorlist`: to which mirrors this client would be sent for a blob, in which order, and why not to
//! the others. As text, JSON or HTML.
//!
//! It is for the client that asks and for nobody else: its own address is in it, so nothing on the way
//! may keep it. A private mirror is shown to the clients of its networks; others learn only how many there
//! are. What is written in reasons came from mirrors and operators, and each form escapes it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use askama::Template;
use http::Response;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use oci_mirror::accept;
use oci_mirror::digest::Digest;
use oci_mirror::http::Body;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::catalog::BlobId;
use serde::Serialize;

use super::error::Error;
use super::request::Request;
use crate::geo::{Asn, CountryCode, Place};
use crate::metalink::Subject;
use crate::network::Host;
use crate::select::{Client, Explanation, Policy, Reason, Tier};
use crate::snapshot::{MAX_MIRRORS, Snapshot};

/// Whether a request is for the list and not for the content.
pub fn is_asked_for(request: &Request<'_>) -> bool {
    request.query("mirrorlist").is_some()
}

/// Answers with the list for `subject`, whose number is `blob`.
pub fn respond(
    subject: &Subject<'_>,
    blob: BlobId,
    request: &Request<'_>,
    snapshot: &Snapshot,
) -> Result<Response<Body>, Error> {
    let list = MirrorList::new(subject, blob, request, snapshot);
    let form = Form::preferred_by(request);
    let text = match form {
        Form::Text => list.text(),
        Form::Json => serde_json::to_string_pretty(&list).map_err(|_| Error::Internal)?,
        Form::Html => list.render().map_err(|_| Error::Internal)?,
    };
    let mut response = Response::new(text.into());
    let fields = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, form.content_type()),
        (VARY, "Accept"),
        (CACHE_CONTROL, "private, no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'",
        ),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// How the list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Html,
}

impl Form {
    /// The form a client wants most; whoever wants none of them gets text all the same.
    fn preferred_by(request: &Request<'_>) -> Self {
        let lines = request.headers.get_all(ACCEPT).iter();
        let lines = lines.filter_map(|line| line.to_str().ok());
        let offered = ["text/plain", "application/json", "text/html"];
        match accept::preferred(lines, &offered) {
            Some(1) => Self::Json,
            Some(2) => Self::Html,
            _ => Self::Text,
        }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::Html => "text/html; charset=utf-8",
        }
    }
}

/// What one client is told about the mirrors of one blob.
#[derive(Debug, Serialize, Template)]
#[template(path = "mirrorlist.html")]
#[serde(rename_all = "kebab-case")]
struct MirrorList {
    repository: String,
    digest: Digest,
    size: u64,
    client: Asker,
    /// Whether a plain request is redirected to the first mirror.
    redirected: bool,
    /// Best first.
    mirrors: Vec<Listed>,
    /// Where it can be had if no mirror works.
    origin: String,
    left_out: Vec<LeftOut>,
    /// How many further mirrors are for other networks than the client's.
    private_mirrors: usize,
}

/// Who asks, as the one who asks is told.
#[derive(Debug, Serialize)]
struct Asker {
    address: Option<IpAddr>,
    country: Option<CountryCode>,
    asn: Option<Asn>,
}

/// A mirror the client is sent to.
#[derive(Debug, Serialize)]
struct Listed {
    rank: usize,
    #[serde(flatten)]
    about: About,
    url: String,
    tier: Tier,
}

/// A mirror the client is not sent to.
#[derive(Debug, Serialize)]
struct LeftOut {
    #[serde(flatten)]
    about: About,
    /// The reason in words.
    why: String,
    #[serde(flatten)]
    reason: Reason,
}

/// What is said of every mirror.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct About {
    name: String,
    country: Option<CountryCode>,
    weight: f64,
    /// Whole kilometres.
    distance_km: Option<f64>,
}

impl MirrorList {
    fn new(
        subject: &Subject<'_>,
        blob: BlobId,
        request: &Request<'_>,
        snapshot: &Snapshot,
    ) -> Self {
        let place = request
            .client
            .map_or_else(Place::default, |address| snapshot.geo.locate(address));
        let client = Client {
            address: request.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            place,
        };
        let policy = Policy {
            min_mirrors: snapshot.policy.min_mirrors,
            limit: MAX_MIRRORS,
        };
        let path = TreePath::Blob(subject.blob.digest);
        let verified = snapshot.presence.of(blob);
        let explained =
            snapshot
                .network
                .explain(&client, Some(verified), Some(subject.name), policy);
        let (mut mirrors, mut left_out, mut private_mirrors) = (Vec::new(), Vec::new(), 0);
        for explanation in explained {
            let host = snapshot.network.host(explanation.host);
            let is_foreign =
                host.is_private() && snapshot.network.tier(explanation.host, &client).is_none();
            if is_foreign {
                private_mirrors += 1;
                continue;
            }
            match Listed::new(host, &explanation, &path) {
                Ok(listed) => mirrors.push(listed),
                Err(reason) => left_out.push(LeftOut::new(host, &explanation, reason)),
            }
        }
        let large = subject.blob.size >= snapshot.policy.min_size;
        Self {
            repository: subject.name.to_string(),
            digest: subject.blob.digest,
            size: subject.blob.size,
            client: Asker {
                address: request.client,
                country: place.country,
                asn: place.asn,
            },
            redirected: subject.endpoint == "blobs" && large && !mirrors.is_empty(),
            mirrors,
            origin: format!("{}/tree/{path}", request.public),
            left_out,
            private_mirrors,
        }
    }

    /// Lines of fields separated by tabs, and remarks after `#`.
    fn text(&self) -> String {
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
    fn treatment(&self) -> &'static str {
        if self.redirected {
            "a plain request is redirected to the first mirror"
        } else {
            "a plain request is answered with the content"
        }
    }

    fn others(&self) -> String {
        format!(
            "private mirrors that are not for this client: {}",
            self.private_mirrors
        )
    }
}

impl Listed {
    /// A host of the list; the reason if it is not in it.
    fn new(host: &Host, explanation: &Explanation, path: &TreePath) -> Result<Self, Reason> {
        let taken = explanation.taken.clone()?;
        Ok(Self {
            rank: taken.rank,
            about: About::new(host, explanation),
            // Whoever is in the list has one: a host without is not in use.
            url: host
                .download_url()
                .map(|url| url.join(path))
                .unwrap_or_default(),
            tier: taken.tier,
        })
    }
}

impl LeftOut {
    fn new(host: &Host, explanation: &Explanation, reason: Reason) -> Self {
        Self {
            about: About::new(host, explanation),
            why: reason.to_string(),
            reason,
        }
    }
}

impl About {
    fn new(host: &Host, explanation: &Explanation) -> Self {
        Self {
            name: host.name.to_string(),
            country: host.country,
            weight: explanation.weight,
            distance_km: explanation.distance_km.map(f64::round),
        }
    }

    fn country(&self) -> String {
        self.country
            .map_or_else(|| "-".to_owned(), |country| country.to_string())
    }

    fn kilometres(&self) -> String {
        self.distance_km
            .map_or_else(|| "-".to_owned(), |distance| format!("{distance:.0}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Inactive;

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
