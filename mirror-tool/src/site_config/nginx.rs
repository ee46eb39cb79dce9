//! A site of nginx.

use super::{HostName, Place};

/// The site of a mirror; with a directory of files for direct pulls, it answers those too.
pub(super) fn site(tree: &Place, host: &HostName, pulls: Option<&Place>) -> String {
    let pulls = pulls.map_or_else(String::new, direct_pulls);
    format!(
        r#"# A mirror of container images. For /etc/nginx/sites-enabled or /etc/nginx/conf.d; `certbot --nginx` adds TLS.
# {connections} connections of one address at a time: a pull takes one for each layer, and many clients may share an address.
limit_conn_zone $binary_remote_addr zone={host}:10m;
# With what was really sent, and which part was asked for.
log_format {host} '$remote_addr - $remote_user [$time_local] "$request" $status $bytes_sent '
                  '"$http_referer" "$http_user_agent" "$http_range" $request_length';

server {{
    listen 80;
    listen [::]:80;
    server_name {host};
    root "{tree}";
    access_log /var/log/nginx/{host}.log {host};

    # Crawlers and clients ask for many small things in a row.
    keepalive_timeout 5s;
    keepalive_requests 1000;
    limit_conn {host} {connections};
    limit_conn_status 429;
    # Blobs have been compressed, and are wrong if they are compressed again.
    gzip off;

    # What rsync has not finished.
    location ~ /\.~tmp~(?:/|$) {{
        return 404;
    }}
    # Named by its digest: never changes.
    location ~ ^/(?:(?:blobs|pieces)/sha(?:256|512)/[0-9a-f][0-9a-f]|repos/.+/blobs/sha(?:256|512))/[0-9a-f]+$ {{
        types {{ }}
        default_type application/octet-stream;
        add_header Cache-Control "public, max-age=31536000, immutable";
    }}
    # The rest does.
    location / {{
        add_header Cache-Control "max-age=0, must-revalidate";
    }}
{pulls}}}
"#,
        connections = super::CONNECTIONS,
    )
}

/// Answers of the registry API from files: what they are is told by their extension, which nobody asks for.
fn direct_pulls(directory: &Place) -> String {
    let types = super::static_v2::EXTENSIONS
        .map(|(media_type, extension)| format!("            {media_type} {extension};\n"));
    let tried = super::static_v2::EXTENSIONS.map(|(_, extension)| {
        format!("                  /$repository/_manifests/$reference.{extension}\n")
    });
    let (types, tried) = (types.concat(), tried.concat());
    format!(
        r#"
    # Pulls without a front end. Clients want TLS for this.
    location = /v2/ {{
        default_type application/json;
        add_header Docker-Distribution-API-Version registry/2.0 always;
        return 200 '{{}}';
    }}
    location ~ ^/v2/(?<repository>.+)/manifests/(?<reference>[^/]+)$ {{
        root "{directory}";
        types {{
{types}        }}
        try_files
{tried}                  =404;
        # The time and the length of what a tag stood for tell nobody that it has moved.
        etag off;
        if_modified_since off;
        add_header Last-Modified "";
        add_header Docker-Distribution-API-Version registry/2.0;
        add_header Cache-Control "max-age=0, must-revalidate";
    }}
    # By repository: what one has, another need not show.
    location ~ ^/v2/(?<repository>.+)/blobs/(?<algorithm>sha256|sha512):(?<hex>[0-9a-f]+)$ {{
        types {{ }}
        default_type application/octet-stream;
        try_files /repos/$repository/blobs/$algorithm/$hex =404;
        add_header Docker-Distribution-API-Version registry/2.0;
        add_header Cache-Control "public, max-age=31536000, immutable";
    }}
    location ~ ^/v2/(?<repository>.+)/tags/list$ {{
        root "{directory}";
        types {{ }}
        default_type application/json;
        try_files /$repository/_tags =404;
        etag off;
        if_modified_since off;
        add_header Last-Modified "";
        add_header Docker-Distribution-API-Version registry/2.0;
        add_header Cache-Control "max-age=0, must-revalidate";
    }}
    location /v2/ {{
        return 404;
    }}
"#
    )
}
