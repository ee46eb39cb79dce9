//! A registry on loopback, in memory, that fails on demand.
//!
//! Every request is logged as `METHOD path`; faults are queued per path and used up one by one, or
//! stay for ever.

#![expect(dead_code, reason = "each test binary uses a part of it")]

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

type Body = BoxBody<Bytes, std::io::Error>;

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This status, with these fields.
    Status(u16, Vec<(&'static str, String)>),
    /// The right length is announced, so many bytes are sent, the connection is closed.
    Truncate(usize),
    /// The last byte is another one.
    WrongByte,
    /// The body is whole but for its last bytes, and its length agrees with that.
    Short(usize),
    /// Half of the body, then nothing any more.
    Stall,
    /// A body without end.
    Endless,
    /// A `Content-Length` of a gigabyte.
    HugeLength,
    /// This field is set to this value.
    Header(&'static str, &'static str),
    /// This field is left out.
    NoHeader(&'static str),
    /// `Range` is ignored.
    IgnoreRange,
    /// `Range` is ignored, and after so many bytes the connection is closed.
    TruncateFromStart(usize),
    /// A byte every so often.
    Trickle(Duration),
    /// The answer takes this long.
    Slow(Duration),
    /// This status, type and body.
    Answer(u16, &'static str, String),
}

#[derive(Debug, Clone, Default)]
pub(crate) enum Auth {
    #[default]
    None,
    /// A token is needed; the token service wants this user and password if any.
    Bearer(Option<(&'static str, &'static str)>),
    Basic(&'static str, &'static str),
    /// A token is needed, and is given for this refresh token.
    Identity(&'static str),
}

/// An answer made by the test, from path and query; `None` for the usual one.
type Hook = dyn Fn(&str, &str) -> Option<Response<Bytes>> + Send + Sync;

/// What was sent to the token service.
#[derive(Debug, Clone)]
pub(crate) struct TokenRequest {
    pub(crate) method: Method,
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: String,
}

#[derive(Default)]
struct State {
    auth: Auth,
    /// Only what has this in its path needs a login.
    guarded: &'static str,
    /// In place of the usual challenge.
    challenge: Option<Vec<String>>,
    /// What the token service says about the life of its tokens, in seconds.
    token_life: Option<u64>,
    token_requests: Vec<TokenRequest>,
    referrers: bool,
    hook: Option<Arc<Hook>>,
    page: Option<usize>,
    tags: BTreeMap<String, BTreeMap<String, Digest>>,
    manifests: HashMap<Digest, (MediaType, Bytes)>,
    blobs: HashMap<Digest, Bytes>,
    faults: HashMap<String, VecDeque<Fault>>,
    lasting: HashMap<String, Fault>,
    log: Vec<String>,
    tokens: HashSet<String>,
    /// How many requests carried a login or token.
    authorized: usize,
    /// How many blobs are being asked for, and how many were at most.
    blobs_now: usize,
    blobs_most: usize,
    /// How many requests were being answered at the same moment, at most.
    now: usize,
    most: usize,
}

pub(crate) struct FakeRegistry {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _server: JoinSet<()>,
}

static TOKENS: AtomicU64 = AtomicU64::new(1);

impl FakeRegistry {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let mut server = JoinSet::new();
        let shared = Arc::clone(&state);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let state = Arc::clone(&state);
                        async move {
                            let (parts, body) = request.into_parts();
                            // Only a client that breaks off has no whole body.
                            let body = body.collect().await.unwrap_or_default().to_bytes();
                            let request = Request::from_parts(parts, body);
                            Ok::<_, Infallible>(counted(&request, &state, address).await)
                        }
                    });
                    // A connection that a fault breaks is not our failure.
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(socket), service)
                            .await,
                    );
                });
            }
        });
        Self {
            address,
            state,
            _server: server,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn set_auth(&self, auth: Auth) {
        self.state().auth = auth;
    }

    /// Only what has `part` in its path needs a login.
    pub(crate) fn guard_only(&self, part: &'static str) {
        self.state().guarded = part;
    }

    /// Sends these challenges in place of the usual one, each in a field of its own; `ADDRESS` in them
    /// stands for ours.
    pub(crate) fn set_challenge(&self, fields: &[&str]) {
        let address = self.address.to_string();
        let fields = fields.iter().map(|text| text.replace("ADDRESS", &address));
        self.state().challenge = Some(fields.collect());
    }

    /// Says that tokens live so many seconds.
    pub(crate) fn set_token_life(&self, seconds: u64) {
        self.state().token_life = Some(seconds);
    }

    /// What was sent to the token service so far.
    pub(crate) fn token_requests(&self) -> Vec<TokenRequest> {
        self.state().token_requests.clone()
    }

    /// Whether there is a referrers API; there is none at first.
    pub(crate) fn set_referrers(&self, served: bool) {
        self.state().referrers = served;
    }

    /// Asks `hook` for an answer before anything else.
    pub(crate) fn answer_with(
        &self,
        hook: impl Fn(&str, &str) -> Option<Response<Bytes>> + Send + Sync + 'static,
    ) {
        self.state().hook = Some(Arc::new(hook));
    }

    /// How many requests were being answered at the same moment, at most.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state().most
    }

    /// An artifact that refers to `subject`.
    pub(crate) fn artifact(
        &self,
        name: &str,
        tag: Option<&str>,
        subject: &Digest,
        artifact_type: &str,
    ) -> Digest {
        let (media_type, content) = self.state().manifests[subject].clone();
        let subject = descriptor(media_type.as_str(), subject, content.len());
        let config = descriptor(
            "application/vnd.oci.empty.v1+json",
            &self.blob("{}"),
            "{}".len(),
        );
        let layer = format!("{artifact_type} of {subject}");
        let layer = descriptor(artifact_type, &self.blob(layer.clone()), layer.len());
        let content = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","artifactType":"{artifact_type}","config":{config},"layers":[{layer}],"subject":{subject}}}"#,
            MediaType::OCI_MANIFEST,
        );
        self.manifest(name, tag, &MediaType::OCI_MANIFEST, content)
    }

    /// All tokens given out so far expire.
    pub(crate) fn expire_tokens(&self) {
        self.state().tokens.clear();
    }

    pub(crate) fn set_page(&self, tags: usize) {
        self.state().page = Some(tags);
    }

    /// The next request for `path` goes wrong; called again, the one after it too.
    pub(crate) fn fail_once(&self, path: &str, fault: Fault) {
        let mut state = self.state();
        state
            .faults
            .entry(path.to_owned())
            .or_default()
            .push_back(fault);
    }

    /// Every request for `path` goes wrong.
    pub(crate) fn fail(&self, path: &str, fault: Fault) {
        self.state().lasting.insert(path.to_owned(), fault);
    }

    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.lasting.clear();
    }

    /// Takes the log, and starts a new one.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }

    /// How often a request of this method for a path with this end was made.
    pub(crate) fn count(&self, method: &str, end: &str) -> usize {
        let state = self.state();
        let matches = |line: &&String| line.starts_with(method) && line.ends_with(end);
        state.log.iter().filter(matches).count()
    }

    /// How many requests carried a login or token.
    pub(crate) fn authorized(&self) -> usize {
        self.state().authorized
    }

    /// How many blobs were asked for at the same moment, at most.
    pub(crate) fn busiest(&self) -> usize {
        self.state().blobs_most
    }

    pub(crate) fn blob(&self, content: impl Into<Bytes>) -> Digest {
        self.blob_as(Algorithm::Sha256, content)
    }

    pub(crate) fn blob_as(&self, algorithm: Algorithm, content: impl Into<Bytes>) -> Digest {
        let content = content.into();
        let digest = algorithm.digest(&content);
        self.state().blobs.insert(digest, content);
        digest
    }

    /// A manifest under a tag, if any.
    pub(crate) fn manifest(
        &self,
        name: &str,
        tag: Option<&str>,
        media_type: &MediaType,
        content: String,
    ) -> Digest {
        self.manifest_as(Algorithm::Sha256, name, tag, media_type, content)
    }

    pub(crate) fn manifest_as(
        &self,
        algorithm: Algorithm,
        name: &str,
        tag: Option<&str>,
        media_type: &MediaType,
        content: String,
    ) -> Digest {
        let digest = algorithm.digest(content.as_bytes());
        let mut state = self.state();
        state
            .manifests
            .insert(digest, (media_type.clone(), content.into()));
        let tags = state.tags.entry(name.to_owned()).or_default();
        if let Some(tag) = tag {
            tags.insert(tag.to_owned(), digest);
        }
        digest
    }

    /// Points a tag at a manifest that is there.
    pub(crate) fn tag(&self, name: &str, tag: &str, target: &Digest) {
        let mut state = self.state();
        let tags = state.tags.entry(name.to_owned()).or_default();
        tags.insert(tag.to_owned(), *target);
    }

    /// Takes a tag away.
    pub(crate) fn untag(&self, name: &str, tag: &str) {
        self.state().tags.get_mut(name).unwrap().remove(tag);
    }

    /// Takes a manifest away.
    pub(crate) fn delete(&self, digest: &Digest) {
        self.state().manifests.remove(digest);
    }

    /// An image of these layers, with a config of its own.
    pub(crate) fn image(&self, name: &str, tag: Option<&str>, layers: &[&[u8]]) -> Digest {
        let config = format!(r#"{{"name":"{name}","tag":{tag:?}}}"#)
            .replace("Some(", "")
            .replace(')', "");
        let descriptors: Vec<_> = layers
            .iter()
            .map(|layer| {
                let digest = self.blob(layer.to_vec());
                descriptor(
                    "application/vnd.oci.image.layer.v1.tar",
                    &digest,
                    layer.len(),
                )
            })
            .collect();
        let config_descriptor = descriptor(
            "application/vnd.oci.image.config.v1+json",
            &self.blob(config.clone()),
            config.len(),
        );
        let content = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{config_descriptor},"layers":[{}]}}"#,
            MediaType::OCI_MANIFEST,
            descriptors.join(",")
        );
        self.manifest(name, tag, &MediaType::OCI_MANIFEST, content)
    }

    /// An index of images that are there already, each with its platform.
    pub(crate) fn index(
        &self,
        name: &str,
        tag: Option<&str>,
        children: &[(Digest, &str)],
    ) -> Digest {
        let children: Vec<_> = children
            .iter()
            .map(|(digest, platform)| {
                let (media_type, content) = self.state().manifests[digest].clone();
                let plain = descriptor(media_type.as_str(), digest, content.len());
                match platform.split_once('/') {
                    None => plain,
                    Some((os, architecture)) => plain.replacen(
                        '{',
                        &format!(
                            r#"{{"platform":{{"os":"{os}","architecture":"{architecture}"}},"#
                        ),
                        1,
                    ),
                }
            })
            .collect();
        let content = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            MediaType::OCI_INDEX,
            children.join(",")
        );
        self.manifest(name, tag, &MediaType::OCI_INDEX, content)
    }
}

