//! Reads the URL of a store, and prints it without secrets.

use std::fmt;
use std::path::PathBuf;

use hpkp_core::text::Excerpt;
use url::Url;

/// The place of a store.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A directory.
    Directory(PathBuf),
    /// A repository, with its URL for git.
    Git(Url),
    /// A database.
    Postgres(Url),
    /// A bucket and the prefix of the names in it.
    Objects(Url),
}

/// Why a text is not the URL of a store. The text may contain a password, so no message repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("invalid STORE: not a URL")]
    Malformed,
    #[error(
        "invalid STORE: expected file://, git+ssh://, git+https://, git+file://, postgres://, s3://, gs:// or \
        az://"
    )]
    Scheme,
    #[error("invalid STORE: expected an absolute path without a host, such as file:///srv/hpkp")]
    Path,
    #[error("invalid STORE: the host or the bucket is missing")]
    Host,
    #[error(
        "STORE contains a password, which other users of this machine can read on the command line; to fix: \
        change the password, and put the URL into a file (--store-file), or the password into the environment \
        (HPKP_STORE, PGPASSWORD)"
    )]
    Password,
    /// A password for git, which passes URLs to other programs on command lines that every user can read.
    #[error(
        "STORE contains a password or a token, which git shows to other users of this machine; to fix: change it, \
        and use an SSH key, or git's credential helper for https"
    )]
    GitPassword,
}

impl Place {
    /// Reads a URL. With `is_public`, other users could read the text, so it must not contain a password.
    pub(crate) fn parse(text: &str, is_public: bool) -> Result<Self, PlaceError> {
        let url = Url::parse(text.trim()).map_err(|_| PlaceError::Malformed)?;
        let has_secret = url.password().is_some()
            || url.query_pairs().any(|(name, _)| {
                let words = ["password", "secret", "token", "key"];
                // The value names a file with a key and is no secret.
                name != "sslkey" && words.iter().any(|word| name.contains(word))
            });
        // With https, a token is usually in the place of the user.
        let has_token = url.scheme() == "git+https" && !url.username().is_empty();
        if url.scheme().starts_with("git+") && (has_secret || has_token) {
            return Err(PlaceError::GitPassword);
        }
        if is_public && has_secret {
            return Err(PlaceError::Password);
        }
        let host = || url.host_str().filter(|host| !host.is_empty()).ok_or(PlaceError::Host);
        match url.scheme() {
            "file" => Ok(Self::Directory(url.to_file_path().map_err(|()| PlaceError::Path)?)),
            "git+file" => {
                let plain = Url::parse(&url.as_str()["git+".len()..]);
                let plain = plain.map_err(|_| PlaceError::Malformed)?;
                plain.to_file_path().map_err(|()| PlaceError::Path)?;
                Ok(Self::Git(plain))
            }
            "git+ssh" | "git+https" => {
                host()?;
                let plain = Url::parse(&url.as_str()["git+".len()..]);
                Ok(Self::Git(plain.map_err(|_| PlaceError::Malformed)?))
            }
            // The host may be missing: then the parameter "host" names the directory of PostgreSQL's socket.
            "postgres" | "postgresql" => Ok(Self::Postgres(url)),
            "s3" | "gs" | "az" => host().map(|_| Self::Objects(url.clone())),
            _ => Err(PlaceError::Scheme),
        }
    }

    /// The URL without secrets.
    fn public(&self) -> String {
        let without = |url: &Url| {
            let mut url = url.clone();
            // These calls fail for URLs that cannot have a user or a password.
            let _ = url.set_password(None);
            if url.scheme() == "https" {
                let _ = url.set_username("");
            }
            if !matches!(self, Self::Postgres(_)) {
                url.set_query(None);
            } else if url.query().is_some() {
                let kept: Vec<(String, String)> = url
                    .query_pairs()
                    .filter(|(name, _)| matches!(&**name, "host" | "port" | "dbname" | "sslmode"))
                    .map(|(name, value)| (name.into_owned(), value.into_owned()))
                    .collect();
                url.set_query(None);
                if !kept.is_empty() {
                    url.query_pairs_mut().extend_pairs(kept);
                }
            }
            url
        };
        match self {
            Self::Directory(path) => format!("file://{}", path.display()),
            Self::Git(url) => format!("git+{}", without(url)),
            Self::Postgres(url) | Self::Objects(url) => without(url).into(),
        }
    }
}

/// Without secrets and without terminal control characters.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Excerpt::new(&self.public()).fmt(f)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_neither_taken_from_the_command_line_nor_printed() {
        for text in [
            "postgres://u:hunter2@db/hpkp",
            "postgres://u@db/hpkp?password=hunter2",
            "s3://hunter:hunter2@bucket/p",
            "s3://bucket/p?secret_access_key=hunter2",
        ] {
            assert_eq!(Place::parse(text, true), Err(PlaceError::Password), "{text}");
            let place = Place::parse(text, false).unwrap();
            assert!(!format!("{place} {place:?}").contains("hunter2"), "{place}");
        }
        for text in
            ["git+https://hunter2@example.com/x.git", "git+ssh://u:hunter2@example.com/x.git"]
        {
            assert_eq!(Place::parse(text, false), Err(PlaceError::GitPassword), "{text}");
        }
    }

    #[test]
    fn urls_of_stores_are_parsed_and_printed_without_secrets() {
        let printed = |text| Place::parse(text, true).map(|place| place.to_string());
        assert_eq!(printed("file:///srv/a%20b").as_deref(), Ok("file:///srv/a b"));
        for text in [
            "git+ssh://hpkp@example.com:2222/srv/hpkp.git",
            "git+file:///srv/hpkp.git",
            "git+https://example.com/hpkp.git",
            "postgres://web1@db.example.com/hpkp",
            "postgres:///hpkp?host=%2Frun%2Fpostgresql",
            "s3://bucket/prefix",
            "gs://bucket/prefix",
            "az://container/prefix",
        ] {
            assert_eq!(printed(text).as_deref(), Ok(text));
        }
        let with_key = "postgres://u@db/x?sslcert=/a.crt&sslkey=/a.key";
        assert_eq!(printed(with_key).as_deref(), Ok("postgres://u@db/x"));
        assert_eq!(printed("file://host/srv"), Err(PlaceError::Path));
        assert_eq!(printed("ftp://host/srv"), Err(PlaceError::Scheme));
        assert_eq!(printed("git+ssh:///srv"), Err(PlaceError::Host));
        assert_eq!(printed("/srv"), Err(PlaceError::Malformed));
    }
}
