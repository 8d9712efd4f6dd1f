//! Questions about workspaces, and their changes.

use trainyard_proto::v1;

use super::client::{Client, PAGE, pages};
use crate::exit::Outcome;

impl Client {
    /// In the order of their names, page by page.
    pub(crate) async fn workspaces(&self) -> Outcome<Vec<v1::Workspace>> {
        pages(async |page_token| {
            let question = v1::ListWorkspacesRequest {
                page_size: PAGE,
                page_token,
            };
            let answer = self
                .ask(question, async |mut service, question| {
                    service.list_workspaces(question).await
                })
                .await?;
            Ok((answer.workspaces, answer.next_page_token))
        })
        .await
    }

    pub(crate) async fn set_workspace(
        &self,
        question: v1::SetWorkspaceRequest,
    ) -> Outcome<v1::Workspace> {
        let answer = self
            .ask(question, async |mut service, question| {
                service.set_workspace(question).await
            })
            .await?;
        answer
            .workspace
            .ok_or_else(|| self.incomplete("the workspace"))
    }

    pub(crate) async fn remove_workspace(&self, name: &str) -> Outcome<v1::Workspace> {
        let question = v1::RemoveWorkspaceRequest {
            name: name.to_owned(),
        };
        let answer = self
            .ask(question, async |mut service, question| {
                service.remove_workspace(question).await
            })
            .await?;
        answer
            .workspace
            .ok_or_else(|| self.incomplete("the workspace"))
    }
}
