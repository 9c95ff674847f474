//! Groups over HTTP.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use roost_proto::tier::{Answer, Call};
use roost_proto::v1::group_command::{Command, Create, Members};
use roost_proto::v1::{self, server_frame};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer::Refusal;
use super::caller::Caller;
use super::calls::defect;
use super::contract::{self, Contract, respond};
use super::messages::bad_query;
use super::openapi;
use super::routes::Shared;
use crate::conn::Identity;

/// The groups of a user.
#[derive(Serialize, ToSchema)]
pub(super) struct Groups {
    /// By rising number.
    #[schema(schema_with = openapi::groups)]
    groups: Vec<v1::GroupInfo>,
    /// There are more past the last of them.
    more: bool,
}

/// Where in the list of groups.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct GroupsQuery {
    /// Groups whose number is above this one; left out: from the first
    #[param(value_type = Option<u64>, minimum = 0)]
    after: Option<String>,
}

/// What is changed of a group.
#[derive(Deserialize, ToSchema)]
pub(super) struct GroupChange {
    /// Its new name.
    name: String,
}

/// Asks for a change of a group; its answer is the group as it is then.
async fn command(
    shared: &Shared,
    who: Identity,
    group: u64,
    command: Command,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let command = v1::GroupCommand { group, command: Some(command) };
    match shared.calls()?.frame(who, command).await? {
        Some(server_frame::Body::Group(info)) => Ok(respond(status, &*info)),
        _ => Err(defect()),
    }
}

/// Makes a group; the caller is its first admin.
#[utoipa::path(post, path = "/v1/groups", tag = "groups", security(("token" = [])),
    request_body(content = ref("#/components/schemas/GroupCommand.Create"),
        example = json!({ "name": "friends", "member": ["1002"] })),
    responses(
        (status = 201, description = "The new group", body = ref("#/components/schemas/GroupInfo")),
        (status = 404, response = Refusal)))]
pub(super) async fn create(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    Contract(create, _room): Contract<Create>,
) -> Result<Response, Refusal> {
    command(&shared, who, 0, create.into(), StatusCode::CREATED).await
}

/// Lists the groups the caller is a member of, a page of some 256 KiB at a time.
#[utoipa::path(get, path = "/v1/groups", tag = "groups", security(("token" = [])), params(GroupsQuery),
    responses((status = 200, description = "Groups with all their members, perhaps none; more of them where `more` says so", body = Groups)))]
pub(super) async fn list(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    query: Result<Query<GroupsQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query.map_err(|_| bad_query())?;
    let after = query.after.as_deref().map(|text| contract::number("after", text)).transpose()?;
    let call = Call::Groups { after: after.unwrap_or(0) };
    let Answer::Groups { groups, more } = shared.calls()?.call(who, call).await? else {
        return Err(defect());
    };
    Ok(respond(StatusCode::OK, &Groups { groups, more }))
}

/// A group as it is, for its members.
#[utoipa::path(get, path = "/v1/groups/{group}", tag = "groups", security(("token" = [])),
    params(("group" = u64, Path, description = "The group's number", minimum = 1)),
    responses(
        (status = 200, description = "The group", body = ref("#/components/schemas/GroupInfo")),
        (status = 404, response = Refusal)))]
pub(super) async fn info(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    Path(group): Path<String>,
) -> Result<Response, Refusal> {
    command(&shared, who, contract::number("group", &group)?, Command::Info(true), StatusCode::OK).await
}

/// Renames a group; for admins.
#[utoipa::path(patch, path = "/v1/groups/{group}", tag = "groups", security(("token" = [])),
    params(("group" = u64, Path, description = "The group's number", minimum = 1)),
    request_body(content = GroupChange, example = json!({ "name": "old friends" })),
    responses(
        (status = 200, description = "The group", body = ref("#/components/schemas/GroupInfo")),
        (status = 403, response = Refusal),
        (status = 404, response = Refusal)))]
pub(super) async fn rename(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    Path(group): Path<String>,
    Contract(change, _room): Contract<GroupChange>,
) -> Result<Response, Refusal> {
    let group = contract::number("group", &group)?;
    command(&shared, who, group, Command::Rename(change.name), StatusCode::OK).await
}

/// Adds members; for admins.
#[utoipa::path(post, path = "/v1/groups/{group}/members", tag = "groups", security(("token" = [])),
    params(("group" = u64, Path, description = "The group's number", minimum = 1)),
    request_body(content = ref("#/components/schemas/GroupCommand.Members"), example = json!({ "user": ["1003"] })),
    responses(
        (status = 200, description = "The group", body = ref("#/components/schemas/GroupInfo")),
        (status = 403, response = Refusal),
        (status = 404, response = Refusal)))]
