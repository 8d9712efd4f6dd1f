//! A data directory that lies elsewhere than when its records were written: copied, moved or mounted anew.
//!
//! Checkpoints that lie in the directory have gone along with it, so that records follow. A copy that kept
//! naming the original's would delete them.

/// From where a directory has come to where it is: URLs without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster) struct Moved {
    pub(in crate::cluster) from: String,
    pub(in crate::cluster) to: String,
}

impl Moved {
    /// Lets a URL that lay in the directory follow it; tells whether it did.
    pub(in crate::cluster) fn follow(&self, url: &mut String) -> bool {
        let below = url.strip_prefix(self.from.as_str());
        let below = below.filter(|below| below.is_empty() || below.starts_with('/'));
        let Some(followed) = below.map(|below| format!("{}{below}", self.to)) else {
            return false;
        };
        *url = followed;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_directory_follows_and_nothing_else() {
        let moved = Moved {
            from: "file:///a/d".to_owned(),
            to: "file:///b".to_owned(),
        };
        let cases = [
            (
                "file:///a/d/checkpoints/j-1",
                Some("file:///b/checkpoints/j-1"),
            ),
            ("file:///a/d", Some("file:///b")),
            ("file:///a/data/checkpoints", None),
            ("file:///a", None),
            ("s3://bucket/a/d/checkpoints", None),
        ];
        for (given, expected) in cases {
            let mut url = given.to_owned();
            assert_eq!(moved.follow(&mut url), expected.is_some(), "{given}");
            assert_eq!(url, expected.unwrap_or(given));
        }
    }
}
