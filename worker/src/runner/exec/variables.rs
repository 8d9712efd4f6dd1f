//! Which variables of the worker's environment programs see.
//!
//! Few: what any program needs to start and to find its files, and what says how this machine is to be used. The
//! rest, such as the keys of the object store, is the worker's own.

use std::ffi::{OsStr, OsString};

use crate::config::VariablePattern;

/// What every program sees where the worker has it. None of them holds a secret; addresses of proxies may, and are
/// not among them.
const BASE: &[&str] = &[
    // To start and to find its files.
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    // Its language and its clock.
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    // The environment in which the worker was started: `python` is found by PATH, packages by these.
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    // Where an image or a module keeps the libraries of CUDA and of its driver: what trains when it is started by
    // hand there would not be loaded without it.
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    // By which network card ranks meet, and whom TLS trusts here.
    "NCCL_*",
    "GLOO_SOCKET_IFNAME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    // Somebody has decided it already.
    "PYTHONUNBUFFERED",
];

/// What of an environment a program sees, with what the worker was told to pass on.
pub(super) fn passed(
    environment: impl Iterator<Item = (OsString, OsString)>,
    more: &[VariablePattern],
) -> Vec<(OsString, OsString)> {
    let passed = environment.filter(|(name, _)| is_passed(name, more));
    passed.collect()
}

fn is_passed(name: &OsStr, more: &[VariablePattern]) -> bool {
    // One that is no text is nobody's on purpose.
    let Some(name) = name.to_str() else {
        return false;
    };
    let base = BASE.iter().any(|known| match known.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == *known,
    });
    base || more.iter().any(|pattern| pattern.matches(name))
}

/// A variable of an environment that a text speaks of and that a program does not see: it may be what it lacks.
pub(super) fn withheld(
    text: &str,
    mut environment: impl Iterator<Item = (OsString, OsString)>,
    more: &[VariablePattern],
) -> Option<String> {
    let words = text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    // `HOME_DIR` is a name, `I` and `KEY` are words.
    let mut words: Vec<&str> = words.filter(|word| word.contains('_')).collect();
    // A module that another program of the worker finds.
    if text.contains("No module named") {
        words.push("PYTHONPATH");
    }
    let found = environment.find(|(name, _)| {
        let known = name.to_str().is_some_and(|name| words.contains(&name));
        known && !is_passed(name, more)
    });
    Some(found?.0.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> impl Iterator<Item = (OsString, OsString)> {
        let all = [
            "PATH",
            "LC_ALL",
            "AWS_SECRET_ACCESS_KEY",
            "GOOGLE_SERVICE_ACCOUNT_KEY",
            "AZURE_STORAGE_KEY",
            "HTTPS_PROXY",
            "TRAINYARD_COORDINATOR",
            "TRAINYARD_TOKEN",
            "HF_HOME",
            "HF_TOKEN",
            "LCX",
            "CUDA_VISIBLE_DEVICES",
        ];
        all.into_iter().map(|name| (name.into(), "v".into()))
    }

    fn seen(more: &[&str]) -> Vec<String> {
        let more: Vec<VariablePattern> = more.iter().map(|text| text.parse().unwrap()).collect();
        let names = passed(environment(), &more).into_iter();
        names.map(|(name, _)| name.into_string().unwrap()).collect()
    }

    #[test]
    fn programs_see_what_they_need_and_what_is_named() {
        let base = ["PATH", "LC_ALL", "CUDA_VISIBLE_DEVICES"];
        assert_eq!(seen(&[]), base);
        let one = ["PATH", "LC_ALL", "HF_HOME", "CUDA_VISIBLE_DEVICES"];
        assert_eq!(seen(&["HF_HOME"]), one);
        let all = [
            "PATH",
            "LC_ALL",
            "HF_HOME",
            "HF_TOKEN",
            "CUDA_VISIBLE_DEVICES",
        ];
        assert_eq!(seen(&["HF_*"]), all);
        // Everything is not Trainyard's own, which somebody has to name.
        let everything = seen(&["*"]);
        assert_eq!(
            everything.len(),
            environment().count() - 2,
            "{everything:?}"
        );
        assert!(!everything.iter().any(|name| name.starts_with("TRAINYARD_")));
        let named = seen(&["*", "TRAINYARD_COORDINATOR"]);
        assert_eq!(named.len(), environment().count() - 1, "{named:?}");
    }

    #[test]
    fn what_a_program_lacks_is_recognised_by_its_name() {
        let lacks = |text: &str, more: &[&str]| {
            let more: Vec<VariablePattern> =
                more.iter().map(|text| text.parse().unwrap()).collect();
            withheld(text, environment(), &more)
        };
        let error = "KeyError: 'HF_TOKEN'";
        assert_eq!(lacks(error, &[]).as_deref(), Some("HF_TOKEN"));
        assert_eq!(lacks(error, &["HF_*"]), None);
        for other in ["KeyError: 'WANDB_API_KEY'", "bad PATH", "LC_ALL", "", "LCX"] {
            assert_eq!(lacks(other, &[]), None, "{other}");
        }
    }
}