pub(super) async fn add(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    Path(group): Path<String>,
    Contract(members, _room): Contract<Members>,
) -> Result<Response, Refusal> {
    let group = contract::number("group", &group)?;
    command(&shared, who, group, Command::Add(members.into()), StatusCode::OK).await
}

/// Removes members; for admins, and for oneself.
#[utoipa::path(delete, path = "/v1/groups/{group}/members", tag = "groups", security(("token" = [])),
    params(("group" = u64, Path, description = "The group's number", minimum = 1)),
    request_body(content = ref("#/components/schemas/GroupCommand.Members"), example = json!({ "user": ["1003"] })),
    responses(
        (status = 200, description = "The group", body = ref("#/components/schemas/GroupInfo")),
        (status = 403, response = Refusal),
        (status = 404, response = Refusal)))]
pub(super) async fn remove(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    Path(group): Path<String>,
    Contract(members, _room): Contract<Members>,
) -> Result<Response, Refusal> {
    let group = contract::number("group", &group)?;
    command(&shared, who, group, Command::Remove(members.into()), StatusCode::OK).await
}

/// Adds a member; for admins.
#[utoipa::path(put, path = "/v1/groups/{group}/members/{user}", tag = "groups", security(("token" = [])),
    params(
        ("group" = u64, Path, description = "The group's number", minimum = 1),
        ("user" = u64, Path, description = "The member's number", minimum = 1)),
    responses(
        (status = 200, description = "The group", body = ref("#/components/schemas/GroupInfo")),
        (status = 403, response = Refusal),
        (status = 404, response = Refusal)))]
pub(super) async fn add_one(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    Path(path): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let (group, one) = group_and_user(&path)?;
    command(&shared, who, group, Command::Add(one.into()), StatusCode::OK).await
}

/// Removes a member; for admins, and for oneself.
#[utoipa::path(delete, path = "/v1/groups/{group}/members/{user}", tag = "groups", security(("token" = [])),
    params(
        ("group" = u64, Path, description = "The group's number", minimum = 1),
        ("user" = u64, Path, description = "The member's number; one's own to leave", minimum = 1)),
    responses(
        (status = 200, description = "The group", body = ref("#/components/schemas/GroupInfo")),
        (status = 403, response = Refusal),
        (status = 404, response = Refusal)))]
pub(super) async fn remove_one(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    Path(path): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let (group, one) = group_and_user(&path)?;
    command(&shared, who, group, Command::Remove(one.into()), StatusCode::OK).await
}

/// Makes members admins; for admins.
#[utoipa::path(post, path = "/v1/groups/{group}/admins", tag = "groups", security(("token" = [])),
    params(("group" = u64, Path, description = "The group's number", minimum = 1)),
    request_body(content = ref("#/components/schemas/GroupCommand.Members"), example = json!({ "user": ["1002"] })),
    responses(
        (status = 200, description = "The group", body = ref("#/components/schemas/GroupInfo")),
        (status = 403, response = Refusal),
        (status = 404, response = Refusal)))]
pub(super) async fn promote(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    Path(group): Path<String>,
    Contract(members, _room): Contract<Members>,
) -> Result<Response, Refusal> {
    let group = contract::number("group", &group)?;
    command(&shared, who, group, Command::Promote(members.into()), StatusCode::OK).await
}

/// Makes a member an admin; for admins.
#[utoipa::path(put, path = "/v1/groups/{group}/admins/{user}", tag = "groups", security(("token" = [])),
    params(
        ("group" = u64, Path, description = "The group's number", minimum = 1),
        ("user" = u64, Path, description = "The member's number", minimum = 1)),
    responses(
        (status = 200, description = "The group", body = ref("#/components/schemas/GroupInfo")),
        (status = 403, response = Refusal),
        (status = 404, response = Refusal)))]
pub(super) async fn promote_one(
    Caller(who): Caller,
    State(shared): State<Arc<Shared>>,
    Path(path): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let (group, one) = group_and_user(&path)?;
    command(&shared, who, group, Command::Promote(one.into()), StatusCode::OK).await
}

fn group_and_user((group, user): &(String, String)) -> Result<(u64, Members), Refusal> {
    let members = Members { user: vec![contract::user("user", user)?] };
    Ok((contract::number("group", group)?, members))
}
