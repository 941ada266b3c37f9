//! URLs to listen on and to advertise, with the rules of etcd's `types.NewURLs`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::golang::quote;

/// URLs in one list beyond which a list is refused.
const URLS_MAX: usize = 1_000;

/// How a listener is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// TCP without TLS.
    Http,
    /// TCP with TLS.
    Https,
    /// A Unix socket without TLS.
    Unix,
    /// A Unix socket with TLS.
    Unixs,
}

impl Scheme {
    /// The name as it stands in a URL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Unix => "unix",
            Self::Unixs => "unixs",
        }
    }

    /// Whether connections carry TLS.
    #[must_use]
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Unixs)
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Http, Self::Https, Self::Unix, Self::Unixs]
            .into_iter()
            .find(|scheme| scheme.name() == name)
    }
}

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// `host:port`. The host is a name or an IP address without brackets, empty in `http://:2379`.
    /// Port 0 lets the system choose.
    Tcp {
        /// Name or IP address.
        host: String,
        /// Port.
        port: u16,
    },
    /// Path of a socket; relative paths count from the working directory, as in etcd.
    Socket(PathBuf),
}

/// A URL of one of the four schemes, without user, path, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenUrl {
    /// How it is reached.
    pub scheme: Scheme,
    /// Where it is.
    pub address: Address,
}

/// A URL that cannot be used. The texts are Go's and etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The text is no URL.
    #[error("parse {}: {reason}", quote(.url))]
    Syntax {
        /// The text.
        url: String,
        /// Why.
        reason: String,
    },
    /// No port.
    #[error("URL address does not have the form \"host:port\": {0}")]
    NoPort(String),
    /// A path behind a TCP address.
    #[error("URL must not contain a path: {0}")]
    HasPath(String),
    /// A user, a query or a fragment, which etcd would ignore.
    #[error("URL must not contain a user, a query or a fragment: {0}")]
    HasExtras(String),
    /// A Unix URL without a path.
    #[error("URL must contain the path of a socket: {0}")]
    NoSocket(String),
    /// Another scheme.
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    /// A list that is too long.
    #[error("more than {URLS_MAX} URLs in one list")]
    TooMany,
    /// A listener needs an address, not a name.
    #[error("expected IP in URL for binding ({0})")]
    NotBindable(String),
    /// Nobody can reach an empty host.
    #[error("unexpected empty host ({0})")]
    EmptyHost(String),
}

impl ListenUrl {
    /// Reads one URL.
    ///
    /// # Errors
    /// Those of etcd's `types.NewURLs`.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let syntax = |reason: &str| UrlError::Syntax {
            url: text.into(),
            reason: reason.into(),
        };
        if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err(syntax("net/url: invalid control character in URL"));
        }
        let (scheme, rest) = split_scheme(text).map_err(syntax)?;
        let known = Scheme::parse(&scheme);
        let Some(authority_and_path) = rest.strip_prefix("//") else {
            return match known {
                _ if scheme.is_empty() && first_segment_has_colon(rest) => {
                    Err(syntax("first path segment in URL cannot contain colon"))
                }
                None => Err(UrlError::Scheme(text.into())),
                Some(Scheme::Http | Scheme::Https) => Err(UrlError::NoPort(text.into())),
                Some(Scheme::Unix | Scheme::Unixs) => Err(UrlError::NoSocket(text.into())),
            };
        };
        let path_start = authority_and_path
            .find('/')
            .unwrap_or(authority_and_path.len());
        let (authority, path) = authority_and_path.split_at(path_start);
        let scheme = known.ok_or_else(|| UrlError::Scheme(text.into()))?;
        if authority.contains('@') || authority_and_path.contains(['?', '#']) {
            return Err(UrlError::HasExtras(text.into()));
        }
        let address = match scheme {
            Scheme::Unix | Scheme::Unixs => parse_socket(text, authority, path)?,
            Scheme::Http | Scheme::Https => parse_tcp(text, authority, path)?,
        };
        Ok(Self { scheme, address })
    }

    /// Reads URLs separated by commas and sorts them by their text, as etcd does: the order in
    /// which URLs are given has no meaning.
    ///
    /// # Errors
    /// Those of the first URL that has one.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, UrlError> {
        if text.matches(',').count() >= URLS_MAX {
            return Err(UrlError::TooMany);
        }
        let mut urls: Vec<Self> = text.split(',').map(Self::parse).collect::<Result<_, _>>()?;
        urls.sort_by_cached_key(Self::to_string);
        Ok(urls)
    }

    /// The host of a TCP address.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match &self.address {
            Address::Tcp { host, .. } => Some(host),
            Address::Socket(_) => None,
        }
    }

    /// Fails unless one can listen there without asking a name server: an IP address, `localhost`
    /// or a socket.
    pub(super) fn check_bindable(&self) -> Result<(), UrlError> {
        match self.host() {
            None | Some("localhost") => Ok(()),
            Some(host) if host.parse::<IpAddr>().is_ok() => Ok(()),
            Some(_) => Err(UrlError::NotBindable(self.to_string())),
        }
    }

    /// Fails unless the URL names a host or a socket.
    pub(super) fn check_reachable(&self) -> Result<(), UrlError> {
        match self.host() {
            Some("") => Err(UrlError::EmptyHost(self.to_string())),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.name();
        match &self.address {
            Address::Socket(path) => write!(f, "{scheme}://{}", path.display()),
            Address::Tcp { host, port } if host.contains(':') => {
                write!(f, "{scheme}://[{}]:{port}", host.replace('%', "%25"))
            }
            Address::Tcp { host, port } => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

/// Scheme in lower case, empty if there is none, and what follows its colon.
fn split_scheme(text: &str) -> Result<(String, &str), &'static str> {
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if position > 0 => {}
            b':' if position == 0 => return Err("missing protocol scheme"),
            b':' => return Ok((text[..position].to_ascii_lowercase(), &text[position + 1..])),
            _ => break,
        }
    }
    Ok((String::new(), text))
}