/// A descriptor as JSON.
pub(crate) fn descriptor(media_type: &str, digest: &Digest, size: usize) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

impl State {
    /// The answer of the token service.
    fn new_token(&mut self) -> String {
        let token = format!("token-{}", TOKENS.fetch_add(1, Ordering::Relaxed));
        self.tokens.insert(token.clone());
        match self.token_life {
            None => format!(r#"{{"token":"{token}"}}"#),
            Some(seconds) => format!(r#"{{"access_token":"{token}","expires_in":{seconds}}}"#),
        }
    }
}

async fn counted(
    request: &Request<Bytes>,
    state: &Arc<Mutex<State>>,
    address: SocketAddr,
) -> Response<Body> {
    {
        let mut state = state.lock().unwrap();
        state.now += 1;
        state.most = state.most.max(state.now);
    }
    let response = answer(request, state, address).await;
    state.lock().unwrap().now -= 1;
    response
}

async fn answer(
    request: &Request<Bytes>,
    state: &Arc<Mutex<State>>,
    address: SocketAddr,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let (fault, refusal) = {
        let mut state = state.lock().unwrap();
        state.log.push(format!("{} {path}", request.method()));
        state.authorized += usize::from(request.headers().contains_key(header::AUTHORIZATION));
        let queued = state.faults.get_mut(&path).and_then(VecDeque::pop_front);
        let fault = queued.or_else(|| state.lasting.get(&path).cloned());
        (fault, authenticate(request, &mut state, address))
    };
    let hook = state.lock().unwrap().hook.clone();
    if let Some(response) = hook.and_then(|hook| hook(&path, request.uri().query().unwrap_or(""))) {
        return response.map(|body| Full::new(body).map_err(|never| match never {}).boxed());
    }
    if let Some(response) = refusal
        && (path != "/token" || fault.is_none())
    {
        return response;
    }
    match &fault {
        Some(Fault::Answer(status, media_type, body)) => {
            let mut response = respond(StatusCode::from_u16(*status).unwrap(), body);
            let media_type = HeaderValue::from_static(media_type);
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, media_type);
            return response;
        }
        Some(Fault::Status(status, fields)) => {
            let body = r#"{"errors":[{"code":"FAULT","message":"as you wished"}]}"#;
            let mut response = respond(StatusCode::from_u16(*status).unwrap(), body);
            for (name, value) in fields {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
            return response;
        }
        Some(Fault::Slow(time)) => {
            if path.contains("/blobs/") {
                let mut state = state.lock().unwrap();
                state.blobs_now += 1;
                state.blobs_most = state.blobs_most.max(state.blobs_now);
            }
            tokio::time::sleep(*time).await;
            if path.contains("/blobs/") {
                state.lock().unwrap().blobs_now -= 1;
            }
        }
        _ => {}
    }
    if path == "/token" {
        let token = state.lock().unwrap().new_token();
        let digest = Algorithm::Sha256.digest(b"");
        return content_response(request, &digest, None, token.into(), fault.as_ref());
    }
    let rest = path.strip_prefix("/v2/").unwrap_or_default();
    if let Some((_, digest)) = rest.split_once("/referrers/")
        && state.lock().unwrap().referrers
    {
        return referrers(request, digest, &state.lock().unwrap());
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        if let Some(Fault::Endless) = fault {
            let start = stream::iter([Ok(Frame::data(Bytes::from(r#"{"tags":["a""#)))]);
            let block = Bytes::from(r#","a""#.repeat(16 << 10));
            let rest = stream::repeat_with(move || Ok(Frame::data(block.clone())));
            let frames = futures_util::StreamExt::chain(start, rest);
            return Response::new(BodyExt::boxed(StreamBody::new(frames)));
        }
        let mut response = tags(request, name, &state.lock().unwrap());
        if let Some(Fault::Header(name, value)) = fault {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        return response;
    }
    if let Some((name, reference)) = rest.split_once("/manifests/") {
        let found = {
            let state = state.lock().unwrap();
            let digest = match reference.parse::<Digest>() {
                Ok(digest) => Some(digest),
                Err(_) => state
                    .tags
                    .get(name)
                    .and_then(|tags| tags.get(reference))
                    .copied(),
            };
            digest.and_then(|digest| Some((digest, state.manifests.get(&digest)?.clone())))
        };
        let accepted = request
            .headers()
            .get_all(header::ACCEPT)
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect::<Vec<_>>();
        return match found {
            Some((digest, (media_type, content))) if accepted.contains(&media_type.to_string()) => {
                content_response(request, &digest, Some(&media_type), content, fault.as_ref())
            }
            _ => respond(
                StatusCode::NOT_FOUND,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#,
            ),
        };
    }
    if let Some((_, digest)) = rest.split_once("/blobs/") {
        let found = digest
            .parse::<Digest>()
            .ok()
            .and_then(|digest| Some((digest, state.lock().unwrap().blobs.get(&digest)?.clone())));
        return match found {
            Some((digest, content)) => {
                // Long enough for a second request to come while the first is under way.
                tokio::time::sleep(Duration::from_millis(5)).await;
                content_response(request, &digest, None, content, fault.as_ref())
            }
            None => respond(
                StatusCode::NOT_FOUND,
                r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#,
            ),
        };
    }
    if rest.is_empty() {
        return respond(StatusCode::OK, "{}");
    }
    respond(StatusCode::NOT_FOUND, "what?")
}

fn authenticate(
    request: &Request<Bytes>,
    state: &mut State,
    address: SocketAddr,
) -> Option<Response<Body>> {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(|value| value.to_str().unwrap().to_owned());
    let basic = |(user, password): (&str, &str)| {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        format!("Basic {pair}")
    };
    let challenge = state.challenge.clone();
    let refuse = |usual: String| {
        let mut response = respond(
            StatusCode::UNAUTHORIZED,
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"log in"}]}"#,
        );
        for field in challenge.clone().unwrap_or_else(|| vec![usual.clone()]) {
            response
                .headers_mut()
                .append(header::WWW_AUTHENTICATE, field.parse().unwrap());
        }
        response
    };
    if request.uri().path() == "/token" {
        state.token_requests.push(TokenRequest {
            method: request.method().clone(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            authorization: given.clone(),
            body: String::from_utf8(request.body().to_vec()).unwrap(),
        });
    } else if !request.uri().path().contains(state.guarded) {
        return None;
    }
    match state.auth.clone() {
        Auth::None => None,
        Auth::Identity(token) if request.uri().path() == "/token" => {
            let body = String::from_utf8_lossy(request.body()).into_owned();
            if !body
                .split('&')
                .any(|pair| pair == format!("refresh_token={token}"))
            {
                return Some(respond(StatusCode::UNAUTHORIZED, &body));
            }
            Some(respond(StatusCode::OK, &state.new_token()))
        }
        Auth::Basic(user, password) => (given != Some(basic((user, password))))
            .then(|| refuse(r#"Basic realm="fake""#.to_owned())),
        Auth::Bearer(login) if request.uri().path() == "/token" => {
            if login.is_some_and(|login| given != Some(basic(login))) {
                return Some(respond(StatusCode::UNAUTHORIZED, "wrong password"));
            }
            Some(respond(StatusCode::OK, &state.new_token()))
        }
        Auth::Bearer(_) | Auth::Identity(_) => {
            let token = given
                .as_deref()
                .and_then(|given| given.strip_prefix("Bearer "));
            let known = token.is_some_and(|token| state.tokens.contains(token));
            (!known).then(|| {
                refuse(format!(
                    r#"Bearer realm="http://{address}/token",service="fake""#
                ))
            })
        }
    }
}

fn tags(request: &Request<Bytes>, name: &str, state: &State) -> Response<Body> {
    let Some(tags) = state.tags.get(name) else {
        return respond(
            StatusCode::NOT_FOUND,
            r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#,
        );
    };
    if tags.is_empty() {
        return respond(
            StatusCode::OK,
            &format!(r#"{{"name":"{name}","tags":null}}"#),
        );
    }
    let last = request
        .uri()
        .query()
        .and_then(|query| query.strip_prefix("last="))
        .unwrap_or_default();
    let mut rest = tags.keys().filter(|tag| tag.as_str() > last);
    let page: Vec<_> = rest
        .by_ref()
        .take(state.page.unwrap_or(usize::MAX))
        .collect();
    let more = rest.next().is_some();
    // In the wrong order, as distribution gives them.
    let names: Vec<_> = page.iter().rev().map(|tag| format!("{tag:?}")).collect();
    let body = format!(r#"{{"name":"{name}","tags":[{}]}}"#, names.join(","));
    let mut response = respond(StatusCode::OK, &body);
    if more {
        let link = format!(
            r#"</v2/{name}/tags/list?last={}>; rel="next""#,
            page[page.len() - 1]
        );
        response
            .headers_mut()
            .insert(header::LINK, link.parse().unwrap());
    }
    response
}

/// The manifests with this subject, as the specification lists them.
fn referrers(request: &Request<Bytes>, digest: &str, state: &State) -> Response<Body> {
    let mut found: Vec<_> = state
        .manifests
        .iter()
        .filter_map(|(own, (media_type, content))| {
            let manifest: serde_json::Value = serde_json::from_slice(content).ok()?;
            (manifest["subject"]["digest"] == digest).then(|| {
                let mut entry = serde_json::json!({
                    "mediaType": media_type.as_str(),
                    "digest": own.to_string(),
                    "size": content.len(),
                });
                if let Some(artifact_type) = manifest.get("artifactType") {
                    entry["artifactType"] = artifact_type.clone();
                }
                (own.to_string(), entry)
            })
        })
        .collect();
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    let after = request
        .uri()
        .query()
        .and_then(|query| query.strip_prefix("after="))
        .unwrap_or_default();
    let mut rest = found.into_iter().filter(|(own, _)| own.as_str() > after);
    let page: Vec<_> = rest
        .by_ref()
        .take(state.page.unwrap_or(usize::MAX))
        .collect();
    let last = page.last().map(|(own, _)| own.clone());
    let entries: Vec<_> = page.into_iter().map(|(_, entry)| entry).collect();
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_INDEX.as_str(),
        "manifests": entries,
    });
    let mut response = respond(StatusCode::OK, &index.to_string());
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
    headers.insert(header::CONTENT_TYPE, media_type);
    if let Some(last) = last.filter(|_| rest.next().is_some()) {
        let link = format!(r#"<{}?after={last}>; rel="next""#, request.uri().path());
        headers.insert(header::LINK, link.parse().unwrap());
    }
    response
}

fn content_response(
    request: &Request<Bytes>,
    digest: &Digest,
    media_type: Option<&MediaType>,
    content: Bytes,
    fault: Option<&Fault>,
) -> Response<Body> {
    let mut content = match fault {
        Some(Fault::WrongByte) => {
            let mut bytes = content.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            bytes.into()
        }
        Some(Fault::Short(bytes)) => content.slice(..content.len() - *bytes),
        _ => content,
    };
    let total = content.len();
    let offset = request
        .headers()
        .get(header::RANGE)
        .filter(|_| {
            !matches!(
                fault,
                Some(Fault::IgnoreRange | Fault::TruncateFromStart(_))
            )
        })
        .and_then(|range| {
            let text = range.to_str().unwrap();
            text.strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse::<usize>()
                .ok()
        });
    let mut response = Response::new(empty());
    let headers = response.headers_mut();
    if let Some(offset) = offset {
        content = content.slice(offset..);
        let range = format!("bytes {offset}-{}/{total}", total - 1);
        headers.insert(header::CONTENT_RANGE, range.parse().unwrap());
    }
    let length = match fault {
        Some(Fault::HugeLength) => 1 << 30,
        _ => content.len(),
    };
    if !matches!(fault, Some(Fault::Endless)) {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    headers.insert("docker-content-digest", digest.to_string().parse().unwrap());
    let media_type = media_type.map_or("application/octet-stream", MediaType::as_str);
    headers.insert(header::CONTENT_TYPE, media_type.parse().unwrap());
    match fault {
        Some(Fault::Header(name, value)) => {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        Some(Fault::NoHeader(name)) => {
            headers.remove(*name);
        }
        _ => {}
    }
    if offset.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    if request.method() == Method::HEAD {
        return response;
    }
    *response.body_mut() = match fault {
        Some(Fault::Trickle(pause)) => {
            let pause = *pause;
            let frames = stream::unfold(content, move |mut rest| async move {
                tokio::time::sleep(pause).await;
                let byte = rest.split_to(rest.len().min(1));
                (!byte.is_empty()).then(|| (Ok(Frame::data(byte)), rest))
            });
            BodyExt::boxed(StreamBody::new(frames))
        }
        Some(Fault::Truncate(bytes) | Fault::TruncateFromStart(bytes)) => {
            breaking(content.slice(..(*bytes).min(content.len())))
        }
        Some(Fault::HugeLength) => breaking(content),
        Some(Fault::Stall) => {
            let half = content.slice(..content.len() / 2);
            let frames = stream::iter([Ok(Frame::data(half))]);
            let frames = futures_util::StreamExt::chain(frames, stream::pending());
            BodyExt::boxed(StreamBody::new(frames))
        }
        Some(Fault::Endless) => {
            let block = Bytes::from(vec![0; 64 << 10]);
            let frames = stream::repeat_with(move || Ok(Frame::data(block.clone())));
            BodyExt::boxed(StreamBody::new(frames))
        }
        _ => Full::new(content).map_err(|never| match never {}).boxed(),
    };
    response
}

/// These bytes, then the connection is closed.
fn breaking(bytes: Bytes) -> Body {
    // Sent in parts with a breath between, so that what was sent is received before the break.
    let frames = stream::unfold((bytes, false), |(mut rest, done)| async move {
        if done {
            return None;
        }
        if rest.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Some((
                Err(std::io::ErrorKind::ConnectionReset.into()),
                (rest, true),
            ));
        }
        let part = rest.split_to(rest.len().min(256 << 10));
        Some((Ok(Frame::data(part)), (rest, false)))
    });
    BodyExt::boxed(StreamBody::new(frames))
}

fn respond(status: StatusCode, body: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_owned()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed()
}
