//! `?mirrorlist`: to which mirrors this client would be sent for a blob, in which order, and why not to
//! the others. As text, JSON or HTML.
//!
//! It is for the client that asks and for nobody else: its own address is in it, so nothing on the way
//! may keep it. A private mirror is shown to the clients of its networks; others learn only how many there
//! are. What is written in reasons came from mirrors and operators, and each form escapes it.

mod forms;

use std::net::{IpAddr, Ipv4Addr};

use askama::Template;
use http::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS,
};
use oci_mirror::digest::Digest;
use oci_mirror::http::Body;
use oci_mirror::tree::TreePath;
use serde::Serialize;

use self::forms::Form;
use super::error::Error;
use super::request::Request;
use crate::geo::{Asn, CountryCode, Place};
use crate::metalink::Subject;
use crate::network::Host;
use crate::select::{Client, Explanation, Policy, Reason, Tier, Wanted};
use crate::snapshot::{MAX_MIRRORS, Snapshot};

/// Whether a request is for the list and not for the content.
pub fn is_asked_for(request: &Request<'_>) -> bool {
    request.query("mirrorlist").is_some()
}

/// Answers with the list for `subject`.
pub fn respond(
    subject: &Subject<'_>,
    request: &Request<'_>,
    snapshot: &Snapshot,
) -> Result<Response<Body>, Error> {
    let list = MirrorList::new(subject, request, snapshot);
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
    fn new(subject: &Subject<'_>, request: &Request<'_>, snapshot: &Snapshot) -> Self {
        let place = request
            .client
            .map_or_else(Place::default, |address| snapshot.geo.locate(address));
        let client = Client {
            address: request.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            place,
            wanted: request.asker().countries,
        };
        let policy = Policy {
            min_mirrors: snapshot.policy.min_mirrors,
            limit: MAX_MIRRORS,
        };
        let path = TreePath::Blob(subject.blob.digest);
        let wanted = Wanted {
            verified: snapshot.presence.of(subject.id),
            repository: Some(subject.name),
            size: Some(subject.blob.size),
        };
        let explained = snapshot.network.explain(&client, &wanted, policy);
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
