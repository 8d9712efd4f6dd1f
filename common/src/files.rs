//! How many files, and so connections, this process may have open.

/// Raises the soft limit to the hard one: the soft limit is low for programs that cannot count beyond 1,024,
/// which this is not. What cannot be changed stays.
pub fn raise() {
    if let Ok((soft, hard)) = rlimit::Resource::NOFILE.get()
        && soft < hard
        && let Err(error) = rlimit::Resource::NOFILE.set(hard, hard)
    {
        tracing::warn!(soft, hard, %error, "the limit of open files could not be raised");
    }
}

/// The present limit, where the system tells it.
pub fn limit() -> Option<u64> {
    let (soft, _) = rlimit::Resource::NOFILE.get().ok()?;
    Some(soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        raise();
        let (soft, hard) = rlimit::Resource::NOFILE.get().unwrap();
        assert_eq!(soft, hard);
        assert_eq!(limit(), Some(hard));
    }
}
