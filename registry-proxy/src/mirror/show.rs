//! `mirror list` and `mirror show`.

use std::fmt::Write as _;

use anyhow::Result;
use jiff::Timestamp;
use oci_mirror::size::ByteSize;
use oci_mirror::tree::{Catalog, Tree};
use serde_json::{Value, json};

use super::output::{self, shown, table};
use crate::config::Config;
use crate::crawler::visit;
use crate::db::{Database, Listed, Unreadable};
use crate::network::{Host, HostName};

/// All mirrors, and those whose row cannot be read.
pub(super) fn list(database: &Database, as_json: bool) -> Result<String> {
    let (listed, unreadable) = database.entries()?;
    if as_json {
        let mut mirrors = listed
            .iter()
            .map(|listed| value(database, listed))
            .collect::<Result<Vec<_>>>()?;
        mirrors.extend(unreadable.iter().map(
            |row| json!({"name": row.name, "active": false, "inactive-because": malformed(row)}),
        ));
        return Ok(output::json(&mirrors)?);
    }
    if listed.is_empty() && unreadable.is_empty() {
        return Ok("there are no mirrors\n".to_owned());
    }
    let mut rows = vec![
        [
            "NAME", "COUNTRY", "MBIT/S", "VERIFIED", "CRAWLED", "URL", "STATUS",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for entry in &listed {
        let host = &entry.host;
        rows.push(vec![
            host.name.to_string(),
            or_dash(host.country),
            host.bandwidth.mbit().to_string(),
            database.verified_count(host.id)?.to_string(),
            crawled(entry),
            host.urls
                .first()
                .map(ToString::to_string)
                .unwrap_or_default(),
            status(entry),
        ]);
    }
    for row in &unreadable {
        let dash = || "-".to_owned();
        rows.push(vec![
            row.name.clone(),
            dash(),
            dash(),
            dash(),
            dash(),
            dash(),
            malformed(row),
        ]);
    }
    Ok(table(&rows))
}

fn malformed(row: &Unreadable) -> String {
    format!("left out: its {} in the database is malformed", row.field)
}

/// One mirror, with what is held against it.
///
/// Of one that was never crawled it says what may be expected of its first day, if there is a tree.
pub(super) fn one(
    database: &Database,
    name: &HostName,
    config: &Config,
    as_json: bool,
) -> Result<String> {
    let listed = database.host(name)?;
    let expected = match listed.crawled_at.or(listed.checked_in_at) {
        Some(_) => None,
        None => expected(&listed.host, config),
    };
    let evidence = database.evidence(name)?;
    let host = listed.host.id;
    if as_json {
        let mut mirror = value(database, &listed)?;
        mirror["evidence"] = evidence
            .iter()
            .map(|(at, piece)| json!({"seen-at": at, "what": piece}))
            .collect();
        mirror["probes"] = database
            .probes(host)?
            .iter()
            .map(|(at, probe)| json!({"at": at, "what": probe}))
            .collect();
        mirror["check-ins"] = json!(database.check_ins(host)?);
        mirror["odds-of-a-day"] = json!(database.odds_of_a_day(host)?);
        mirror["expected-odds-of-a-day"] = json!(expected);
        return Ok(output::json(&mirror)?);
    }
    let host = &listed.host;
    let mut rows = vec![
        ("name", host.name.to_string()),
        ("site", host.site.to_string()),
        ("kind", host.kind.to_string()),
        ("status", status(&listed)),
        ("urls", words(&host.urls, "-")),
        ("country", or_dash(host.country)),
        ("coordinates", or_dash(host.coordinates)),
        ("bandwidth", format!("{} Mbit/s", host.bandwidth)),
        ("netblocks", words(&host.netblocks, "-")),
        ("AS numbers", words(&host.asns, "-")),
        ("peers", words(&host.peer_asns, "-")),
        (
            "private",
            if host.is_private() { "yes" } else { "no" }.to_owned(),
        ),
        ("repositories", words(&host.repositories, "all")),
        ("but not", words(&host.excluded_repositories, "-")),
        ("largest blob", or_dash(host.max_blob_size.map(ByteSize))),
        (
            "serves only",
            words(&host.allowed_countries, "all countries"),
        ),
        ("but not", words(&host.denied_countries, "-")),
        ("crawled", crawled(&listed)),
        ("checks in", checks_in(database, &listed)?),
        (
            "verified",
            format!("{} blobs", database.verified_count(host.id)?),
        ),
    ];
    // The first one is the status.
    let further = host.objections().into_iter().skip(1);
    rows.extend(further.map(|objection| ("besides", objection.to_string())));
    rows.extend(silence(database, &listed)?.map(|silence| ("besides", silence)));
    let failing = host.failing_repositories.iter();
    rows.extend(failing.map(|(name, reason)| ("not used for", format!("{name}: {reason}"))));
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    let mut text = table(&rows);
    if let Some(odds) = database.odds_of_a_day(host.id)? {
        let _ = writeln!(
            text,
            "damage to one blob in a hundred is found within a day with a chance of {:.1} %",
            odds * 100.0
        );
    }
    if let Some(odds) = expected {
        let _ = writeln!(
            text,
            "damage to one blob in a hundred will be found in its first day with a chance of {:.1} %",
            odds * 100.0
        );
    }
    for (at, probe) in database.probes(host.id)? {
        let _ = writeln!(
            text,
            "{} {} at {}: {}",
            probe.name,
            probe.result,
            shown(&at),
            shown(&probe.detail)
        );
    }
    for (at, piece) in evidence {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "evidence of {}: {} at {}: {}",
            shown(&at),
            piece.digest,
            shown(&piece.url),
            shown(&piece.found)
        );
    }
    Ok(text)
}

/// How likely damage is found in the first day of a mirror; none without a tree.
fn expected(host: &Host, config: &Config) -> Option<f64> {
    let tree = Tree::open(&config.tree).ok()?;
    let catalog = Catalog::load(&tree, None).ok()?;
    Some(visit::expected(
        host,
        &catalog,
        config.crawler.daily_bytes.0,
    ))
}

fn words(items: &[impl ToString], none: &str) -> String {
    if items.is_empty() {
        return none.to_owned();
    }
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(" ")
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// One mirror, for programs.
pub(super) fn value(database: &Database, listed: &Listed) -> Result<Value> {
    let mut mirror = serde_json::to_value(&listed.host)?;
    mirror["verified"] = json!(database.verified_count(listed.host.id)?);
    mirror["crawled-at"] = json!(listed.crawled_at);
    mirror["has-token"] = json!(database.has_token(listed.host.id)?);
    mirror["checked-in-at"] = json!(listed.checked_in_at);
    let objections = listed.host.objections();
    mirror["active"] = json!(objections.is_empty());
    mirror["inactive-because"] = json!(objections.first().map(ToString::to_string));
    mirror["objections"] = json!(objections);
    Ok(mirror)
}

fn status(listed: &Listed) -> String {
    let seen = listed.checked_in_at.or(listed.crawled_at);
    match (listed.host.standing(), seen) {
        (Err(reason), _) => reason.to_string(),
        (Ok(()), None) => "not crawled yet".to_owned(),
        (Ok(()), Some(_)) => "active".to_owned(),
    }
}

fn crawled(listed: &Listed) -> String {
    listed.crawled_at.map_or_else(|| "never".to_owned(), minute)
}

fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M").to_string()
}

/// What is to be said of a mirror that is known by its word alone, and has none to be known by.
fn silence(database: &Database, listed: &Listed) -> Result<Option<String>> {
    let is_believed = listed.host.is_private() && listed.checked_in_at.is_some();
    let silence = "it is not known what it holds: it has not said so for long, or it holds nothing";
    let is_silent = is_believed && database.verified_count(listed.host.id)? == 0;
    Ok(is_silent.then(|| silence.to_owned()))
}

/// Whether a mirror can, and what it said last.
fn checks_in(database: &Database, listed: &Listed) -> Result<String> {
    let host = listed.host.id;
    let can = if database.has_token(host)? {
        "yes"
    } else {
        "no"
    };
    let check_ins = database.check_ins(host)?;
    let Some(last) = check_ins.first() else {
        return Ok(can.to_owned());
    };
    let mut text = format!("{can}; last {} by {}", minute(last.at), last.way);
    if let Some(serial) = last.serial {
        let _ = write!(text, ", serial {serial}");
    }
    if let Some(repositories) = last.repositories {
        let _ = write!(text, ", {repositories} repositories");
    }
    if listed.checked_in_at.is_some() {
        let _ = write!(text, ", believed to hold {} blobs", last.blobs);
    }
    match last.damaged {
        None => {}
        Some(0) => text.push_str(", all right by its own word"),
        Some(damaged) => {
            let _ = write!(text, ", {damaged} damaged by its own word");
        }
    }
    Ok(text)
}
