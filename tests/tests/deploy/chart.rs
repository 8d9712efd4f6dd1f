//! The Helm chart: rendered with several sets of values, checked against the schemas of Kubernetes and
//! against what the programs read.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use trainyard_tests::repository;

use crate::programs::Reads;
use crate::tools::{Tools, chart, documents};

/// One coordinator that keeps everything on its own volume.
fn embedded() -> Value {
    json!({"etcd": {"endpoints": []}, "coordinator": {"replicas": 1}})
}

/// Sets of values that people have, by name.
fn value_sets() -> Vec<(&'static str, Value)> {
    let gpu = json!({"pools": {"cpu": null, "gpu": {
        "replicas": 4, "gpus": 2, "slots": 2, "threadsPerSlot": 8, "runtimeClassName": "nvidia",
        "priorityClassName": "training", "maxUnavailable": "25%",
        "nodeSelector": {"nvidia.com/gpu.present": "true"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }}});
    let gpus_alone = json!({"pools": {"gpu": {"gpus": 1, "slots": 0}}});
    let two_pools = json!({"pools": {"gpu": {"gpus": 1}, "cpu": {"slots": 4, "resources":
        {"requests": {"cpu": "8", "memory": "16Gi"}, "limits": {"memory": "16Gi"}}}}});
    let minio = json!({"storage": {
        "url": "s3://training/trainyard",
        "environment": {"AWS_ENDPOINT": "http://minio.minio.svc:9000", "AWS_REGION": "eu-west-1"},
        "credentials": {"secretName": "minio", "variables": {"AWS_ACCESS_KEY_ID": "user"}},
    }, "image": {"registry": "registry.example.com/ml", "tag": "1.2.3", "pullSecrets": ["registry"]}});
    let no_secret = json!({
        "storage": {"url": "gs://bucket/path", "environment": {}, "credentials": {"secretName": ""}},
        "serviceAccount": {"annotations": {"iam.gke.io/gcp-service-account": "a@b.iam"}},
        "networkPolicy": {"enabled": false},
    });
    let shared_folder = json!({
        "storage": {"url": "file:///shared/checkpoints", "credentials": {"secretName": ""}},
        "worker": {
            "extraVolumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}],
            "extraVolumeMounts": [{"name": "shared", "mountPath": "/shared"}],
            "extraEnv": [{"name": "TRAINYARD_WORKER_NAME", "value": "w"}],
        },
        "coordinator": {"affinity": {"nodeAffinity": {}}, "podAnnotations": {"a": "b"}},
        "serviceAccount": {"create": false, "name": "existing"},
    });
    let etcd = json!({"etcd": {
        "endpoints": ["https://etcd-0.etcd:2379", "https://etcd-1.etcd:2379"], "prefix": "/search/",
        "seriesUrl": "s3://series/here",
        "auth": {"secretName": "etcd", "user": "trainyard", "passwordKey": "password"},
    }, "coordinator": {"replicas": 5}});
    vec![
        ("default", json!({})),
        ("one coordinator without etcd", embedded()),
        ("an etcd that wants to see something", etcd),
        ("gpu", gpu),
        ("gpus alone", gpus_alone),
        ("two pools", two_pools),
        ("an S3 server of one's own", minio),
        ("an identity of the cloud", no_secret),
        ("a shared folder", shared_folder),
    ]
}

/// A list within a document; empty where there is none.
fn list<'a>(document: &'a Value, pointer: &str) -> &'a [Value] {
    let found = document.pointer(pointer).and_then(Value::as_array);
    found.map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.with_context(|| format!("no text at {pointer} of {value:#}"))
}

/// The documents of Deployments and StatefulSets.
fn workloads(rendered: &str) -> Result<Vec<Value>> {
    let mut all = documents(rendered)?;
    all.retain(|document| document.pointer("/spec/template/spec/containers").is_some());
    ensure!(all.len() >= 2, "coordinators and workers: {rendered}");
    Ok(all)
}

/// The one container of a workload: its name is its program's.
fn container(workload: &Value) -> Result<&Value> {
    match list(workload, "/spec/template/spec/containers") {
        [only] => Ok(only),
        others => anyhow::bail!("expected one container: {others:?}"),
    }
}

