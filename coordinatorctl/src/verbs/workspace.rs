//! `workspace list`, `show`, `set` and `remove`.

use trainyard_proto::v1;

use crate::exit::{Failure, Outcome};
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::convert;
use crate::view::output::Workspaces;
use crate::view::tables;

/// List workspaces: their weight, their quota and what they use
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {}

/// Show one workspace
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    #[arg(value_name = "NAME")]
    name: String,
}

/// Set a workspace's weight and quota; what is not given stays as it is
///
/// Among workspaces whose jobs have the same priority, free slots go to the one with the smallest share of
/// the cluster for its weight. A quota is the most slots that its jobs may hold at one time.
#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    #[arg(value_name = "NAME")]
    name: String,
    /// Weight of its share; 1 unless set
    #[arg(long, value_name = "W")]
    weight: Option<f64>,
    /// Most cpu slots at one time; 0 holds everything
    #[arg(long, value_name = "N")]
    max_cpu_slots: Option<u32>,
    /// Most cuda slots at one time; 0 holds everything
    #[arg(long, value_name = "N")]
    max_cuda_slots: Option<u32>,
    /// Take both quotas back
    #[arg(long, conflicts_with_all = ["max_cpu_slots", "max_cuda_slots"])]
    no_quota: bool,
}

/// Take back what was set: weight 1, no quota
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    #[arg(value_name = "NAME")]
    name: String,
}

pub(crate) async fn list(global: &Global, _args: ListArgs) -> Outcome {
    let found = session::with(&global.endpoint(), async |session| {
        session.client.workspaces().await
    })
    .await?;
    let workspaces: Vec<_> = found.iter().map(convert::workspace).collect();
    match global.output {
        Format::Text => print::line(&tables::workspaces(&workspaces)),
        Format::Json => print::json(&Workspaces { workspaces }),
    }
}

pub(crate) async fn show(global: &Global, args: ShowArgs) -> Outcome {
    let found = session::with(&global.endpoint(), async |session| {
        session.client.workspaces().await
    })
    .await?;
    let Some(known) = found.iter().find(|known| known.name == args.name) else {
        return Err(Failure::not_found(format!(
            "nothing was set for workspace {}, and none of its jobs is active",
            args.name
        )));
    };
    told(global, known)
}

pub(crate) async fn set(global: &Global, args: SetArgs) -> Outcome {
    let question = v1::SetWorkspaceRequest {
        name: args.name,
        weight: args.weight,
        max_cpu_slots: args.max_cpu_slots,
        max_cuda_slots: args.max_cuda_slots,
        no_quota: args.no_quota,
    };
    let set = session::with(&global.endpoint(), async |session| {
        session.client.set_workspace(question).await
    })
    .await?;
    told(global, &set)
}

pub(crate) async fn remove(global: &Global, args: RemoveArgs) -> Outcome {
    let left = session::with(&global.endpoint(), async |session| {
        session.client.remove_workspace(&args.name).await
    })
    .await?;
    told(global, &left)
}

fn told(global: &Global, workspace: &v1::Workspace) -> Outcome {
    let workspace = convert::workspace(workspace);
    match global.output {
        Format::Text => print::line(&tables::workspaces(std::slice::from_ref(&workspace))),
        Format::Json => print::json(&workspace),
    }
}