fn first_segment_has_colon(rest: &str) -> bool {
    let segment = rest.split('/').next().unwrap_or(rest);
    segment.contains(':')
}

/// `unix:///run/x.sock`, or `unix://x.sock:1`, whose whole authority is a relative path.
fn parse_socket(text: &str, authority: &str, path: &str) -> Result<Address, UrlError> {
    if let Some((_, port)) = authority.rsplit_once(':')
        && !port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(invalid_port(text, port));
    }
    let socket = format!("{authority}{path}");
    if socket.is_empty() {
        return Err(UrlError::NoSocket(text.into()));
    }
    Ok(Address::Socket(PathBuf::from(socket)))
}

fn parse_tcp(text: &str, authority: &str, path: &str) -> Result<Address, UrlError> {
    let syntax = |reason: String| UrlError::Syntax {
        url: text.into(),
        reason,
    };
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => split_bracketed(bracketed).map_err(syntax)?,
        None => split_host(authority).map_err(syntax)?,
    };
    let port = match port {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port,
        Some(port) => return Err(invalid_port(text, port)),
        None => return Err(UrlError::NoPort(text.into())),
    };
    if port.is_empty() {
        return Err(UrlError::NoPort(text.into()));
    }
    let port = port.parse().map_err(|_| invalid_port(text, port))?;
    if !path.is_empty() {
        return Err(UrlError::HasPath(text.into()));
    }
    Ok(Address::Tcp { host, port })
}

/// `::1]:2379` after its opening bracket: an IPv6 address, a zone after `%25`, and a port.
fn split_bracketed(bracketed: &str) -> Result<(String, Option<&str>), String> {
    let (host, rest) = bracketed.rsplit_once(']').ok_or("missing ']' in host")?;
    let host = host.replace("%25", "%");
    let address = host.split('%').next().unwrap_or(&host);
    if address.parse::<Ipv4Addr>().is_ok() {
        return Err("invalid IP-literal".to_owned());
    }
    if address.parse::<Ipv6Addr>().is_err() {
        let shown = quote(&host);
        return Err(format!(
            "invalid host: ParseAddr({shown}): unable to parse IP"
        ));
    }
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(format!("invalid port {} after host", quote(rest))),
    }
}

fn split_host(authority: &str) -> Result<(String, Option<&str>), String> {
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if let Some(position) = host.find('%') {
        let escape: String = host[position..].chars().take(3).collect();
        return Err(format!("invalid URL escape {}", quote(&escape)));
    }
    let Some(character) = host
        .chars()
        .find(|&character| !is_host_character(character))
    else {
        return Ok((host.to_owned(), port));
    };
    let shown = quote(&character.to_string());
    Err(format!("invalid character {shown} in host name"))
}