fn variables(container: &Value) -> BTreeMap<&str, &str> {
    list(container, "/env")
        .iter()
        .filter_map(|entry| {
            let value = entry["value"].as_str().unwrap_or_default();
            Some((entry["name"].as_str()?, value))
        })
        .collect()
}

#[test]
fn every_set_of_values_renders_to_valid_manifests() -> Result<()> {
    let Some(tools) = Tools::find("every_set_of_values_renders_to_valid_manifests")? else {
        return Ok(());
    };
    for (name, values) in value_sets() {
        let lint = ["lint", "--strict", &chart(), "--values", "-"];
        let lint = tools.run("helm", &lint, &values.to_string())?;
        ensure!(lint.content, "{name}: {}", lint.said);
        let rendered = tools.render(&values)?;
        let valid = tools.validate(&rendered)?;
        ensure!(valid.content, "{name}: {}", valid.said);
        let passed = valid.said.matches(" passed for resource ").count();
        assert_eq!(
            passed,
            documents(&rendered)?.len(),
            "{name}: {}",
            valid.said
        );
    }
    Ok(())
}

/// The check itself: were it blind, the test above would prove nothing.
#[test]
fn mistakes_in_a_manifest_are_seen() -> Result<()> {
    let Some(tools) = Tools::find("mistakes_in_a_manifest_are_seen")? else {
        return Ok(());
    };
    let rendered = tools.render(&json!({}))?;
    for (right, wrong, named) in [
        ("  replicas: 2", "  replicas: two", "replicas"),
        ("  replicas: 2", "  replicas: 2\n  replica: 2", "replica"),
        ("periodSeconds: 10", "periodSecond: 10", "periodSecond"),
        ("runAsNonRoot: true", "runAsNonRoot: [yes]", "runAsNonRoot"),
    ] {
        ensure!(rendered.contains(right), "{right} is gone from {rendered}");
        let verdict = tools.validate(&rendered.replacen(right, wrong, 1))?;
        ensure!(!verdict.content, "{wrong} was accepted");
        ensure!(verdict.said.contains(named), "{wrong}: {}", verdict.said);
    }
    Ok(())
}

