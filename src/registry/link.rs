//! The `Link` field by which a registry says where the next page is.
//!
//! See [RFC 8288](https://www.rfc-editor.org/rfc/rfc8288#section-3). Only `rel="next"` matters here.

use url::Url;

/// A page follows, but where cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unusable;

/// Where the next page is, given that `current` was answered with `field`; `None` if there is none.
///
/// Of the target only path and query count. Registries behind a proxy often link to themselves by
/// `http` or by a name of the inside; and whatever they mean, what we carry is for this host only.
pub(super) fn next_page(current: &Url, field: &str) -> Result<Option<Url>, Unusable> {
    let Some(target) = next_target(field)? else {
        return Ok(None);
    };
    let target = current.join(target).map_err(|_| Unusable)?;
    if !matches!(target.scheme(), "http" | "https") {
        return Err(Unusable);
    }
    let mut page = current.clone();
    page.set_path(target.path());
    page.set_query(target.query());
    Ok(Some(page))
}

/// The target of the first `rel="next"` link of `field`, as it stands between `<` and `>`.
fn next_target(field: &str) -> Result<Option<&str>, Unusable> {
    let mut rest = field;
    loop {
        let target = rest
            .split_once('<')
            .and_then(|(_, after)| after.split_once('>'));
        let Some((target, after)) = target else {
            // A link without brackets is none, but it says that this is not the end.
            let more = rest.split([';', ',']).any(is_next);
            return if more { Err(Unusable) } else { Ok(None) };
        };
        let (parameters, following) = split_outside_quotes(after);
        if parameters.split(';').any(is_next) {
            return Ok(Some(target));
        }
        rest = following;
    }
}

/// The parameters up to the comma that ends this link, and what follows.
fn split_outside_quotes(text: &str) -> (&str, &str) {
    let mut quoted = false;
    for (position, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => return (&text[..position], &text[position + 1..]),
            _ => {}
        }
    }
    (text, "")
}

fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    name.trim().eq_ignore_ascii_case("rel")
        && value
            .trim()
            .trim_matches('"')
            .split_ascii_whitespace()
            .any(|relation| relation.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn next(field: &str) -> Result<Option<String>, Unusable> {
        let current = Url::parse("https://r.example:5000/v2/a/tags/list").unwrap();
        Ok(next_page(&current, field)?.map(String::from))
    }

    #[test]
    fn finds_the_next_page_in_every_form_seen() {
        let page = Ok(Some(
            "https://r.example:5000/v2/a/tags/list?last=b&n=2".to_owned(),
        ));
        for field in [
            r#"</v2/a/tags/list?last=b&n=2>; rel="next""#,
            r"</v2/a/tags/list?last=b&n=2>;rel=next",
            r#"<list?last=b&n=2>; title="a, b"; REL="prev next""#,
            r#"<https://r.example:5000/v2/a/tags/list?last=b&n=2>; rel="next""#,
            r#"<http://r.example/v2/a/tags/list?last=b&n=2>; rel="next""#,
            r#"<http://inside.example/v2/a/tags/list?last=b&n=2>; rel="next""#,
            r"<//other.example/v2/a/tags/list?last=b&n=2>; rel=next",
            r#"</other>; rel="first", </v2/a/tags/list?last=b&n=2>; rel="next""#,
        ] {
            assert_eq!(next(field), page, "{field}");
        }
    }

    #[test]
    fn without_a_next_link_the_list_has_ended() {
        for field in [
            "",
            "<",
            "</a>",
            r#"</a>; rel="prev""#,
            r#"</a>; title="next""#,
        ] {
            assert_eq!(next(field), Ok(None), "{field}");
        }
    }

    #[test]
    fn an_unusable_next_link_is_not_taken_for_the_end() {
        for field in [
            "<mailto:a@b.example>; rel=next",
            "<ftp://r.example/v2/a/tags/list>; rel=next",
            "<https://[>; rel=next",
            r#"/v2/a/tags/list?last=b; rel="next""#,
            r#"</v2/a/tags/list?last=b; rel="next""#,
        ] {
            assert_eq!(next(field), Err(Unusable), "{field}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_never_leaves_the_host(field in "[<>;,=\" a-z/.:]{0,60}") {
            if let Ok(Some(page)) = next(&field) {
                prop_assert!(page.starts_with("https://r.example:5000/"), "{page}");
            }
        }
    }
}