fn invalid_port(text: &str, port: &str) -> UrlError {
    let reason = format!("invalid port {} after host", quote(&format!(":{port}")));
    UrlError::Syntax {
        url: text.into(),
        reason,
    }
}

fn is_host_character(character: char) -> bool {
    character.is_alphanumeric() || "-_.~!$&'()*+,;=".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls_print_as_they_were_given() {
        let table = [
            "http://127.0.0.1:2379",
            "https://localhost:0",
            "http://[::1]:2380",
            "http://[fe80::1%25eth0]:2380",
            "http://:2379",
            "unix:///tmp/d/etcd.sock",
            "unixs:///tmp/etcd.sock",
            "unix://etcd.unix:1",
            "http://infra-0.etcd.svc:2380",
        ];
        for text in table {
            assert_eq!(ListenUrl::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            ListenUrl::parse(" HTTP://a:1 ").unwrap().to_string(),
            "http://a:1"
        );
    }

    #[test]
    fn bad_urls_fail_with_etcds_text() {
        let table = [
            ("", "URL scheme must be http, https, unix, or unixs: "),
            (
                "ftp://a:1",
                "URL scheme must be http, https, unix, or unixs: ftp://a:1",
            ),
            (
                "localhost:2379",
                "URL scheme must be http, https, unix, or unixs: localhost:2379",
            ),
            (
                "127.0.0.1:2379",
                "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon",
            ),
            (":2379", "parse \":2379\": missing protocol scheme"),
            (
                "http://a",
                "URL address does not have the form \"host:port\": http://a",
            ),
            (
                "http://[::1]",
                "URL address does not have the form \"host:port\": http://[::1]",
            ),
            (
                "http:a",
                "URL address does not have the form \"host:port\": http:a",
            ),
            ("http://a:1/", "URL must not contain a path: http://a:1/"),
            ("http://a:1/x", "URL must not contain a path: http://a:1/x"),
            (
                "http://a:b",
                "parse \"http://a:b\": invalid port \":b\" after host",
            ),
            (
                "http://a:1:2",
                "parse \"http://a:1:2\": invalid port \":1:2\" after host",
            ),
            (
                "http://a:65536",
                "parse \"http://a:65536\": invalid port \":65536\" after host",
            ),
            (
                "http://a b:1",
                "parse \"http://a b:1\": invalid character \" \" in host name",
            ),
            (
                "http://[::1:1",
                "parse \"http://[::1:1\": missing ']' in host",
            ),
            (
                "unix://a:m0",
                "parse \"unix://a:m0\": invalid port \":m0\" after host",
            ),
            ("unix://", "URL must contain the path of a socket: unix://"),
            (
                "http://u@a:1",
                "URL must not contain a user, a query or a fragment: http://u@a:1",
            ),
            (
                "http://[zz]:1",
                "parse \"http://[zz]:1\": invalid host: ParseAddr(\"zz\"): unable to parse IP",
            ),
            (
                "http://[1.2.3.4]:1",
                "parse \"http://[1.2.3.4]:1\": invalid IP-literal",
            ),
            (
                "http://a%20b:1",
                "parse \"http://a%20b:1\": invalid URL escape \"%20\"",
            ),
            (
                "http://a:1\n2",
                "parse \"http://a:1\\n2\": net/url: invalid control character in URL",
            ),
        ];
        for (text, want) in table {
            assert_eq!(
                ListenUrl::parse(text).unwrap_err().to_string(),
                want,
                "{text}"
            );
        }
    }

    #[test]
    fn a_list_is_sorted_by_its_text() {
        let urls = ListenUrl::parse_list("http://b:1, http://a:2,http://a:1").unwrap();
        let texts: Vec<String> = urls.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["http://a:1", "http://a:2", "http://b:1"]);
        assert_eq!(
            ListenUrl::parse_list(&",".repeat(1_000)),
            Err(UrlError::TooMany)
        );
    }

    #[test]
    fn only_addresses_and_localhost_can_be_bound() {
        let check = |text: &str| ListenUrl::parse(text).unwrap().check_bindable();
        for good in [
            "http://localhost:1",
            "http://0.0.0.0:1",
            "http://[::]:1",
            "unix://x:1",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let error = check("http://foo:1").unwrap_err().to_string();
        assert_eq!(error, "expected IP in URL for binding (http://foo:1)");
        assert!(check("http://:1").is_err());
    }
}
