//! A virtual host of Apache httpd.

use super::{HostName, Place};

/// The virtual host of a mirror; with a directory of files for direct pulls, it answers those too.
pub(super) fn site(tree: &Place, host: &HostName, pulls: Option<&Place>) -> String {
    let pulls = pulls.map_or_else(String::new, |directory| direct_pulls(tree, directory));
    format!(
        r#"# A mirror of container images. For /etc/apache2/sites-enabled or /etc/httpd/conf.d, where ${{APACHE_LOG_DIR}} is logs.
# It needs the modules headers and rewrite (a2enmod headers rewrite); `certbot --apache` adds TLS.
<VirtualHost *:80>
    ServerName {host}
    DocumentRoot "{tree}"
    # Crawlers and clients ask for many small things in a row.
    KeepAlive On
    KeepAliveTimeout 5
    MaxKeepAliveRequests 1000
    # With what was really received and sent, and which part was asked for.
    LogFormat "%h %l %u %t \"%r\" %>s %O \"%{{Referer}}i\" \"%{{User-Agent}}i\" \"%{{Range}}i\" %I" {host}
    CustomLog "${{APACHE_LOG_DIR}}/{host}.log" {host}
    # Guesses encodings from content, which would make clients unpack a blob before they verify it.
    <IfModule mod_mime_magic.c>
        MimeMagicFile /dev/null
    </IfModule>
    # A pull takes a connection for each layer, and many clients may share an address.
    <IfModule mod_limitipconn.c>
        <Location "/">
            MaxConnPerIP {connections}
        </Location>
    </IfModule>

    <Directory "{tree}">
        Require all granted
        Options FollowSymLinks
        AllowOverride None
        # Blobs have been compressed, and are wrong if they are compressed again.
        SetEnv no-gzip 1
        SetEnv no-brotli 1
        Header set Cache-Control "max-age=0, must-revalidate"
    </Directory>
    # Named by its digest: never changes.
    <LocationMatch "^/(?:(?:blobs|pieces)/sha(?:256|512)/[0-9a-f]{{2}}|repos/.+/blobs/sha(?:256|512))/[0-9a-f]+$">
        ForceType application/octet-stream
        Header set Cache-Control "public, max-age=31536000, immutable"
    </LocationMatch>
    RewriteEngine On
    RewriteCond %{{REQUEST_METHOD}} !^(?:GET|HEAD)$
    RewriteRule "^" - [R=405,L]
    # What rsync has not finished.
    RewriteRule "/\.~tmp~(?:/|$)" - [R=404,L]
{pulls}</VirtualHost>
"#,
        connections = super::CONNECTIONS,
    )
}

/// Answers of the registry API from files: what they are is told by their extension, which nobody asks for.
fn direct_pulls(tree: &Place, directory: &Place) -> String {
    let rewrites = super::static_v2::EXTENSIONS.map(|(_, extension)| {
        format!(
            r#"    RewriteCond "{directory}/$1/_manifests/$2.{extension}" -f
    RewriteRule "^/v2/(.+)/manifests/([^/]+)$" "{directory}/$1/_manifests/$2.{extension}" [L]
"#
        )
    });
    let types = super::static_v2::EXTENSIONS.map(|(media_type, extension)| {
        format!(
            r#"        <FilesMatch "\.{extension}$">
            ForceType {media_type}
        </FilesMatch>
"#
        )
    });
    let (rewrites, types) = (rewrites.concat(), types.concat());
    format!(
        r#"
    # Pulls without a front end. Clients want TLS for this.
    RewriteRule "^/v2/$" "{directory}/_v2" [L]
{rewrites}    # By repository: what one has, another need not show.
    RewriteRule "^/v2/(.+)/blobs/(sha256|sha512):([0-9a-f]+)$" "{tree}/repos/$1/blobs/$2/$3" [L]
    RewriteRule "^/v2/(.+)/tags/list$" "{directory}/$1/_tags" [L]
    RewriteRule "^/v2/" - [R=404,L]
    <Directory "{directory}">
        Require all granted
        # The links are made by whoever follows the tree.
        Options FollowSymLinks
        AllowOverride None
        SetEnv no-gzip 1
        SetEnv no-brotli 1
        Header set Cache-Control "max-age=0, must-revalidate"
        Header set Docker-Distribution-API-Version registry/2.0
        # The time and the length of what a tag stood for tell nobody that it has moved.
        FileETag None
        RequestHeader unset If-Modified-Since
        Header unset Last-Modified
        # A tag such as 1.0.gz or 1.0.php is no file name.
        SetHandler default-handler
        RemoveEncoding .gz .tgz .Z .bz2 .tbz .xz .txz .br .zst .lz4 .lzma
        ForceType application/json
{types}    </Directory>
    <LocationMatch "^/v2/.+/blobs/">
        ForceType application/octet-stream
        Header set Cache-Control "public, max-age=31536000, immutable"
        Header set Docker-Distribution-API-Version registry/2.0
    </LocationMatch>
"#
    )
}
