//! Where the store is, and as whom it is spoken to: what a URL says.

use std::fmt;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A user of the store and its password: a secret, so without a speaking `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The ACL user; `None` for the default one.
    pub(super) user: Option<String>,
    pub(super) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(redacted)")
    }
}

/// What a URL of the store says: `redis[s]://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// `rediss`, or plaintext `redis`.
    pub tls: bool,
    /// Where it is.
    pub address: Address,
    /// As whom.
    pub login: Option<Login>,
    /// The number of the database.
    pub database: u32,
}

impl Url {
    /// Reads one. User and password are percent-decoded.
    ///
    /// # Errors
    ///
    /// What is wrong, without anything of the text: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str =
            "is no URL as in redis://HOST:PORT or rediss://USER:PASSWORD@HOST:PORT/DATABASE";
        let (tls, rest) = match text.split_once("://") {
            Some(("redis", rest)) => (false, rest),
            Some(("rediss", rest)) => (true, rest),
            _ => return Err(EXPECTED),
        };
        if rest.contains(['?', '#']) {
            return Err("has a query or fragment, which mean nothing here");
        }
        // A password may hold a slash, but no at sign that is not encoded.
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (Some(login), rest),
            None => (None, rest),
        };
        let login = match login {
            None => None,
            Some(login) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                let decoded =
                    |text| decode(text).ok_or("has a user or password with a bad percent sign");
                let (user, password) = (decoded(user)?, decoded(password)?);
                if password.is_empty() {
                    return Err("names a user without a password");
                }
                let user = Some(user).filter(|user| !user.is_empty());
                Some(Login { user, password })
            }
        };
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = match database {
            "" => 0,
            number => number
                .parse()
                .map_err(|_| "has something else than a database's number behind the slash")?,
        };
        Ok(Self {
            tls,
            address: address(place).ok_or("has no valid host or port")?,
            login,
            database,
        })
    }
}

fn address(place: &str) -> Option<Address> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (
                host,
                port.strip_prefix(':')
                    .or(port.is_empty().then_some("6379"))?,
            )
        }
        None => place.split_once(':').unwrap_or((place, "6379")),
    };
    let is_host = !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_:".contains(&b));
    let port = port.parse().ok().filter(|port| *port != 0)?;
    is_host.then(|| Address {
        host: host.to_ascii_lowercase(),
        port,
    })
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        };
        decoded.push(byte);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_user_and_database() {
        let url = Url::parse("rediss://gate%40way:p%2Fa:s@Store.example:6380/2").unwrap();
        assert!(url.tls);
        assert_eq!(url.address.to_string(), "store.example:6380");
        let login = url.login.unwrap();
        assert_eq!(
            (login.user.as_deref(), &*login.password),
            (Some("gate@way"), "p/a:s")
        );
        assert_eq!(url.database, 2);
        let url = Url::parse("redis://:secret@[::1]").unwrap();
        assert_eq!(url.address.to_string(), "[::1]:6379");
        assert_eq!(url.login.unwrap().user, None);
        assert_eq!(Url::parse("redis://127.0.0.1/").unwrap().database, 0);
    }

    #[test]
    fn what_is_no_url_is_told_without_the_text() {
        for bad in [
            "http://store-secret",
            "store-secret",
            "redis://",
            "redis://store-secret:0",
            "redis://store-secret:99999",
            "redis://store-secret/x",
            "redis://store-secret?db=1",
            "redis://secret@host",
            "redis://user:secret%zz@host",
            "redis://[secret]",
            "redis://sec ret",
        ] {
            let error = Url::parse(bad).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
        let url = Url::parse("redis://me:secret@host").unwrap();
        assert!(!format!("{url:?}").contains("secret"));
    }
}