#[test]
fn programs_read_every_flag_and_variable_of_the_chart() -> Result<()> {
    let Some(tools) = Tools::find("programs_read_every_flag_and_variable_of_the_chart")? else {
        return Ok(());
    };
    let reads = ["coordinator", "worker"].map(|name| Ok((name, Reads::of(name)?)));
    let reads = reads.into_iter().collect::<Result<BTreeMap<_, _>>>()?;
    for (name, values) in value_sets() {
        for workload in workloads(&tools.render(&values)?)? {
            let container = container(&workload)?;
            let program = text(container, "/name")?;
            let reads = reads.get(program).context("a program of ours")?;
            ensure!(
                container.get("command").is_none(),
                "the image's entry point"
            );
            for argument in list(container, "/args") {
                reads
                    .argument(argument.as_str().context("a text")?)
                    .context(name)?;
            }
            let variables = variables(container);
            for variable in variables.keys() {
                // One may be there for others that are made of it.
                let used = format!("$({variable})");
                if !variables.values().any(|value| value.contains(&used)) {
                    reads.variable(variable).context(name)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn pods_are_hardened_and_have_time_to_drain() -> Result<()> {
    let Some(tools) = Tools::find("pods_are_hardened_and_have_time_to_drain")? else {
        return Ok(());
    };
    let slow = json!({"coordinator": {"drainMs": 60_001}, "worker": {"drainMs": 900_001}});
    for values in [json!({}), slow] {
        for workload in workloads(&tools.render(&values)?)? {
            let pod = &workload["spec"]["template"]["spec"];
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
            assert_eq!(
                pod["securityContext"]["seccompProfile"]["type"],
                "RuntimeDefault"
            );
            assert_eq!(pod["automountServiceAccountToken"], false);
            let container = container(&workload)?;
            let security = &container["securityContext"];
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
            let variables = variables(container);
            let drain_ms = match text(container, "/name")? {
                // Three parts of an orderly end may take that long each.
                "coordinator" => 3 * variables["TRAINYARD_DRAIN_MS"].parse::<u64>()?,
                _ => variables["TRAINYARD_DRAIN_GRACE_MS"].parse::<u64>()?,
            };
            let grace_s = pod["terminationGracePeriodSeconds"].as_u64();
            let grace_s = grace_s.context("no grace period")?;
            assert!(grace_s * 1000 > drain_ms, "{grace_s} s, {drain_ms} ms");
        }
    }
    Ok(())
}

/// The port after the last colon of the flag's or the variable's address.
fn listens_on(container: &Value, flag: &str) -> Result<u64> {
    let mut arguments = list(container, "/args").iter().filter_map(Value::as_str);
    let address = arguments.find_map(|argument| argument.strip_prefix(flag));
    let port = address.and_then(|address| address.rsplit(':').next());
    Ok(port.with_context(|| format!("no {flag}"))?.parse()?)
}

#[test]
fn probes_and_services_meet_the_ports_that_are_listened_on() -> Result<()> {
    let Some(tools) = Tools::find("probes_and_services_meet_the_ports_that_are_listened_on")?
    else {
        return Ok(());
    };
    let values = json!({"coordinator": {"port": 7999}, "worker": {"healthPort": 7998}});
    let rendered = tools.render(&values)?;
    let workloads = workloads(&rendered)?;
    for workload in &workloads {
        let container = container(workload)?;
        let (flag, services): (_, &[&str]) = match text(container, "/name")? {
            "coordinator" => ("--listen=", &[""]),
            _ => ("--health-bind=", &["", "trainyard.v1.WorkerService"]),
        };
        let port = listens_on(container, flag)?;
        assert_eq!(container["ports"][0]["containerPort"], port);
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let grpc = &container[probe]["grpc"];
            assert_eq!(grpc["port"], port, "{probe}");
            let service = grpc["service"].as_str().unwrap_or_default();
            ensure!(services.contains(&service), "{probe} asks for {service}");
        }
    }
    let all = documents(&rendered)?;
    let find = |kind: &str, name: &str| {
        all.iter()
            .find(|document| document["kind"] == kind && document["metadata"]["name"] == name)
            .with_context(|| format!("no {kind} {name}"))
    };
    for workload in &workloads {
        let name = text(workload, "/metadata/name")?;
        let labels = &workload["spec"]["template"]["metadata"]["labels"];
        let budget = find("PodDisruptionBudget", name)?;
        for selector in [
            &workload["spec"]["selector"]["matchLabels"],
            &budget["spec"]["selector"]["matchLabels"],
        ] {
            let selector = selector.as_object().context("no selector")?;
            ensure!(selector.iter().all(|(key, value)| &labels[key] == value));
        }
        if workload["kind"] == "StatefulSet" {
            let replicas = workload["spec"]["replicas"].as_u64().context("replicas")?;
            let service = text(workload, "/spec/serviceName")?;
            assert_eq!(find("Service", service)?["spec"]["ports"][0]["port"], 7999);
            let expected: Vec<String> = (0..replicas)
                .map(|i| format!("http://{name}-{i}.{service}.ml.svc:7999"))
                .collect();
            let advertised = variables(container(workload)?)["TRAINYARD_ADVERTISE"];
            assert_eq!(advertised, format!("$(POD_NAME).{service}.ml.svc:7999"));
            let workers = workloads
                .iter()
                .filter(|other| other["kind"] == "Deployment");
            for worker in workers {
                let given = variables(container(worker)?)["TRAINYARD_COORDINATOR"];
                assert_eq!(given, expected.join(","), "every coordinator's address");
            }
        }
    }
    Ok(())
}

/// Another value than the default, for those that cannot be changed blindly: an empty one says
/// nothing of what may stand there, and some are words.
fn other(path: &str) -> Option<Value> {
    let last = path.rsplit('/').next().unwrap_or(path);
    Some(match last {
        "registry" => json!("registry.example.com"),
        "tag" | "name" | "runtimeClassName" | "priorityClassName" | "storageClass" => {
            json!("other")
        }
        "pullPolicy" => json!("Always"),
        "programs" => json!("allow"),
        "passEnvironment" => json!(["A", "B_*"]),
        "pullSecrets" => json!(["other"]),
        "endpoints" => json!(["http://other:2379"]),
        "prefix" => json!("/other/"),
        "seriesUrl" => json!("s3://other"),
        "secretName" | "user" | "passwordKey" => json!("other"),
        "url" => json!("s3://other"),
        "cpu" if path.starts_with("/pools") => json!({"replicas": 7}),
        "cpu" | "memory" | "size" | "scratchSize" => json!("7"),
        "nodeSelector" | "podAnnotations" | "annotations" => json!({"a": "b"}),
        "affinity" => json!({"nodeAffinity": {}}),
        "tolerations" => json!([{"operator": "Exists"}]),
        "extraEnv" => json!([{"name": "A", "value": "b"}]),
        "extraVolumes" => json!([{"name": "a", "emptyDir": {}}]),
        "extraVolumeMounts" => json!([{"name": "a", "mountPath": "/a"}]),
        _ => return None,
    })
}

/// Every value that is not a mapping with something in it, by its path.
fn leaves(value: &Value, path: String, into: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                leaves(value, format!("{path}/{name}"), into);
            }
        }
        leaf => into.push((path, leaf.clone())),
    }
}

/// `value` at `path` within otherwise empty mappings.
fn nested(path: &str, value: Value) -> Value {
    path.rsplit('/')
        .filter(|name| !name.is_empty())
        .fold(value, |inner, name| {
            Value::Object(Map::from_iter([(name.to_owned(), inner)]))
        })
}

/// Lays mappings over mappings, as helm does.
fn lay_over(base: &mut Value, top: Value) {
    match (base, top) {
        (Value::Object(base), Value::Object(top)) => {
            for (name, value) in top {
                lay_over(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, top) => *base = top,
    }
}

fn defaults() -> Result<Value> {
    let path = repository().join("deploy/helm/trainyard/values.yaml");
    let all = documents(&std::fs::read_to_string(path)?)?;
    all.into_iter().next().context("values.yaml is empty")
}

#[test]
fn every_value_changes_what_is_rendered() -> Result<()> {
    let Some(tools) = Tools::find("every_value_changes_what_is_rendered")? else {
        return Ok(());
    };
    let mut all = Vec::new();
    leaves(&defaults()?, String::new(), &mut all);
    assert!(all.len() > 40, "{all:?}");
    for (path, value) in all {
        let changed = match (other(&path), &value) {
            (Some(changed), _) => changed,
            (None, Value::Bool(set)) => json!(!set),
            (None, Value::Number(number)) => json!(number.as_u64().context("a count")? + 1),
            (None, Value::String(text)) if !text.is_empty() => json!(format!("{text}-other")),
            (None, _) => anyhow::bail!("{path}: say in `other` what may stand there"),
        };
        // Some are of use only beside others.
        let mut values = match path.as_str() {
            path if path.starts_with("/coordinator/persistence") => embedded(),
            path if path.starts_with("/etcd/auth") && !path.ends_with("secretName") => {
                json!({"etcd": {"auth": {"secretName": "etcd"}}})
            }
            _ => json!({}),
        };
        let unchanged = tools.render(&values)?;
        lay_over(&mut values, nested(&path, changed.clone()));
        let rendered = tools.render(&values)?;
        ensure!(rendered != unchanged, "{path}: {changed} changes nothing");
    }
    Ok(())
}

#[test]
fn values_that_mean_nothing_are_refused_by_name() -> Result<()> {
    let Some(tools) = Tools::find("values_that_mean_nothing_are_refused_by_name")? else {
        return Ok(());
    };
    for (values, named) in [
        (json!({"workers": 3}), "workers"),
        (json!({"worker": {"replica": 3}}), "replica"),
        (json!({"pools": {"gpu": {"gpu": 1}}}), "gpu"),
        (json!({"pools": {"GPU": {}}}), "GPU"),
        (json!({"coordinator": {"port": 70_000}}), "port"),
        (json!({"worker": {"slots": 0}}), "slots"),
        (json!({"etcd": {"endpoints": []}}), "coordinator.replicas"),
        (json!({"etcd": {"endpoints": ["etcd:2379"]}}), "endpoints"),
        (json!({"worker": {"maxUnavailable": 0}}), "maxUnavailable"),
        (json!({"storage": {"url": "memory://a"}}), "url"),
        (
            json!({"storage": {"environment": {"AWS_ALLOW_HTTP": true}}}),
            "AWS_ALLOW_HTTP",
        ),
    ] {
        let verdict = tools.template(&values)?;
        ensure!(!verdict.content, "{values} was accepted");
        ensure!(verdict.said.contains(named), "{values}: {}", verdict.said);
    }
    Ok(())
}
